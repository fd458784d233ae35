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
    """Number texts (N, ·), equal rows alike, (N,); in the order of the rows as they are sorted."""
    return _numbered(texts)[0]


def _numbered(
    texts: npt.NDArray[np.integer[Any]],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Give the number of each row's text, (N,), and the first row of each text.

    As `np.unique` does for rows, which compares them byte by byte: for a million digests that is
    some seconds. Here the first words of the rows are sorted, and the others only looked at.
    """
    if texts.dtype == np.uint8 and texts.shape[1] % 8 == 0:
        texts = np.ascontiguousarray(texts).view(">u8")  # in the order of the bytes
    words = [
        np.array(texts[:, word], texts.dtype.newbyteorder("=")) for word in range(texts.shape[1])
    ]
    order = np.argsort(words[0])
    differs = _changes(words[0], order)
    if any((_changes(word, order) & ~differs).any() for word in words[1:]):
        order = np.lexsort(words[::-1])
        differs = np.logical_or.reduce([_changes(word, order) for word in words])
    numbers = np.empty(len(texts), np.intp)
    numbers[order] = np.cumsum(differs) - 1
    return numbers, np.minimum.reduceat(order, np.flatnonzero(differs)) if len(order) else order


def _changes(
    values: npt.NDArray[np.integer[Any]], order: npt.NDArray[np.intp]
) -> npt.NDArray[np.bool_]:
    """Say where values in an order are not the one before; the first one is not."""
    found = np.ones(len(order), bool)
    ordered = values[order]
    np.not_equal(ordered[1:], ordered[:-1], out=found[1:])
    return found


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
    text, first_row = _numbered(texts)
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
    return np.asarray(fold_of_text[text])
