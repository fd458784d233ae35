"""How fast texts become vectors: frostline beside its peers, interleaved rounds of one run.

    python benchmarks/extract.py TWEETS.csv [--limit 2000] [--rounds 5] [--model bert-base]

Same texts, same weights, same pooling (mean over the tokens of the last layer). A round is from
texts to matrix, tokenising included; loading and one pass over all texts to warm up are not
counted. Every contender (`peers.py`) lives in a process of its own and waits there, warm, for its
turn; only one works at a time. One that does not answer in `--limit-seconds` is ended, and the
others go on: where a library has no kernel for this processor, a product can take thousands of
times as long. Beside them stands what one large matrix product reaches in the same rounds. The
figures are medians. Timings on a busy machine scatter: compare within one run only.

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
from contextlib import suppress
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
from tables import CLASSES, GEMM_SIZE, Measured, Setting, chosen, claims, figures, heading, table

# OpenMP's threads spin for 0.2 s after their work; they must be asleep when the next one starts.
REST = 0.3
# Seconds in which a process that was told to end must have ended.
ENDING = 5.0
# Seconds in which a model must be found, or made.
MAKING_MODEL = 120.0
# Seconds: a large product that would take longer is left out of the rounds.
LONGEST_PRODUCT = 20.0
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
            text = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
            # OpenVINO says where in its source it was, before it says what is wrong.
            said = next((line for line in text if not line.endswith(":")), text[0])
            connection.send((None, f"{type(error).__name__}: {said}"[:200]))
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
    """Load a contender and warm it up; it answers `round`, `vectors`, `chosen` and `peak`."""
    built = contender.build(place)
    encode = built.encode
    vectors = encode(texts)

    def answer(request: str) -> Any:
        nonlocal vectors
        if request == "vectors":
            return vectors
        if request == "chosen":
            return built.chosen
        if request == "peak":
            return peak_mib(resource.getrusage(resource.RUSAGE_SELF))
        start = time.perf_counter()
        vectors = encode(texts)
        return time.perf_counter() - start

    return answer


def multiplying(device: str, precision: str) -> Answer:
    """Answers `round` with the GFLOP/s of a large product, in `float32` or `half` precision."""
    import torch

    half = torch.float16 if device == "cuda" else torch.bfloat16
    dtype = {"float32": torch.float32, "half": half}[precision]
    # A GPU is done in a fraction of a millisecond, which is no measurement.
    repeats = 50 if device == "cuda" else 1
    factors = torch.randn(2, GEMM_SIZE, GEMM_SIZE, device=device).to(dtype)

    def rate(size: int) -> float:
        a, b = (factor[:size, :size].contiguous() for factor in factors)
        start = time.perf_counter()
        for _ in range(repeats):
            torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        return repeats * 2 * size**3 / (time.perf_counter() - start) / 1e9

    rate(GEMM_SIZE // 8)  # kernels are generated when they are first needed
    seconds = 2 * GEMM_SIZE**3 / rate(GEMM_SIZE // 8) / 1e9
    if seconds > LONGEST_PRODUCT:
        raise Unavailable(f"it would take {seconds:,.0f} s")
    rate(GEMM_SIZE)
    return lambda request: rate(GEMM_SIZE)


def finding(model: str, scratch: Path) -> Answer:
    """Answers with the folder of the model, after making it."""
    folder = model_folder(model, scratch)
    return lambda request: folder


# ---------------------------------------------------------------- in the parent


class Worker:
    """A process that waits for requests; it is ended where it takes too long.

    Parameters
    ----------
    make : callable
        Called in the process, see `serve`.
    limit : float
        Seconds in which an answer must come.
    used : float
        How many of them were used up before, of those in which `make` must be done.
    """

    def __init__(self, make: Callable[[], Answer], limit: float, used: float = 0.0) -> None:
        os.environ |= QUIET
        self._limit = limit
        context = get_context("spawn")  # a child starts empty: what it holds is its own
        self._connection, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there, make), daemon=True)
        self._process.start()
        there.close()
        self._receive(limit - used, limit)

    def ask(self, request: str, limit: float | None = None) -> Any:
        """Have a request answered; `Unavailable` says why it can't be, which ends the process."""
        with suppress(ConnectionError):  # `_receive` finds out what became of it
            self._connection.send(request)
        seconds = self._limit if limit is None else limit
        return self._receive(seconds, seconds)

    def close(self) -> None:
        """Let it end, and see to it that it does."""
        self._connection.close()
        self._process.join(ENDING)
        self._end()

    def _end(self) -> None:
        """End what is still at work: kindly first."""
        for stop in (self._process.terminate, self._process.kill):
            if self._process.is_alive():
                stop()
                self._process.join(ENDING)

    def _receive(self, seconds: float, limit: float) -> Any:
        """Wait for so many seconds, which are what is left of a limit."""
        try:
            if self._connection.poll(max(0.0, seconds)):
                value, reason = self._connection.recv()
            else:
                value, reason = None, f"not done in {limit:.3g} s"
                self._end()
        except (EOFError, ConnectionError):
            self._process.join(ENDING)
            value, reason = None, f"its process died (exit code {self._process.exitcode})"
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
@click.option(
    "--limit-seconds", "limit_seconds", type=click.FloatRange(0, min_open=True), default=120.0,
    show_default=True, help="For a contender to get ready, warm-up included, and for each round.",
)  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Store the figures.")
def main(
    tweets: Path, limit: int, rounds: int, model: str, device: str, backends: Sequence[str],
    budgets: Sequence[int], only: str | None, limit_seconds: float, json_file: Path | None,
) -> None:  # fmt: skip
    """Time frostline and its peers on the texts of TWEETS."""
    texts = read_texts(tweets, limit)
    if not texts or rounds < 1:
        raise click.UsageError("it takes at least one text and one round")
    wanted = [
        contender
        for contender in contenders(device, backends, budgets or [None])
        if only is None or contender.name == REFERENCE or re.search(only, contender.name)
    ]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = once(partial(finding, model, Path(scratch)), MAKING_MODEL)
            products = started_products(device, limit_seconds)
            place = Place(folder, Path(scratch), device)
            entries = [started(contender, place, texts, limit_seconds) for contender in wanted]
            rates = measure(entries, products, rounds)
            compare(entries)
            tokens = sum(len(e.ids) for e in make_tokenizer(folder).encode_batch_fast(texts))
            setting = Setting(model, device, len(texts), tokens, useful_flop(folder), rates)
    except Unavailable as error:  # the model: without it there is no run
        raise click.ClickException(str(error)) from error
    lines = [*heading(setting, tweets, rounds)]
    for precision in CLASSES:
        lines += table(entries, precision, setting)
    lines += [*chosen(entries), *claims(entries)]
    print("\n".join(lines))
    if json_file is not None:
        json_file.write_text(json.dumps(figures(entries, setting), indent=1) + "\n")


def once(make: Callable[[], Answer], limit: float) -> Any:
    """Have something made in a process of its own, and give its answer."""
    worker = Worker(make, limit)
    answer = worker.ask("answer")
    worker.close()
    return answer


def started(contender: Contender, place: Place, texts: list[str], limit: float) -> Entry:
    """Prepare, load and warm up a contender, all of it in so many seconds."""
    print(f"loading {contender.name} …", flush=True)
    entry = Entry(contender)
    begun = time.perf_counter()
    try:
        once(partial(preparing, contender, place), limit)
        used = time.perf_counter() - begun
        entry.worker = Worker(partial(encoding, contender, place, texts), limit, used)
    except Unavailable as error:
        entry.reason = str(error)
    entry.chosen = entry.ask("chosen")
    return entry


def started_products(device: str, limit: float) -> dict[str, Worker]:
    """Get ready for the large products; some processors have no kernel for half precision."""
    workers: dict[str, Worker] = {}
    for precision in ("float32", "half"):
        try:
            workers[precision] = Worker(partial(multiplying, device, precision), limit)
        except Unavailable as error:
            print(f"no large product in {precision}: {error}", flush=True)
    return workers


def measure(entries: Sequence[Entry], products: dict[str, Worker], rounds: int) -> dict[str, float]:
    """Fill in the seconds of all rounds; give the median GFLOP/s of the large products."""
    rates: dict[str, list[float]] = {precision: [] for precision in products}
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds} …", flush=True)
        for precision, worker in list(products.items()):
            try:
                rates[precision].append(worker.ask("round"))
            except Unavailable as error:
                print(f"no large product in {precision}: {error}", flush=True)
                del products[precision]
        for entry in entries:
            time.sleep(REST)
            seconds = entry.ask("round")
            if seconds is not None:
                entry.seconds.append(seconds)
        time.sleep(REST)
    for worker in products.values():
        worker.close()
    return {precision: statistics.median(found) for precision, found in rates.items() if found}


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
