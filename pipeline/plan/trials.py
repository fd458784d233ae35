"""Try how fast this machine writes a feature file, and how fast a pass of a fit is. No torch.

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
from features.base.machine import n_cores
from features.errors import CannotContinue, system_reason
from features.spec.vector_spec import VectorSpec
from features.store.format import Shard
from features.store.writer import write_shard
from pipeline.evaluation.cross_validation import FOLDS
from pipeline.solver.blocks import BLOCK_ROWS, Rows, Workers
from pipeline.solver.centred import centred
from pipeline.solver.objective import Objective, TrainingSet

# Bytes of the vectors of a trial file.
_TRIAL_BYTES = 32 * 2**20
# Of a trial pass: bytes of its vectors at most, classes, values of C, and seconds to repeat it for.
_PASS_BYTES, _CLASSES, _CS, _PASS_SECONDS = 256 * 2**20, 3, 3, 0.3


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


def pass_rate(columns: int) -> float:
    """Give the operations a second of a pass of a fit over vectors that are held in memory.

    A pass is that of `fit` itself, over vectors that are drawn, with the models of five folds and
    some C; counted are its products of vectors and weights.
    """
    rng = np.random.default_rng(0)
    blocks = min(max(4, 2 * n_cores()), max(1, _PASS_BYTES // (4 * columns * BLOCK_ROWS)))
    drawn = rng.standard_normal((BLOCK_ROWS, columns), np.float32)
    n_rows = blocks * BLOCK_ROWS
    weight = np.ones(n_rows)
    y = rng.integers(_CLASSES, size=n_rows)
    folds = np.arange(n_rows) % FOLDS
    training = [TrainingSet(folds == fold) for fold in range(FOLDS)] * _CS
    rows = Rows.of(np.tile(drawn, (blocks, 1)))
    vectors = centred(rows, weight, memory=2 * _PASS_BYTES, workers=Workers())
    objective = Objective(vectors, y, weight, _CLASSES, [1.0] * len(training), training)
    models = np.arange(len(training))
    theta = rng.standard_normal((len(training), _CLASSES, 1 + columns)) / columns
    objective.evaluate(models, theta, np.float32)  # threads start when they are first needed
    n, started = 0, time.perf_counter()
    while time.perf_counter() - started < _PASS_SECONDS:
        objective.evaluate(models, theta, np.float32)
        n += 1
    operations = 4.0 * n * n_rows * columns * _CLASSES * len(training)
    return operations / (time.perf_counter() - started)
