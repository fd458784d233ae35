"""Which rows are held out together, and which C is chosen. Solving is in `pipeline/solver.py`.

In come labels, text digests and, for each C and fold, held-out probabilities; out come folds and a
choice with the figures behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.errors import InputError

# Half-decades from 1e-4 to 1e2. Standardised BERT vectors want small C: several hundred correlated
# dimensions overfit from about 1 on.
C_GRID = tuple(float(f"{10 ** (k / 2):.3g}") for k in range(-8, 5))


@dataclass(frozen=True)
class Candidate:
    """One C: its macro recall in each fold."""

    C: float
    fold_scores: tuple[float, ...]

    @property
    def score(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.fold_scores))

    @property
    def standard_error(self) -> float:
        """Of the mean over the folds."""
        return float(np.std(self.fold_scores, ddof=1) / np.sqrt(len(self.fold_scores)))


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """Take the best mean score; among equals the smallest C, the simplest model."""
    return max(candidates, key=lambda candidate: (candidate.score, -candidate.C))


def make_folds(
    y: npt.NDArray[np.integer],
    digests: npt.NDArray[np.uint8],
    label_names: Sequence[str],
    *,
    n_folds: int,
    seed: int,
) -> npt.NDArray[np.intp]:
    """Assign each row to the fold that holds it out.

    Folds are stratified by class, and rows of identical texts (retweets) are in the same fold, so
    that no text is scored by a model that was trained on it.

    Parameters
    ----------
    y : int array (N,)
        Codes into `label_names`, each class with rows.
    digests : uint8 array (N, 16)
        Of the normalised texts.
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
        raise InputError(f"{n_folds} folds are too few: give --cv at least 2")
    # A text with several labels is stratified by that of its first row.
    _, first_row, text = np.unique(digests, axis=0, return_index=True, return_inverse=True)
    text_labels = y[first_row]
    for counts, what in (
        (np.bincount(y, minlength=len(label_names)), "rows"),
        (np.bincount(text_labels, minlength=len(label_names)), "different texts"),
    ):
        least = int(counts.argmin())
        if counts[least] < n_folds:
            raise InputError(
                f"class {label_names[least]!r} has {counts[least]} {what}, fewer than the {n_folds} "
                "folds of cross-validation; give --cv fewer folds, or a fixed --C with --validation"
            )
    fold_of_text = np.empty(len(text_labels), np.intp)
    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(text_labels, text_labels)):
        fold_of_text[held_out] = number
    return fold_of_text[text.reshape(-1)]
