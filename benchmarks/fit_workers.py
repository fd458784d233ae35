"""A head by worker processes beside one by this process: seconds, and that the bytes are the same.

    python benchmarks/fit_workers.py [--rows 1000000] [--columns 384] [--engine local] [--memory M]
                                     [--store FILE]

The store is made up, always the same: three overlapping classes in float16; `--store` keeps it. The
first fit is plain, of one thread; then 1 and 2 workers of one thread each. C is chosen in five
folds, as by default. Each fit runs in a process of its own. "Passes" are those of the choice of C,
which workers share; in "load" and "select" is also what this process does by itself: it cuts folds
and judges each C. "Peak" is this process's memory in MiB, and "B/row" what the fit adds to it for
each row; without workers it holds the vectors too. Ratios are to the plain fit. Two workers need
two cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import click
import numpy as np
from material import peak_mib

from features.store.reader import FeatureStore

CLASSES = 3
_PIECE_ROWS = 2**16
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def make(path: Path, rows: int, columns: int) -> None:
    """Write a store of labelled vectors, all of different texts."""
    from features.spec.encoder_spec import EncoderSpec
    from features.spec.vector_spec import VectorSpec
    from features.store.format import Shard
    from features.store.writer import write_shard

    rng = np.random.default_rng(0)
    y = rng.integers(CLASSES, size=rows).astype(np.int32)
    centres = rng.normal(size=(CLASSES, columns)) * 0.1
    mixing = rng.normal(size=(columns, columns)) / np.sqrt(columns)
    mixing *= np.geomspace(0.1, 3, columns)
    noise = rng.normal(size=(_PIECE_ROWS, columns)).astype(np.float32)

    def vectors(at: slice) -> Any:
        parts = []
        for start in range(at.start - at.start % _PIECE_ROWS, at.stop, _PIECE_ROWS):
            some = slice(max(at.start, start), min(at.stop, start + _PIECE_ROWS))
            drawn = np.roll(noise, start // _PIECE_ROWS, axis=1)[some.start - start :]
            parts.append((drawn[: some.stop - some.start] + centres[y[some]]) @ mixing)
        return np.concatenate(parts).astype(np.float16)

    def rows_of(name: str, at: slice) -> Any:
        n = at.stop - at.start
        if name == "cls":
            return vectors(at)
        if name == "label":
            return y[at]
        if name == "id":
            return np.array([b"%d" % row for row in range(at.start, at.stop)], "S10")
        if name == "digest":
            numbers = np.arange(at.start, at.stop, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            return np.repeat(numbers[:, None], 2, axis=1).view(np.uint8)
        return np.full(n, 5, np.int32) if name == "n_tokens" else np.zeros(n, np.uint8)

    spec = EncoderSpec("made-up", None, "a" * 64, "b" * 64, "c" * 64, 128, "tweeteval/1")
    labels = [f"class {k}" for k in range(CLASSES)]
    shard = Shard(VectorSpec(spec, {"cls": columns}, "float32", "float16"), labels, {})
    write_shard(path, shard, n_rows=rows, id_bytes=10, rows_of=rows_of)


def fit_one(path: str, head: str, workers: int, engine: str, memory: str | None) -> None:
    """Fit in this process, with workers unless there are to be none, and print the seconds."""
    import sklearn.model_selection  # noqa: F401 -- its 60 MiB belong to no row

    from features.engines.choice import chosen_engine
    from pipeline.evaluation import cross_validation
    from pipeline.fit import fit
    from pipeline.head.head import save_head

    passes: list[float] = []
    solve_grid = cross_validation.solve_grid

    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        found = solve_grid(*arguments, **options)
        passes.append(time.perf_counter() - started)
        return found

    cross_validation.solve_grid = timed
    chosen = chosen_engine(engine, workers=workers, gpus_per_worker=0) if workers else None
    before = peak_mib(getrusage(RUSAGE_SELF))
    result = fit(path, memory=memory, engine=chosen)
    save_head(result.head, Path(head))
    peak = peak_mib(getrusage(RUSAGE_SELF))
    of_row = (peak - before) * 2**20 / result.head.metadata["rows"]
    print(json.dumps(result.seconds | {"passes": sum(passes), "peak": peak, "B/row": of_row}))


@click.command()
@click.option("--rows", default=1_000_000)
@click.option("--columns", default=384)
@click.option("--engine", default="local", type=click.Choice(["local", "ray"]))
@click.option("--memory", help="Bytes of vectors that a fit may hold, e.g. 256MiB.")
@click.option("--store", type=click.Path(path_type=Path), help="Made there if it is not there yet.")
def main(rows: int, columns: int, engine: str, memory: str | None, store: Path | None) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = store or Path(folder) / "store.h5"
        if not path.exists():
            make(path, rows, columns)
        with FeatureStore(path) as found:
            print(f"{found.n_rows:,} x {found.views['cls']}, {path.stat().st_size >> 20} MiB")
        columns_ = ("load", "passes", "select", "solve", "total", "peak", "B/row")
        print(f"{'workers':>8} {' '.join(f'{k:>8}' for k in columns_)}  ratio (passes)  head")
        first: tuple[dict[str, float], bytes] | None = None
        for workers in (0, 1, 2):
            head = Path(folder) / f"{workers}.joblib"
            arguments = [str(path), str(head), str(workers), engine, memory or ""]
            done = subprocess.run(
                [sys.executable, __file__, "one", *arguments],
                env=os.environ | _ONE_THREAD,
                stdout=subprocess.PIPE,
                check=True,
            )
            seconds = json.loads(done.stdout)
            written = head.read_bytes()
            plain, same = first = first or (seconds, written)
            figures = " ".join(f"{seconds[k]:8.1f}" for k in columns_)
            ratios = [plain[k] / seconds[k] for k in ("total", "passes")]
            told = "same bytes" if written == same else "DIFFERENT BYTES"
            print(f"{workers or 'none':>8} {figures}  {ratios[0]:5.2f}    {ratios[1]:5.2f}  {told}")
            if written != same:
                sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        _, _, store_, head_, workers_, engine_, memory_ = sys.argv
        fit_one(store_, head_, int(workers_), engine_, memory_ or None)
    else:
        main()
