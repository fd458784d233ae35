"""Measure `extract --engine`: workers of this machine and of Ray, tweets a second and memory.

Each row is `frostline extract` in a process of its own, into a new store that is encoded as the
first one was, so nothing is measured twice and all stores must have the same bytes. The rate is
that of the whole command, without the seconds from its start to the first worker that is ready,
which are shown beside it: Ray takes longer to start. One thread for each worker.

    python benchmarks/engines.py tweets.csv --rows 20000
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

RUNS = (("local", 1), ("local", 2), ("ray", 1), ("ray", 2))
# A command in a process of its own that says when its first worker was ready.
COMMAND = """
import json, sys, time
from features import extract
from features.engines import verbs
from features.engines.choice import chosen_engine
started, ready = time.monotonic(), []
name, workers, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
tell = verbs._Crew._tell
def telling(crew, *more):
    if not ready and any(member.ready for member in crew._members):
        ready.append(time.monotonic())
    tell(crew, *more)
verbs._Crew._tell = telling
summary = extract(engine=chosen_engine(name, workers=workers), **options)
ended = time.monotonic()
print(json.dumps({"start": ready[0] - started, "work": ended - ready[0], "rows": summary.rows}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="a CSV file with a column `text`")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--shard-rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "tweets.csv"
        write_rows(arguments.input, table, arguments.rows)
        options = {
            "inputs": str(table),
            "shard_rows": arguments.shard_rows,
            "dtype": arguments.dtype,
            "backend": "torch",
        }
        measure(Path(folder), options, arguments.rounds)


def write_rows(source: Path, table: Path, rows: int) -> None:
    """Write so many different texts, those of the source again and again with a number."""
    with source.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        for row in range(rows):
            writer.writerow([row, f"{texts[row % len(texts)]} {row // len(texts)}"])


def measure(folder: Path, options: dict, rounds: int) -> None:
    """Run each engine so many times, in turn, and print the medians."""
    found: dict[tuple[str, int], list[dict]] = {run: [] for run in RUNS}
    first: tuple[Path, str] | None = None
    for round_ in range(rounds):
        for name, workers in RUNS:
            store = folder / f"{name}-{workers}-{round_}"
            store.mkdir()
            if first is not None:
                shutil.copy(first[0], store)
            found[name, workers].append(run(name, workers, options | {"output": str(store)}))
            digest = digest_of(store)
            if first is None:
                first = folder / "choice.json", digest
                shutil.copy(store / "choice.json", first[0])
            assert digest == first[1], f"{name} {workers}: other bytes"
            shutil.rmtree(store)
    rate = {}
    print("| engine | workers | start s | tweets/s | peak of a worker MiB | peak of all MiB |")
    print("|---|---|---|---|---|---|")
    for (name, workers), runs in found.items():
        rate[name, workers] = statistics.median(one["rows"] / one["work"] for one in runs)
        start, largest, total = (
            statistics.median(one[part] for one in runs) for part in ("start", "largest", "total")
        )
        print(
            f"| {name} | {workers} | {start:.1f} | {rate[name, workers]:,.0f} | "
            f"{largest:,.0f} | {total:,.0f} |"
        )
    for workers in (1, 2):
        lost = 1 - rate["ray", workers] / rate["local", workers]
        print(f"Ray against local, {workers} workers: {lost:.1%} slower")
    for name in ("local", "ray"):
        print(f"two workers against one, {name}: {rate[name, 2] / rate[name, 1]:.2f} times")


def run(name: str, workers: int, options: dict) -> dict:
    """Run a command; give its times, and the peaks of its memory, looked at ten times a second."""
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    root = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-c", COMMAND, name, str(workers), json.dumps(options)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | one_thread | {"PYTHONPATH": root},
    ) as process:
        largest = total = 0.0
        while process.poll() is None:
            sizes = resident(process.pid)
            largest, total = max(largest, *sizes), max(total, sum(sizes))
            time.sleep(0.1)
        assert process.stdout is not None
        facts = json.loads(process.stdout.read())
    return facts | {"largest": largest / 2**20, "total": total / 2**20}


def resident(pid: int) -> list[int]:
    """Give the resident bytes of a process and of all below it."""
    with suppress(psutil.NoSuchProcess):
        own = psutil.Process(pid)
        return [one.memory_info().rss for one in (own, *own.children(recursive=True))]
    return [0]


def digest_of(store: Path) -> str:
    """Give a digest of all files of a store, by their names."""
    digest = hashlib.sha256()
    for path in sorted(one for one in store.rglob("*") if one.is_file()):
        if path.parent.name != "indexes":
            digest.update(str(path.relative_to(store)).encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
