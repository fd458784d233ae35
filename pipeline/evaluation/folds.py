"""Cut rows into folds: labels and text digests in, the fold that holds each row out out.

Which models are fitted on them is in `pipeline/evaluation/trials.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import InputError


def number_texts(texts: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.intp]:
    """Number texts (N, ·), equal rows alike, (N,)."""
    _, numbers = np.unique(texts, axis=0, return_inverse=True)
    return np.asarray(numbers.reshape(-1))


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
            fewer = f"give `cv` {counts[least]} folds at most, or a fixed `C` with `validation`"
            more = "label more tweets of it, or leave out its rows"
            raise InputError(
                f"class {label_names[least]!r} has {counts[least]} {what}, fewer than the "
                f"{n_folds} folds of cross-validation; {fewer if counts[least] > 1 else more}"
            )
    fold_of_text = np.empty(len(text_labels), np.intp)
    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(text_labels, text_labels)):
        fold_of_text[held_out] = number
    return np.asarray(fold_of_text[text.reshape(-1)])
