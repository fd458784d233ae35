"""What becomes of stage one when the input grows: duplicates, memory, and the gaps between batches.

    python benchmarks/scale.py duplicates [TWEETS.csv]
    python benchmarks/scale.py memory [--rows 50000 --rows 1000000]
    python benchmarks/scale.py pipeline [TWEETS.csv]

Without a file the texts are made up, always the same. Timings are medians of interleaved rounds;
compare within one run only.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
from material import make_texts, model_folder, peak_mib, read_texts, write_csv

from features import extract
from features.spec.normalize import normalizer

TWEETS = click.argument("tweets", required=False, type=click.Path(exists=True, path_type=Path))
LIMIT = click.option("--limit", default=2000, show_default=True, help="Texts to encode.")
ROUNDS = click.option("--rounds", default=5, show_default=True)
MODEL = click.option("--model", default="all-MiniLM-L6-v2", show_default=True)
DEVICE = click.option("--device", default="auto", show_default=True)


@click.group()
def main() -> None:
    """Measure how `frostline extract` scales."""


@main.command()
@TWEETS
@LIMIT
@ROUNDS
@MODEL
@DEVICE
def duplicates(tweets: Path | None, limit: int, rounds: int, model: str, device: str) -> None:
    """Time a file in which every text stands twice beside one of different texts."""
    texts = _texts(tweets, limit)
    by_length = sorted(texts, key=len)
    # Every other text by length: halves and whole then hold texts of the same lengths.
    twice = [*by_length[::2], *by_length[: len(texts) // 2 * 2 : 2]][: len(texts)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = model_folder(model, folder)
        files = {
            "different": write_csv(folder / "different.csv", texts),
            "half of them": write_csv(folder / "half.csv", twice),
        }

        def run(file: Path) -> float:
            summary = extract(file, folder / "out.h5", model=source, device=device, overwrite=True)
            return summary.seconds["total"] - summary.seconds["load"]

        seconds = _interleaved(
            {name: lambda f=file: run(f) for name, file in files.items()}, rounds
        )
    print(f"\n{len(texts)} rows, {model}, {rounds} rounds\n\n| texts | s |\n|---|---|")
    for name, taken in seconds.items():
        print(f"| {name} | {taken:.2f} |")
    ratio = seconds["half of them"] / seconds["different"]
    print(f"\n{_verdict(ratio <= 0.55)}: {ratio:.3f} of the time, at most 0.55")


@main.command()
@click.option("--rows", multiple=True, default=(50_000, 1_000_000), show_default=True)
@click.option("--model", default="tiny", show_default=True)
@DEVICE
def memory(rows: tuple[int, ...], model: str, device: str) -> None:
    """Compare the peak memory of the command for files of different texts, few and many."""
    peaks: dict[int, float] = {}
    print("| rows | peak, MiB | s |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # What a child holds at its start counts into its peak: everything large is made elsewhere.
        with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:
            source = elsewhere.submit(model_folder, model, folder).result()
            files = {n: elsewhere.submit(_made_csv, folder / f"{n}.csv", n).result() for n in rows}
        for n, file in files.items():
            command = ["extract", str(file), "-o", f"{file}.h5", "--model", str(source)]
            command += ["--pooling", "mean", "--device", device]
            start = time.perf_counter()
            with (folder / "said.txt").open("w+") as said:
                child = subprocess.Popen(
                    [sys.executable, "-m", "pipeline", *command],
                    stdout=said,
                    stderr=said,
                )
                _, status, usage = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
                if child.returncode:
                    said.seek(0)
                    raise click.ClickException(f"frostline {' '.join(command)}:\n{said.read()}")
            peaks[n] = peak_mib(usage)
            print(f"| {n:,} | {peaks[n]:,.0f} | {time.perf_counter() - start:.0f} |", flush=True)
    growth = peaks[max(peaks)] - peaks[min(peaks)]
    print(f"\n{_verdict(growth <= 256)}: it grows by {growth:,.0f} MiB, at most 256")


def _made_csv(path: Path, n: int) -> Path:
    return write_csv(path, make_texts(n))


@main.command()
@TWEETS
@LIMIT
@ROUNDS
@MODEL
@DEVICE
@click.option("--dtype", default="auto", show_default=True)
def pipeline(
    tweets: Path | None, limit: int, rounds: int, model: str, device: str, dtype: str
) -> None:
    """Compare the rate of `extract`, file to file, with that of the forward pass alone."""
    from features import FrozenEncoder

    texts = _texts(tweets, limit)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = model_folder(model, folder)
        file = write_csv(folder / "tweets.csv", texts)
        encoder = FrozenEncoder(source, dtype=dtype, device=device)
        normalised = list(map(normalizer(encoder.spec.normalizer), texts))
        tokens = encoder.tokenize(normalised)

        def end_to_end() -> float:
            summary = extract(
                file, folder / "out.h5", model=source, device=device, dtype=dtype, overwrite=True
            )
            return summary.seconds["total"] - summary.seconds["load"]

        seconds = _interleaved(
            {
                "extract, file to file": end_to_end,
                "forward pass alone": _timed(lambda: encoder.run(tokens)),
                "tokeniser alone": _timed(lambda: encoder.tokenize(normalised)),
            },
            rounds,
        )
    print(f"\n{len(texts)} texts, {sum(tokens.lengths)} tokens, {model}, {encoder.dtype} on "
          f"{encoder.device}, {rounds} rounds\n")  # fmt: skip
    print("| | tweets/s | tokens/s |\n|---|---|---|")
    for name, taken in seconds.items():
        print(f"| {name} | {len(texts) / taken:,.0f} | {sum(tokens.lengths) / taken:,.0f} |")
    share = seconds["forward pass alone"] / seconds["extract, file to file"]
    least = 0.95 if model == "bert-base" else 0.90
    print(f"\n{_verdict(share >= least)}: {share:.3f} of the forward rate, at least {least:.2f}")


def _texts(tweets: Path | None, limit: int) -> list[str]:
    """Texts that are different, and stay so: as they are after normalising, without quotes."""
    if tweets is None:
        return make_texts(limit)
    normalise = normalizer("tweeteval")
    plain = (" ".join(normalise(t).replace('"', "'").split()) for t in read_texts(tweets, limit))
    return list(dict.fromkeys(plain))


def _interleaved(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Run all of them in turn, once to warm up and then `rounds` times; give medians of seconds."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, run in contenders.items():
            seconds = run()
            if round_:
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def _timed(run: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return timed


def _verdict(holds: bool) -> str:
    return "holds" if holds else "falls short"


if __name__ == "__main__":
    main()
