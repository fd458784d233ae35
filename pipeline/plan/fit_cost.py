"""Estimate the passes and the seconds of a fit on the labelled rows, spread over workers.

In go rows, columns and measured rates; out come passes, seconds, and what the command that is typed
does and holds by itself, whoever works for it. Passes and the models in each are those that fits on
2,500 to 45,616 tweets took, with C chosen by cross-validation and the refit
(`python benchmarks/plan.py fit` counts them): they grow with the columns, and are many more where
rows are few for so many columns. Of a pass, the products of all vectors with the weights of the
models that are not solved yet are counted; before all passes, those of the Gram matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.evaluation.choice import C_GRID
from pipeline.evaluation.cross_validation import FOLDS
from pipeline.evaluation.trials import are_few
from pipeline.solver.sums import groups

# Passes at 384 columns, and how they grow: 18 at 24 columns, 24 at 96, 31 at 384, 42 at 768 and
# 62 at 1,536.
_PASSES, _COLUMNS, _GROWTH_BELOW, _GROWTH_ABOVE = 31, 384, 0.18, 0.5
# Of the 65 models, how many are in a pass on average; where rows are few, pairs of folds are left
# out as well, and each C has three times as many models.
_UNDER_WAY, _OF_PAIRS = 14, 3
# With fewer rows for each column, columns are almost enough to tell all rows apart: then passes are
# so many times as many.
_FEW_ROWS, _MANY_PASSES = 10, 8
# Rows for each column, at most, that the Gram matrix is made of (`pipeline/solver/objective.py`).
_GRAM_ROWS = 64
# Bytes of vectors in float32 that a worker keeps; more are read anew in each pass.
HELD_BYTES = 8 * 2**30
# Bytes a second at which sums come in from the workers where no network is given.
_SUMS_PER_SECOND = 1e9
# What the command itself does and holds for a labelled row, to cut folds and to judge each C: bytes
# of a row, and of each class.
_OWN_SECONDS, _OWN_BYTES, _OWN_CLASS_BYTES = 6e-6, 50, 130


@dataclass(frozen=True)
class FitCost:
    """What a fit takes.

    Attributes
    ----------
    rows, columns, classes : int
    passes, models : int
        Over the vectors, and models that are evaluated in each on average.
    workers : int
        That share the rows: of those that there are, as many as there are groups of rows.
    seconds : float
        Of all of it.
    own_seconds, own_bytes : float, int
        Of these, what the command that is typed does by itself; and the memory that it needs.
    in_memory : bool
        Whether the vectors are read once, and held.
    """

    rows: int
    columns: int
    classes: int
    passes: int
    models: int
    workers: int
    seconds: float
    own_seconds: float
    own_bytes: int
    in_memory: bool


def fit_cost(
    rows: int,
    columns: int,
    classes: int,
    *,
    row_bytes: int,
    workers: int,
    flops: float,
    disk_bytes_per_second: float | None,
    network_bytes_per_second: float | None,
) -> FitCost:
    """Estimate a fit with C chosen by cross-validation.

    Parameters
    ----------
    rows, columns, classes : int
        N labelled rows of D columns, K classes.
    row_bytes : int
        Of the vectors of a row on the disk.
    workers : int
        Which share the rows.
    flops : float
        Operations a second of each worker in passes, see `Figures`.
    disk_bytes_per_second, network_bytes_per_second : float or None
        Of the disk that all share, and of the network to the process that adds the sums up; None:
        the disk is no limit, and the network that of `_SUMS_PER_SECOND`.
    """
    n_groups = len(groups(rows))
    busy = min(workers, n_groups)
    passes, under_way = _passes(rows, columns, classes)
    # The worker with most groups is the last one to end its pass.
    share = -(-n_groups // busy) / n_groups
    computed = 4 * rows * columns * classes * under_way * share / flops
    read = 0.0 if disk_bytes_per_second is None else rows * row_bytes / disk_bytes_per_second
    in_memory = rows * columns * 4 <= HELD_BYTES * busy
    sums = 8 * under_way * classes * (columns + 1) * (n_groups if busy > 1 else 0)
    sent = sums / (network_bytes_per_second or _SUMS_PER_SECOND)
    each = (computed if in_memory else max(computed, read)) + sent
    gram = 2 * min(rows, _GRAM_ROWS * columns) * columns**2 * share / flops
    own = rows * _OWN_SECONDS
    return FitCost(
        rows=rows,
        columns=columns,
        classes=classes,
        passes=passes,
        models=under_way,
        workers=busy,
        seconds=gram + passes * each + (read if in_memory else 0.0) + own,
        own_seconds=own,
        own_bytes=rows * (_OWN_BYTES + _OWN_CLASS_BYTES * classes),
        in_memory=in_memory,
    )


def _passes(rows: int, columns: int, classes: int) -> tuple[int, int]:
    """Give the passes, and the models in one on average."""
    growth = _GROWTH_BELOW if columns < _COLUMNS else _GROWTH_ABOVE
    passes = _PASSES * (columns / _COLUMNS) ** growth
    if rows < _FEW_ROWS * columns:
        passes *= _MANY_PASSES
    of_grid = len(C_GRID) * FOLDS
    under_way = min(_UNDER_WAY, of_grid) * (_OF_PAIRS if are_few(rows, columns, classes) else 1)
    return math.ceil(passes), under_way
