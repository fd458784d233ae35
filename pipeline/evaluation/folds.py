"""Assign rows to folds, and choose C by what the folds scored.

In come labels, text digests and, for each C and fold, held-out scores; out come folds and a choice
with the figures behind it. Solving is in `pipeline/solver/solve.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import InputError

# Half-decades from 1e-4 to 1e2. Standardised BERT vectors want small C: several hundred correlated
# dimensions overfit from about 1 on.
C_GRID = tuple(float(f"{10 ** (k / 2):.3g}") for k in range(-8, 5))


@dataclass(frozen=True)
class Candidate:
    """One C: its score in each fold of each repeat.

    Attributes
    ----------
    C : float
    fold_scores : tuple of float
        The folds of the first repeat, then those of the next.
    repeats : int
        Times that the rows were cut into folds.
    """

    C: float
    fold_scores: tuple[float, ...]
    repeats: int = 1

    @property
    def score(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.fold_scores))

    @property
    def standard_error(self) -> float:
        """Of the mean over the folds of one repeat: cutting the same rows again adds no rows."""
        folds = np.reshape(self.fold_scores, (self.repeats, -1))
        return float(np.sqrt(folds.var(axis=1, ddof=1).mean() / folds.shape[1]))


def choose(
    candidates: Sequence[Candidate],
    *,
    higher_is_better: bool = True,
    one_standard_error: bool = False,
) -> Candidate:
    """Take the best mean score; among equals the smallest C, the simplest model.

    With `one_standard_error`, take the smallest C whose score is within one standard error of the
    best (Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3).
    """
    sign = 1 if higher_is_better else -1
    best = max(candidates, key=lambda candidate: (sign * candidate.score, -candidate.C))
    if not one_standard_error:
        return best
    least = sign * best.score - best.standard_error
    good = [candidate for candidate in candidates if sign * candidate.score >= least]
    return min(good, key=lambda candidate: candidate.C)


def make_folds(
    y: npt.NDArray[np.integer[Any]],
    texts: npt.NDArray[np.integer[Any]],
    label_names: Sequence[str],
    *,
    n_folds: int,
    seed: int,
) -> npt.NDArray[np.intp]:
    """Assign each row to the fold that holds it out.

    Folds are stratified by class, and rows of identical texts (retweets) are in the same fold, so
    that no text is scored by a model that was trained on it. Identical is what has the same digest,
    that is, the same text after normalising, or what the caller has grouped
    (`pipeline/data/near_duplicates.py`).

    Parameters
    ----------
    y : int array (N,)
        Codes into `label_names`, each class with rows.
    texts : int array (N, ·)
        Digests of the normalised texts: equal rows are equal texts.
    n_folds, seed : int
        Number of folds, at least 2, and the seed of the shuffle.

    Returns
    -------
    int array (N,)
        Number of the fold, 0 to n_folds-1.

    Raises
    ------
    InputError
        A class has fewer rows, or fewer different texts, than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold  # most of a second: only where it is used

    if n_folds < 2:
        raise InputError(f"{n_folds} folds are too few: give `cv` at least 2")
    # A text with several labels is stratified by that of its first row.
    _, first_row, text = np.unique(texts, axis=0, return_index=True, return_inverse=True)
    text_labels = y[first_row]
    for counts, what in (
        (np.bincount(y, minlength=len(label_names)), "rows"),
        (np.bincount(text_labels, minlength=len(label_names)), "different texts"),
    ):
        least = int(counts.argmin())
        if counts[least] < n_folds:
            raise InputError(
                f"class {label_names[least]!r} has {counts[least]} {what}, fewer than the "
                f"{n_folds} folds of cross-validation; give `cv` fewer folds, or a fixed `C` with "
                "`validation`"
            )
    fold_of_text = np.empty(len(text_labels), np.intp)
    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(text_labels, text_labels)):
        fold_of_text[held_out] = number
    return np.asarray(fold_of_text[text.reshape(-1)])
