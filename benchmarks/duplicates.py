"""What `--duplicates all` takes and gives: the whole way timed, and its steps in memory and bytes.

    python benchmarks/duplicates.py ways tweets.csv [--rows 12000] [--shard-rows 1000] [--model M]
    python benchmarks/duplicates.py steps [--rows 10_000_000] [--pieces 100] [--memory 512]

`ways` runs `extract` both ways, each time in a process of its own and into a new store, on rows of
which none, and then three in ten, repeat the text of an earlier row. It stops if rows differ.

`steps` has digests that are drawn at random, a share of each piece's from those that all pieces may
have. Each step runs in a process of its own, so that its peak of memory is its own; what such a
process holds before it begins is measured too, and taken off.

What grows with the input, for R different texts, counted in each piece (10 million here, and 1e10
in the last line), P pieces, a share s of R that is in more than one piece, and M bytes of memory
for a range::

    ranges          Q, about 96 R / M               96 bytes a digest, `BYTES_A_DIGEST`
    bytes on disk   16 R + 24 s R + 16 D            digests, takes, and the D < s R / 2 shared texts
    seconds         (a + b) R + c P Q               of one core; divide by the cores that share it
    reads           P Q to compare, 2 P Q later     of 16 R / (P Q) bytes each

where a is of sorting a piece's digests, b of merging and c of opening a file and reading a group.
a, b and c come from two runs: many digests in few ranges, and few digests in many.
"""

from __future__ import annotations

import csv
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
from material import peak_mib

from features import FeatureStore
from features.pieces.duplicates.digests import CELLS, DIGEST, distinct, write_digests
from features.pieces.duplicates.owners import TAKE, read_of_piece, write_owners
from features.pieces.duplicates.ranges import BYTES_A_DIGEST, Range, cut_ranges
from features.spec.checkpoint import DEFAULT_MODEL

_WINDOW = 8192


# A command in a process of its own that says what it has taken.
COMMAND = """
import json, sys, time
from features import extract
started = time.monotonic()
summary = extract(part="1/1", **json.loads(sys.argv[1]))
took = time.monotonic() - started - summary.seconds["load"]
print(json.dumps({"seconds": took, "encoded": summary.encoded}))
"""


@click.group()
def main() -> None:
    """Measure `--duplicates all`."""


@main.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--rows", default=12_000, show_default=True)
@click.option("--shard-rows", default=1000, show_default=True, help="Rows of a piece.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--model", default=DEFAULT_MODEL, show_default=True)
@click.option("--backend", default="torch", show_default=True)
@click.option("--dtype", default="float32", show_default=True)
def ways(table: Path, rows: int, shard_rows: int, rounds: int, **options: str) -> None:
    """Time `extract` both ways, on the texts of TABLE, which has a column `text`."""
    print(
        "| retweets | duplicates | s without loading | tweets/s | texts encoded | time of piece |"
    )
    print("|---|---|---|---|---|---|")
    for share in (0.0, 0.3):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_rows(table, folder / "tweets.csv", rows, share)
            given = {"inputs": str(folder / "tweets.csv"), "shard_rows": shard_rows, **options}
            found = _both_ways(folder, given, rounds)
        piece = statistics.median(one["seconds"] for one in found["piece"])
        for way, runs in found.items():
            seconds = statistics.median(one["seconds"] for one in runs)
            print(
                f"| {share:.0%} | {way} | {seconds:.2f} | {rows / seconds:,.0f} | "
                f"{runs[0]['encoded']:,.0f} | {seconds / piece:.2f} |",
                flush=True,
            )


def write_rows(source: Path, table: Path, rows: int, share: float) -> None:
    """Write different texts, but for a share of rows that repeat the text of any row before."""
    with source.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    draw, written = random.Random(0), []
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        for row in range(rows):
            if written and draw.random() < share:
                written.append(draw.choice(written))
            else:
                written.append(f"{texts[row % len(texts)]} {row}")
            writer.writerow([row, written[-1]])


def _both_ways(folder: Path, given: dict[str, object], rounds: int) -> dict[str, list[Any]]:
    """Run both ways in turn, and compare what rows the stores have."""
    found: dict[str, list[Any]] = {"piece": [], "all": []}
    rows = None
    for _ in range(rounds):
        for way, runs in found.items():
            store = folder / "store"
            command = json.dumps(given | {"output": str(store), "duplicates": way})
            done = subprocess.run(
                [sys.executable, "-c", COMMAND, command], stdout=subprocess.PIPE, check=True
            )
            runs.append(json.loads(done.stdout))
            with FeatureStore(store) as opened:
                these = list(opened.ids()), opened.digests().tolist()
            rows = rows or these
            assert these == rows, f"{way}: other rows"
            shutil.rmtree(store)
    return found


@main.command()
@click.option(
    "--rows", default=10_000_000, show_default=True, help="Different texts, piece by piece."
)
@click.option("--pieces", default=100, show_default=True)
@click.option("--shared", default=0.3, show_default=True, help="Share that is drawn from a pool.")
@click.option("--memory", default=512, show_default=True, help="MiB for a range.")
@click.option("--extrapolate", default=1e10, show_default=True, help="Texts to extrapolate to.")
def steps(rows: int, pieces: int, shared: float, memory: int, extrapolate: float) -> None:
    """Measure the digests of pieces and their owners, step by step."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        digests = [folder / f"digests-{n:05d}" for n in range(pieces)]
        a, _ = _measured("digests", _write_all, digests, rows // pieces, shared)
        ranges: list[Range]
        _, ranges = _measured("ranges", cut_ranges, digests, memory * 2**20)
        takes = [folder / f"takes-{n:05d}" for n in range(len(ranges))]
        given = [folder / f"shared-{n:05d}" for n in range(len(ranges))]
        b, _ = _measured("owners", _find_all, takes, given, ranges, digests)
        _measured("of one piece", _read_one, takes, given)
        # The same with next to no digests in each read: what a read costs by itself.
        few = folder / "few"
        few.mkdir()
        small = [few / f"digests-{n:05d}" for n in range(pieces)]
        _write_all(small, 64, 0)
        many = cut_ranges(small, BYTES_A_DIGEST * pieces)
        c, _ = _measured(
            f"{len(many)} ranges",
            _find_all,
            [few / f"takes-{n}" for n in range(len(many))],
            [few / f"shared-{n}" for n in range(len(many))],
            many,
            small,
        )
        on_disk = sum(file.stat().st_size for file in [*digests, *takes, *given])
    a, b, c = a / rows, b / rows, c / (pieces * len(many))
    print(f"\n{on_disk / rows:.1f} bytes on disk a text; a = {a:.2e}, b = {b:.2e}, c = {c:.2e} s")
    # A range is some cells (`digests`), or a part of one.
    cells = max(1.0, memory * 2**20 // BYTES_A_DIGEST * CELLS // extrapolate)
    n_ranges = max(-(-CELLS // cells), BYTES_A_DIGEST * extrapolate / (memory * 2**20))
    n_pieces = extrapolate / 1e6
    hours = ((a + b) * extrapolate + c * n_pieces * n_ranges) / 3600
    print(
        f"{extrapolate:.0e} texts in {n_pieces:,.0f} pieces: {n_ranges:,.0f} ranges, {hours:.1f} "
        f"hours of one core, {on_disk / rows * extrapolate / 1e9:,.0f} GB on disk"
    )


def _write_all(files: list[Path], rows: int, shared: float) -> None:
    """Write the digests of pieces, from windows in any order, as `extract` has them."""
    pool_size = max(1, int(rows * len(files) * shared / 3))
    for number, file in enumerate(files):
        draw = np.random.default_rng(number)
        own = draw.bytes(16 * (rows - int(rows * shared)))
        # A number of the pool and a hash of it: nothing is kept of those drawn before.
        numbers = draw.integers(0, pool_size, int(rows * shared), np.uint64)
        pool = np.stack([numbers * np.uint64(0x9E3779B97F4A7C15), numbers], axis=1).tobytes()
        data = own + pool
        windows = (
            [data[n : n + 16] for n in range(start, min(start + 16 * _WINDOW, len(data)), 16)]
            for start in range(0, len(data), 16 * _WINDOW)
        )
        write_digests(file, distinct(windows))


def _find_all(takes: list[Path], given: list[Path], ranges: list[Range], files: list[Path]) -> None:
    for one, other, within in zip(takes, given, ranges, strict=True):
        write_owners(one, other, within, files)


def _read_one(takes: list[Path], given: list[Path]) -> None:
    read_of_piece(takes, TAKE, 0)
    read_of_piece(given, DIGEST, 0)


def _measured(name: str, step: Callable[..., object], *arguments: object) -> tuple[float, object]:
    """Run a step in a process of its own; print and give its seconds, and what it returns."""
    with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:
        seconds, before, peak, result = elsewhere.submit(_timed, step, arguments).result()
    print(f"{name}: {seconds:.2f} s, {peak - before:.0f} MiB beyond {before:.0f}", flush=True)
    return seconds, result


def _timed(
    step: Callable[..., object], arguments: tuple[object, ...]
) -> tuple[float, float, float, object]:
    before = peak_mib(resource.getrusage(resource.RUSAGE_SELF))
    start = time.perf_counter()
    result = step(*arguments)
    seconds = time.perf_counter() - start
    return seconds, before, peak_mib(resource.getrusage(resource.RUSAGE_SELF)), result


if __name__ == "__main__":
    sys.exit(main())
