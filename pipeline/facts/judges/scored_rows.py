"""Score all rows of open stores by a head, once: stores in, arrays of all their rows out.

The scores are those of `frostline evaluate`. Vectors are read block by block and not held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.base.arrays import Codes, Floats, Indices, Mask
from features.errors import FileRefused
from features.store.format import TRUNCATED
from pipeline.data.join import Joined
from pipeline.evaluation.folds import number_texts
from pipeline.head.head import Head
from pipeline.scoring.evaluate import Scores
from pipeline.scoring.predict import score_stores


@dataclass(frozen=True)
class ScoredRows:
    """All rows of the stores, in their order.

    Attributes
    ----------
    name : str
        Of the stores.
    scores : list of Scores
        As `evaluate` takes them.
    ids : list of str, (N,)
    numbers : int64 array (N,)
        Of the rows in the file, from 0; in the first one where several are joined.
    proba : float64 array (N, K)
        What the head says.
    text : int array (N,)
        Equal numbers are one text.
    n_tokens : int array (N,)
    is_truncated : bool array (N,)
    far : int, optional
        Rows that lie far from the training tweets; None where the head can't tell.
    """

    name: str
    scores: list[Scores]
    ids: list[str]
    numbers: Indices
    proba: Floats
    text: Indices
    n_tokens: Codes
    is_truncated: Mask
    far: int | None


def score_rows(head: Head, stores: Joined) -> ScoredRows:
    """Read and score all rows.

    Raises
    ------
    FileRefused
        The head gives no probabilities.
    """
    scores = list(score_stores(head, stores))
    if not all(np.isfinite(one.proba).all() for one in scores):
        raise FileRefused(
            "the head gives probabilities that are not finite: its weights are too large for these "
            "vectors; fit it again"
        )
    first, everything = stores.stores[0], slice(0, stores.n_rows)
    kept = stores.kept[0] if stores.kept else np.ones(first.n_rows, bool)
    distances = [one.novelty for one in scores if one.novelty is not None]
    return ScoredRows(
        str(stores),
        scores,
        [identity for one in scores for identity in one.ids],
        np.flatnonzero(kept).astype(np.int64),
        np.concatenate([one.proba for one in scores]),
        number_texts(stores.texts()),
        first.n_tokens()[kept],
        (stores.flags(everything) & TRUNCATED).astype(bool),
        int(sum((one > 1).sum() for one in distances)) if distances else None,
    )
