"""Runs of `extract` that die, fail or lose power at a chosen point, and what must hold afterwards.

A `Scenario` is a row of the table: what is there before, and the run that dies. A `Harness` has the
process that forks those runs (`tests/robustness/crash_runner.py`) and knows how each scenario ends
undisturbed.
"""

from __future__ import annotations

import csv
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from power import Disk

from features import FeatureStore
from features.errors import FrostlineError
from features.store import admission

REPOSITORY = Path(__file__).parents[2]
POOLING = ["cls", "mean"]
N_TWEETS, N_BEFORE = 40, 22


@dataclass(frozen=True)
class Scenario:
    """What is there when the run begins, and what it is asked for.

    Attributes
    ----------
    options : dict
        For `extract`, beside those of all.
    before : dict, optional
        Options of an earlier, finished run over the first `N_BEFORE` tweets; None, there was none.
    killed_at : int, optional
        Number of the operation at which an earlier run of the very same was killed, but for
        rejects.
    output : str
        Its name.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None
    killed_at: int | None = None
    output: str = "out.h5"


SCENARIOS = {
    "new": Scenario(),
    "extended": Scenario(before={}),
    "replaced": Scenario({"overwrite": True}, before={"pooling": ["max"]}),
    "resumed": Scenario(killed_at=9),
    "three shards": Scenario({"shard_rows": 16}, output="out"),
    "shards extended": Scenario({"shard_rows": 16}, before={"shard_rows": 16}, output="out"),
    "shards replaced": Scenario(
        {"shard_rows": 16, "overwrite": True},
        before={"shard_rows": 16, "pooling": ["max"]},
        output="out",
    ),
}


@dataclass(frozen=True)
class Reference:
    """How a scenario goes when nothing happens: files by relative path, and its operations."""

    before: dict[str, bytes]
    after: dict[str, bytes]
    trace: list[tuple[Any, ...]]
    seconds: float
    outputs: list[str]  # feature files among those after

    def n_new(self, files: Mapping[str, bytes]) -> int:
        """How many feature files are finished."""
        return sum(files.get(path) == self.after[path] for path in self.outputs)


class Harness:
    """The process that forks runs, and a folder for them; use it as a context manager."""

    def __init__(self, folder: Path, model: Path) -> None:
        self._options = {
            "model": str(model),
            "pooling": POOLING,
            "dtype": "float32",
            "device": "cpu",
            "backend": "torch",  # other runtimes leave threads behind, and a fork takes none along
            "max_batch_tokens": 40,
        }
        self._folder = folder
        self.case = folder / "case"  # made again for each
        self.tweets = write_tweets(folder / "tweets.csv", N_TWEETS)
        self._fewer = write_tweets(folder / "fewer.csv", N_BEFORE)
        self._references: dict[str, Reference] = {}
        warm = [str(self.tweets), str(folder / "warm.h5"), self._options]
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("crash_runner.py"), json.dumps(warm)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=os.environ
            | {"PYTHONPATH": str(REPOSITORY), "TOKENIZERS_PARALLELISM": "false"}
            | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
        self.threads = self._answer()["threads"]

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def order(self, **order: Any) -> dict[str, Any]:
        """Let the process do something, and give its answer."""
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._answer()

    def run(self, scenario: Scenario, *, plan: Any = None, **more: Any) -> dict[str, Any]:
        """Run a scenario's command on what is in the folder."""
        return self._extract(self.tweets, scenario, scenario.options, plan=plan or {}, **more)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Make the folder hold just these files."""
        shutil.rmtree(self.case, ignore_errors=True)
        self.case.mkdir()
        for name, content in files.items():
            path = self.case / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def files(self) -> dict[str, bytes]:
        """What is in the folder."""
        return {
            str(path.relative_to(self.case)): path.read_bytes()
            for path in sorted(self.case.rglob("*"))
            if path.is_file()
        }

    def reference(self, name: str) -> Reference:
        """Run a scenario undisturbed, once."""
        if name not in self._references:
            scenario = SCENARIOS[name]
            self.put({})
            if scenario.before is not None:
                finished = self._extract(self._fewer, scenario, scenario.before, plan={})
                assert finished["outcome"] == "written", finished
            if scenario.killed_at is not None:
                self.run(scenario, plan={"at": ["rest", scenario.killed_at]})
            before = self.files()
            trace = self._folder / "trace"
            answer = self.run(scenario, trace=str(trace))
            assert answer.get("outcome") in ("written", "extended"), answer
            assert answer["rejected"] == 1, "the rejects are one of the files to compare"
            after = self.files()
            root = f"{self.case}/"
            operations = [tuple(_relative(part, root) for part in op) for op in _load(trace)]
            self._references[name] = Reference(
                before, after, operations, answer["seconds"], list(finals(name, after))
            )
        return self._references[name]

    def check_seen(self, name: str) -> None:
        """What a reader finds at the final name is what was there or what will be, whole."""
        reference, files = self.reference(name), finals(name, self.files())
        before, after = (finals(name, state) for state in (reference.before, reference.after))
        for path, content in files.items():
            assert content in (before.get(path), after.get(path)), f"{path} is neither old nor new"
            admission.vouch(self.case / path)
        if reference.outputs == [SCENARIOS[name].output]:  # a folder is emptied by --overwrite
            assert files or not before, "what was there is gone"
        if files not in (before, after):
            with pytest.raises(FrostlineError):
                FeatureStore(self.case / SCENARIOS[name].output)

    def check_continues(self, name: str, kept: int | None = None) -> dict[str, Any]:
        """The same command ends as if nothing had happened, and uses what is `kept`."""
        in_journal = kept_in(self.files().get(journal_name(name), b""))
        n_new = self.reference(name).n_new(self.files())
        assert kept is None or in_journal == kept, "vectors that were written are lost"
        answer = self.run(SCENARIOS[name])
        assert answer["ended"] == 0 and "error" not in answer, answer
        lines = [
            line for line in answer["lines"] if " vectors of a run that was interrupted" in line
        ]
        assert [line.split()[0] for line in lines] == ([f"{in_journal:,}"] if in_journal else []), (
            answer
        )
        if n_new == 0:  # else some of them are in a shard already
            assert answer["resumed"] == in_journal, answer
        self.check_finished(name)
        return answer

    def check_finished(self, name: str) -> None:
        """Every file is that of the undisturbed run, and there is no other."""
        found, after = self.files(), self.reference(name).after
        assert sorted(found) == sorted(after)
        assert [file for file in after if found[file] != after[file]] == []
        assert not list(self.case.glob(".*")), "scratch is left"

    def jobs(
        self,
        inputs: Sequence[Path],
        parts: Sequence[str],
        delays: Sequence[float | None],
        plan: Any = None,
        duplicates: str = "piece",
    ) -> list[dict[str, Any]]:
        """Let jobs that each make a part run at once; one that has a delay is killed after it."""
        options = {"shard_rows": 8, "allow_rejects": True, "duplicates": duplicates}
        orders = [
            {
                "inputs": [str(path) for path in inputs],
                "output": str(self.case / "store"),
                "options": self._options | options | {"part": part},
                "plan": plan or {},
            }
            for part in parts
        ]
        answer: list[dict[str, Any]] = self.order(do="jobs", orders=orders, delays=delays)["jobs"]
        return answer

    def read_beside(self, **more: Any) -> dict[str, Any]:
        """Let four readers open a store that another process replaces again and again."""
        writers = [
            self._options | {"overwrite": True, "pooling": pooling}
            for pooling in (["cls", "mean"], ["max"])
        ]
        order = {"inputs": str(self.tweets), "output": str(self.case / "out.h5")}
        return self.order(do="beside", **order, writers=writers, readers=4, **more)

    def _extract(
        self, tweets: Path, scenario: Scenario, options: Mapping[str, Any], **more: Any
    ) -> dict[str, Any]:
        output = str(self.case / scenario.output)
        options = self._options | dict(options)
        return self.order(do="run", inputs=str(tweets), output=output, options=options, **more)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that forks has died; see what it said"
        answer: dict[str, Any] = json.loads(line)
        return answer


def write_tweets(path: Path, n: int) -> Path:
    """Some texts come again in other windows, and one row is rejected."""
    from architectures import WORDS

    rng = random.Random(5)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(n - 8)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for i in range(n):
            row = [f"t{i}", texts[i % len(texts)], "good" if i % 3 else "bad"]
            writer.writerow([*row, "one cell too many"] if i == 17 else row)
    return path


def finals(name: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files that a reader of the output would read."""
    output = SCENARIOS[name].output
    return {
        path: content
        for path, content in files.items()
        if path == output or (path.startswith(f"{output}/") and not path.startswith(f"{output}/."))
    }


def journal_name(name: str) -> str:
    """Where the journal of a scenario is; written down here, so that a change is noticed."""
    return f".{SCENARIOS[name].output}.journal"


def rejects_name(name: str) -> str:
    """Where the rejects of a scenario are."""
    return f"{SCENARIOS[name].output}.rejects.jsonl"


def kept_in(journal: bytes) -> int:
    """Count the vectors of the complete records in a journal, without the code under test."""
    kept, start = 0, 128
    while start + 16 <= len(journal):
        crc, kind, length = struct.unpack_from("<IIQ", journal, start)
        record = journal[start + 4 : start + 16 + length]
        if len(record) != 12 + length or zlib.crc32(record) != crc:
            break
        kept += struct.unpack_from("<I", record, 12)[0] if kind == 2 else 0
        start += 16 + length
    return kept


def disk_after(reference: Reference, n: int) -> Disk:
    """The disk when the first `n` operations are done."""
    disk = Disk(reference.before)
    for operation in reference.trace[:n]:
        disk.do(*operation)
    return disk


def _load(path: Path) -> list[tuple[Any, ...]]:
    operations: list[tuple[Any, ...]] = pickle.loads(path.read_bytes())
    return operations


def _relative(part: Any, root: str) -> Any:
    """Paths in the folder, as they are named in `Harness.files`."""
    if isinstance(part, tuple):
        return part[0], _relative(part[1], root)
    if isinstance(part, str) and f"{part}/" == root:
        return "."
    return part.removeprefix(root) if isinstance(part, str) else part
