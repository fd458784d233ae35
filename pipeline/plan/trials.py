"""Try how fast this machine writes a feature file, and how fast it multiplies matrices. No torch.

In go vectors, out come rates. What is written goes into a temporary folder (`TMPDIR`), and is
removed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base import disk
from features.base.arrays import Floating
from features.errors import CannotContinue, system_reason
from features.spec.vector_spec import VectorSpec
from features.store.format import Shard
from features.store.writer import write_shard

# Bytes of the vectors of a trial file, and models whose weights a pass of a fit multiplies with.
_TRIAL_BYTES, _MODELS = 32 * 2**20, 100
# Seconds that products are repeated for.
_PRODUCT_SECONDS = 0.3


def write_rate(store: VectorSpec, vectors: Mapping[str, Floating]) -> float:
    """Write vectors as a run does, to a journal and a feature file; give the bytes a second.

    Parameters
    ----------
    store : VectorSpec
    vectors : mapping of str to float array (N, D)
        By view; they are repeated until the file is large enough.

    Raises
    ------
    CannotContinue
        There is no room.
    """
    dtype = np.dtype(store.store_dtype)
    ready = {view: np.nan_to_num(matrix).astype(dtype) for view, matrix in vectors.items()}
    n_known = len(next(iter(ready.values())))
    row_bytes = sum(matrix[0].nbytes for matrix in ready.values())
    n_rows = max(1, _TRIAL_BYTES // row_bytes)
    number = np.arange(n_rows)
    columns: dict[str, npt.NDArray[Any]] = {
        "id": number.astype("S"),
        "label": np.full(n_rows, -1, np.int32),
        "digest": np.zeros((n_rows, 16), np.uint8),
        "n_tokens": np.zeros(n_rows, np.int32),
        "flags": np.zeros(n_rows, np.uint8),
    }

    def rows_of(name: str, rows: slice) -> npt.NDArray[Any]:
        if name in ready:
            return np.asarray(ready[name][number[rows] % n_known])
        return columns[name][rows]

    try:
        with tempfile.TemporaryDirectory(prefix="frostline-plan-") as folder:
            started = time.perf_counter()
            with (Path(folder) / "journal").open("wb") as journal:
                for matrix in ready.values():
                    for start in range(0, n_rows, n_known):
                        journal.write(np.ascontiguousarray(matrix[: n_rows - start]).data)
                journal.flush()
                disk.sync(journal.fileno())
            path = Path(folder) / "trial.h5"
            shard = Shard(store, [], {})
            id_bytes = columns["id"].dtype.itemsize
            write_shard(path, shard, n_rows=n_rows, id_bytes=id_bytes, rows_of=rows_of)
            return path.stat().st_size / max(time.perf_counter() - started, 1e-9)
    except OSError as error:
        where = tempfile.gettempdir()
        raise CannotContinue(
            f"{where}: a file of {_TRIAL_BYTES:,} bytes cannot be tried there: "
            f"{system_reason(error)}; set TMPDIR to a folder with room"
        ) from error


def product_rate(width: int) -> float:
    """Give the operations a second of float32 products with so many columns, as in a fit."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2048, width), np.float32)
    weights = rng.standard_normal((width, 3 * _MODELS), np.float32)
    x @ weights  # threads start when they are first needed
    n, started = 0, time.perf_counter()
    while time.perf_counter() - started < _PRODUCT_SECONDS:
        x @ weights
        n += 1
    return float(n * 2 * x.size * weights.shape[1] / (time.perf_counter() - started))
