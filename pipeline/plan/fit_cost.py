"""Estimate the passes and the seconds of a fit on the labelled rows, spread over workers.

In go rows, columns and measured rates; out come passes, which depend on the columns, and seconds.
The passes are those that fits on 45,616 tweets took (docs/performance.md): 27 at 384 columns, 59 at
1,536, with C chosen by cross-validation and the refit. What a pass computes are two products of all
vectors with the weights of the models that are not done yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.evaluation.choice import C_GRID
from pipeline.evaluation.cross_validation import FOLDS

_PASSES, _COLUMNS, _GROWTH = 27, 384, math.log(59 / 27) / math.log(1536 / 384)
# Of the models, how many are in a pass on average: some are solved before others, all end early.
_UNDER_WAY = 0.5
# Bytes of vectors in float32 that a worker keeps; more are read anew in each pass.
HELD_BYTES = 8 * 2**30
# Bytes a second at which sums come in from the workers where no network is given.
_SUMS_PER_SECOND = 1e9


@dataclass(frozen=True)
class FitCost:
    """What a fit takes: rows, columns, passes, seconds; `in_memory`: the vectors are read once."""

    rows: int
    columns: int
    classes: int
    passes: int
    seconds: float
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
        Operations a second of each worker, in float32.
    disk_bytes_per_second, network_bytes_per_second : float or None
        Of the disk that all share, and of the network to the process that adds the sums up; None:
        the disk is no limit, and the network that of `_SUMS_PER_SECOND`.
    """
    passes = max(10, round(_PASSES * (columns / _COLUMNS) ** _GROWTH))
    models = len(C_GRID) * FOLDS
    computed = 4 * rows * columns * classes * models * _UNDER_WAY / (flops * workers)
    read = 0.0 if disk_bytes_per_second is None else rows * row_bytes / disk_bytes_per_second
    in_memory = rows * columns * 4 <= HELD_BYTES * workers
    sums = 8 * models * classes * (columns + 1) * (workers if workers > 1 else 0)
    sent = sums / (network_bytes_per_second or _SUMS_PER_SECOND)
    each = (computed if in_memory else max(computed, read)) + sent
    seconds = passes * each + (read if in_memory else 0.0)
    return FitCost(rows, columns, classes, passes, seconds, in_memory)
