"""Estimate the shares of the classes by counting labels, corrected for a classifier's errors. Pure.

Where a classifier that is right in nine of ten cases counts, a class of one percent is found in
eleven. With the confusion M of rows that it did not see, M_kl = P(predicted l | true k), the counts
come in the shares q M, which is solved for q: adjusted counting (Forman, "Quantifying counts and
costs via classification", 2008, section 3.2). The likeliest q >= 0 is taken: the solution itself
where it has no share below 0.

As for EM, a tweet of a class is taken to look as it did in training. Adjusted counting needs no
calibrated probabilities, and makes less of them: its intervals are wider.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.base.arrays import Array, Floats
from pipeline.evaluation.label_shift import BOOTSTRAP_ROUNDS
from pipeline.evaluation.mixture import likeliest_shares

# Added to each row of the confusion, over its cells: what was never seen may happen.
_PSEUDO_ROWS = 0.5


@dataclass(frozen=True)
class AdjustedCount:
    """Shares (K,) of the classes, and their 95 % intervals, each by itself."""

    shares: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]


def adjusted_count(
    counts: Array, confusion: Array, *, seed: int = 0, rounds: int = BOOTSTRAP_ROUNDS
) -> AdjustedCount:
    """Solve for the shares of the classes.

    Parameters
    ----------
    counts : int array (K,)
        Rows by predicted class, one at least.
    confusion : int array (K, K)
        Of rows that the classifier did not see: true classes in rows, predicted ones in columns.
    seed, rounds : int
        Of the bootstrap, which draws both the rows that are counted and those of the confusion
        again.

    Examples
    --------
    Nine of ten are found, and 26 of 100 are called by the first class: it has a share of 0.2.

    >>> found = adjusted_count(np.array([26, 74]), np.array([[9000, 1000], [1000, 9000]]))
    >>> [round(share, 3) for share in found.shares]
    [0.2, 0.8]
    """
    rng = np.random.default_rng(seed)
    n_rows = int(counts.sum())
    drawn = rng.multinomial(n_rows, counts / n_rows, rounds)
    of_rows = np.stack([rng.multinomial(row.sum(), row / row.sum(), rounds) for row in confusion])
    shares = _solved(drawn, of_rows.transpose(1, 0, 2))
    low, high = np.percentile(shares, [2.5, 97.5], axis=0)
    found = _solved(counts[None], np.asarray(confusion)[None])[0]
    return AdjustedCount(
        tuple(found.tolist()), tuple(zip(low.tolist(), high.tolist(), strict=True))
    )


def _solved(counts: Array, confusion: Array) -> Floats:
    """Give the likeliest shares, (B, K), of counts (B, K) under confusions (B, K, K)."""
    cells = confusion + _PSEUDO_ROWS / confusion.shape[2]
    rates = cells / cells.sum(axis=2, keepdims=True)
    weight = counts / counts.sum(axis=1, keepdims=True)
    return likeliest_shares(rates.transpose(1, 0, 2), weight)
