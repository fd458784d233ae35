"""How fast texts become vectors: frostline beside its peers, interleaved rounds of one run.

    python benchmarks/extract.py TWEETS.csv [--limit 2000] [--rounds 5] [--model bert-base]

Same texts, same weights, same pooling (mean over the tokens of the last layer). A round is from
texts to matrix, tokenising included; loading and one pass over all texts to warm up are not counted.
Every contender (`peers.py`) lives in a process of its own and waits there, warm, for its turn; only
one works at a time. Beside them stands what one large matrix product reaches in the same rounds.
The figures are medians. Timings on a busy machine scatter: compare within one run only.

"Useful" work is 2 x the weights of the linear maps inside the layers x real tokens: no attention
scores, no padding.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np
from material import model_folder, peak_mib, read_texts
from peers import REFERENCE, Contender, Place, Unavailable, contenders, make_tokenizer
from safetensors import safe_open
from tables import CLASSES, GEMM_SIZE, Measured, Setting, claims, figures, heading, table

# OpenMP's threads spin for 0.2 s after their work; they must be asleep when the next one starts.
REST = 0.3
# Loaders' bars and warnings would run into the tables.
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
Answer = Callable[[str], Any]


# ---------------------------------------------------------------- in the processes of the workers


def serve(connection: Connection, make: Callable[[], Answer]) -> None:
    """Be a worker: send None or why it can't be, then answer requests until the parent hangs up.

    Requests are strings, answers are what `make()` gives for them; each comes as (value, reason),
    of which one is None.
    """
    # Exporters and loaders warn at length of what is as it must be.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    answer: Answer | None = None
    request = "ready"
    while True:
        try:
            if answer is None:
                answer = make()
                connection.send((None, None))
            else:
                connection.send((answer(request), None))
        except Unavailable as error:
            connection.send((None, str(error)))
        except Exception as error:  # the border to foreign code: any type can come
            text = str(error).strip().splitlines() or [""]
            connection.send((None, f"{type(error).__name__}: {text[0]}"[:200]))
        if answer is None:
            return
        try:
            request = connection.recv()
        except EOFError:
            return


def preparing(contender: Contender, place: Place) -> Answer:
    """Make the files of a contender."""
    contender.check_installed()
    if contender.prepare is not None:
        contender.prepare(place)
    return lambda request: None


def encoding(contender: Contender, place: Place, texts: list[str]) -> Answer:
    """Load a contender and warm it up; it answers `round`, `vectors` and `peak`."""
    encode = contender.build(place)
    vectors = encode(texts)

    def answer(request: str) -> Any:
        nonlocal vectors
        if request == "vectors":
            return vectors
        if request == "peak":
            return peak_mib(resource.getrusage(resource.RUSAGE_SELF))
        start = time.perf_counter()
        vectors = encode(texts)
        return time.perf_counter() - start

    return answer


def multiplying(device: str) -> Answer:
    """Answers `round` with the GFLOP/s of one large product in float32 and in half precision."""
    import torch

    types = {
        "float32": torch.float32,
        "half": torch.float16 if device == "cuda" else torch.bfloat16,
    }
    factors = {
        name: torch.randn(2, GEMM_SIZE, GEMM_SIZE, device=device).to(dtype)
        for name, dtype in types.items()
    }
    # A GPU is done in a fraction of a millisecond, which is no measurement.
    repeats = 50 if device == "cuda" else 1

    def rate(a: torch.Tensor, b: torch.Tensor) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        return repeats * 2 * GEMM_SIZE**3 / (time.perf_counter() - start) / 1e9

    for a, b in factors.values():
        rate(a, b)
    return lambda request: {name: rate(a, b) for name, (a, b) in factors.items()}


def finding(model: str, scratch: Path) -> Answer:
    """Answers with the folder of the model, after making it."""
    folder = model_folder(model, scratch)
    return lambda request: folder


# ---------------------------------------------------------------- in the parent


class Worker:
    """A process that waits for requests; use it as a context manager, or `close` it."""

    def __init__(self, make: Callable[[], Answer]) -> None:
        os.environ |= QUIET
        context = get_context("spawn")  # a child starts empty: what it holds is its own
        self._connection, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there, make), daemon=True)
        self._process.start()
        there.close()
        self._receive()

    def ask(self, request: str) -> Any:
        """Have a request answered; `Unavailable` says why it can't be."""
        self._connection.send(request)
        return self._receive()

    def close(self) -> None:
        """Let it end."""
        self._connection.close()
        self._process.join()

    def _receive(self) -> Any:
        try:
            value, reason = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            reason = f"its process died (exit code {self._process.exitcode})"
        if reason is not None:
            self.close()
            raise Unavailable(reason)
        return value


@dataclass
class Entry(Measured):
    """A contender in this run: its worker, or why there is none, and what was measured."""

    worker: Worker | None = None

    def ask(self, request: str) -> Any:
        """Ask the worker; None if it fails, which ends this entry's part in the run."""
        if self.worker is None:
            return None
        try:
            return self.worker.ask(request)
        except Unavailable as error:
            self.worker, self.reason = None, str(error)
            return None


@click.command()
@click.argument("tweets", type=click.Path(exists=True, path_type=Path))
@click.option("--limit", default=2000, show_default=True, help="Different texts to encode.")
@click.option("--rounds", default=5, show_default=True)
@click.option(
    "--model", default="all-MiniLM-L6-v2", show_default=True,
    help="Or bert-base, with random weights, or a folder.",
)  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--backend", "backends", multiple=True, default=["auto"], help="Of frostline.")
@click.option("--batch-tokens", "budgets", type=int, multiple=True, help="Budgets of frostline.")
@click.option("--only", help="Run the contenders whose names match; the reference runs always.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Store the figures.")
def main(
    tweets: Path, limit: int, rounds: int, model: str, device: str, backends: Sequence[str],
    budgets: Sequence[int], only: str | None, json_file: Path | None,
) -> None:  # fmt: skip
    """Time frostline and its peers on the texts of TWEETS."""
    texts = read_texts(tweets, limit)
    if not texts or rounds < 1:
        raise click.UsageError("it takes at least one text and one round")
    chosen = [
        contender
        for contender in contenders(device, backends, budgets or [None])
        if only is None or contender.name == REFERENCE or re.search(only, contender.name)
    ]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = once(partial(finding, model, Path(scratch)))
            gemm = Worker(partial(multiplying, device))
            entries = [started(c, Place(folder, Path(scratch), device), texts) for c in chosen]
            rates = measure(entries, gemm, rounds)
            compare(entries)
            tokens = sum(len(e.ids) for e in make_tokenizer(folder).encode_batch_fast(texts))
            setting = Setting(model, device, len(texts), tokens, useful_flop(folder), rates)
    except Unavailable as error:  # the model or the device: without them there is no run
        raise click.ClickException(str(error)) from error
    lines = [*heading(setting, tweets, rounds)]
    for precision in CLASSES:
        lines += table(entries, precision, setting)
    lines += claims(entries, setting)
    print("\n".join(lines))
    if json_file is not None:
        json_file.write_text(json.dumps(figures(entries, setting), indent=1) + "\n")


def once(make: Callable[[], Answer]) -> Any:
    """Have something made in a process of its own, and give its answer."""
    worker = Worker(make)
    answer = worker.ask("answer")
    worker.close()
    return answer


def started(contender: Contender, place: Place, texts: list[str]) -> Entry:
    """Prepare, load and warm up a contender."""
    print(f"loading {contender.name} …", flush=True)
    try:
        once(partial(preparing, contender, place))
        return Entry(contender, worker=Worker(partial(encoding, contender, place, texts)))
    except Unavailable as error:
        return Entry(contender, reason=str(error))


def measure(entries: Sequence[Entry], gemm: Worker, rounds: int) -> dict[str, float]:
    """Fill in the seconds of all rounds; give the median GFLOP/s of the large product."""
    rates = []
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds} …", flush=True)
        rates.append(gemm.ask("round"))
        for entry in entries:
            time.sleep(REST)
            seconds = entry.ask("round")
            if seconds is not None:
                entry.seconds.append(seconds)
        time.sleep(REST)
    gemm.close()
    return {name: statistics.median(rate[name] for rate in rates) for name in rates[0]}


def compare(entries: Sequence[Entry]) -> None:
    """Fill in peaks and cosines to the reference, and let the workers end."""
    reference = None
    for entry in entries:
        entry.peak = entry.ask("peak")  # before the vectors are sent, which takes memory too
        vectors = entry.ask("vectors")
        if entry.contender.name == REFERENCE:
            reference = vectors
        if vectors is not None and reference is not None:
            entry.cosine = mean_cosine(vectors, reference)
        if entry.worker is not None:
            entry.worker.close()


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over the rows of the cosine between a's and b's."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(axis=1) / norms))


def useful_flop(folder: Path) -> int:
    """Twice the weights of the linear maps inside the layers: floating-point operations a token."""
    weights = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        weights += sum(
            shape[0] * shape[1]
            for name, shape in shapes.items()
            if len(shape) == 2 and re.search(r"\blayers?\.\d+\.", name)
        )
    return 2 * weights


if __name__ == "__main__":
    main()
