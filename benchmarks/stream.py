"""A head on more vectors than memory may hold: seconds, passes and peak, beside plain reading.

    python benchmarks/stream.py [--rows 1000000] [--columns 768] [--memory 512MiB] [--tol 1e-6]

The vectors are made up, always the same: three clouds in float16, chunked and checksummed as in a
feature file, read once before, so that the disk is left out. Reading, streaming and fitting in
memory run in a process each, as their peaks are their own. "Read" is one pass over all vectors
through HDF5, by one thread; the ratio is the time of the streamed fit over that of reading as often
as it reads.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any, TypeVar

import click
import h5py
import numpy as np
import numpy.typing as npt
from material import peak_mib

from features.base.machine import parse_memory
from pipeline.solver.blocks import Rows
from pipeline.solver.objective import TrainingSet
from pipeline.solver.solve import Problem, prepare, solve

T = TypeVar("T")
CLASSES, C = 3, 0.01
CHUNK_BYTES = 512 * 1024
PIECE_ROWS = 16_384


@dataclass(frozen=True)
class Fitted:
    """What a fit took, and what it found; `reads` counts the passes over the vectors."""

    seconds: float
    reads: int
    peak: float
    gap: float
    coef: npt.NDArray[np.float64]


def make(path: Path, rows: int, columns: int) -> None:
    """Write `x` and `y`."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, columns)) * 0.1
    # Correlated and of unequal sizes, as BERT's columns are.
    mixing = rng.normal(size=(columns, columns)) / np.sqrt(columns)
    mixing *= np.geomspace(0.1, 3, columns)
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        y = rng.integers(CLASSES, size=rows)
        file["y"] = y
        chunk = max(1, CHUNK_BYTES // (2 * columns))
        x = file.create_dataset(
            "x", (rows, columns), np.float16, chunks=(min(chunk, rows), columns), fletcher32=True
        )
        noise = rng.normal(size=(PIECE_ROWS, columns)).astype(np.float32)
        for start in range(0, rows, PIECE_ROWS):
            labels = y[start : start + PIECE_ROWS]
            drawn = np.roll(noise, start // PIECE_ROWS, axis=1)[: len(labels)] + centres[labels]
            x[start : start + PIECE_ROWS] = drawn @ mixing


def read(path: Path) -> float:
    """Seconds of one pass."""
    with h5py.File(path) as file:
        x = file["x"]
        step = x.chunks[0] * 16
        start = time.perf_counter()
        for row in range(0, len(x), step):
            x[row : row + step]
        return time.perf_counter() - start


def fit(path: Path, memory: int, tol: float) -> Fitted:
    """Fit one model."""
    with h5py.File(path) as file:
        y = file["y"][:]
        rows, reads = counted(Rows.of(file["x"]))
        start = time.perf_counter()
        data = prepare(rows, y, n_classes=CLASSES, memory=memory)
        (solution,) = solve(data, [Problem(C, TrainingSet(), tol)])
        seconds = time.perf_counter() - start
    return Fitted(seconds, reads(), peak_mib(getrusage(RUSAGE_SELF)), solution.gap, solution.coef)


def counted(rows: Rows) -> tuple[Rows, Callable[[], int]]:
    """The same rows, and how often they have been gone through."""
    begun: list[None] = []

    def pieces(start: int) -> Iterator[Any]:
        begun.append(None)
        return rows.pieces(start)

    return Rows(rows.shape, rows.dtype, pieces, rows.in_memory), lambda: len(begun)


@click.command()
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--columns", default=768, show_default=True)
@click.option("--memory", default="512MiB", show_default=True)
@click.option("--tol", default=1e-6, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(rows: int, columns: int, memory: str, tol: float, rounds: int) -> None:
    """Print what it took."""
    cap = parse_memory(memory)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "vectors.h5"
        apart(make, path, rows, columns)
        apart(read, path)
        taken = [(apart(read, path), apart(fit, path, cap, tol)) for _ in range(rounds)]
        held = apart(fit, path, 2**62, tol)
    seconds = float(np.median([one for one, _ in taken]))
    streamed = sorted((one for _, one in taken), key=lambda one: one.seconds)[rounds // 2]
    size = rows * columns * 2
    click.echo(f"{rows:,} x {columns} float16, {size / 1e9:.2f} GB, C = {C}, tol {tol:g}")
    click.echo(f"read once      {seconds:7.2f} s   {size / seconds / 1e9:.2f} GB/s")
    for name, one in (("streamed", streamed), ("held in memory", held)):
        click.echo(
            f"{name:<14} {one.seconds:7.2f} s   {one.reads} passes   gap {one.gap:.1e}   "
            f"peak {one.peak:,.0f} MiB"
        )
    ratio = streamed.seconds / (streamed.reads * seconds)
    click.echo(f"streamed / (passes x read once): {ratio:.2f}, at most 1.5 is asked")
    click.echo(f"peak: {streamed.peak:,.0f} MiB; asked: at most {(cap >> 20) + 256:,}")
    furthest = np.abs(streamed.coef - held.coef).max() / np.abs(held.coef).max()
    click.echo(f"largest difference of the weights, relative to the largest: {furthest:.1e}")


def apart(function: Callable[..., T], *arguments: object) -> T:
    """Call in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    main()
