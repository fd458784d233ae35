"""Group texts that are nearly the same, by their vectors, so that no fold divides a group.

In come vectors and which rows have the same text; out comes a group for each row. Two texts are
nearly the same if the cosine between their vectors, less the mean of all, is at least a bound; a
group is what hangs together by such pairs, so that its ends may be further apart. Without the mean,
BERT's vectors have a high cosine to each other whatever the texts are (Ethayarajh, "How contextual
are contextualized word representations?", 2019, section 4.1).

Every text is compared with every other: 45,616 x 384 take seconds, a million rows an hour.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array, Codes
from features.errors import InputError
from pipeline.solver.blocks import Rows


def group_near(
    X: Rows,
    texts: Codes,
    cosine: float,
    *,
    memory: int,
    tile: int = 2048,
    most_pairs: int = 2_000_000,
) -> npt.NDArray[np.intp]:
    """Group rows whose texts are the same or nearly so.

    Parameters
    ----------
    X : Rows
        Raw vectors, N x D.
    texts : int array (N, ·)
        Equal rows are equal texts.
    cosine : float
        Above 0, below 1.
    memory : int
        Bytes that the vectors of the different texts may take.
    tile : int
        Texts that are compared with as many others at a time.
    most_pairs : int
        Pairs that are gathered before they are joined into groups: there are many where a text
        comes in many versions.

    Returns
    -------
    int array (N, 1)
        Equal numbers are one group.

    Raises
    ------
    InputError
        `cosine` is out of its range, or the vectors take more than `memory`.
    """
    if not 0 < cosine < 1:
        raise InputError(f"`near_identical` is {cosine}; it must be a cosine above 0 and below 1")
    _, first, text = np.unique(texts, axis=0, return_index=True, return_inverse=True)
    needed = len(first) * X.shape[1] * 4
    if needed > memory:
        raise InputError(
            f"{len(first):,} texts are compared in memory, {needed >> 20:,} MiB where "
            f"{memory >> 20:,} are allowed; raise `memory`, or leave out `near_identical`"
        )
    directions = _directions(X, np.sort(first))
    group = np.arange(len(first))
    for a, b in _pairs(directions, cosine, tile, most_pairs):
        group = _joined(group, a, b)
    place = np.argsort(np.argsort(first))  # `first` is in the order of the texts, not of the rows
    return np.asarray(group[place[text.reshape(-1)]][:, None], np.intp)


def _directions(X: Rows, chosen: npt.NDArray[np.intp]) -> Array:
    """Give centred vectors of length 1 of some rows, in float32; what has no direction is 0."""
    vectors = np.empty((len(chosen), X.shape[1]), np.float32)
    row = filled = 0
    for block in X.blocks():
        end = int(np.searchsorted(chosen, row + len(block)))
        vectors[filled:end] = block[chosen[filled:end] - row]
        row, filled = row + len(block), end
    vectors -= vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(length > 0, length, 1)
    return vectors


def _pairs(
    directions: Array, cosine: float, tile: int, most_pairs: int
) -> Iterator[tuple[Codes, Codes]]:
    """Give the pairs whose cosine is high enough, some at a time."""
    a: list[Codes] = []
    b: list[Codes] = []
    for top in range(0, len(directions), tile):
        for left in range(top, len(directions), tile):
            found = directions[top : top + tile] @ directions[left : left + tile].T
            rows, columns = np.nonzero(found >= cosine)
            a.append(rows + top)
            b.append(columns + left)
            if sum(map(len, a)) > most_pairs:
                yield np.concatenate(a), np.concatenate(b)
                a, b = [], []
    if a:
        yield np.concatenate(a), np.concatenate(b)


def _joined(group: npt.NDArray[np.intp], a: Codes, b: Codes) -> npt.NDArray[np.intp]:
    """Join the groups of some pairs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(group)
    edges = coo_array((np.ones(len(a), np.float32), (group[a], group[b])), shape=(n, n))
    _, component = connected_components(edges, directed=False)
    return np.asarray(component[group], np.intp)
