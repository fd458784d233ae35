"""Match the rows of several feature stores that are the same tweet. No vectors are read.

A row of one store and a row of another are the same tweet if

- their ids are equal, as they were in the input;
- the digests of their texts are equal, where the encoders normalise alike. Another normaliser makes
  another digest of the same text: ids alone must do then, and that is said;
- the id (and text) occurs as often in every store;
- their labels are equal, where both have one.

What does not match is left out and counted. Matching rows must come in the same order in every
store, so that all can be streamed; files that were extracted from the same input always do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Mask
from features.errors import InputError
from features.spec.encoder_spec import listed_differences
from features.store.format import label_recoding, sort_labels
from features.store.reader import FeatureStore


@dataclass(frozen=True)
class Matching:
    """What came of matching rows.

    Attributes
    ----------
    rows : int
        That are in all stores.
    left_out : dict of str to int
        Rows of each store that are not.
    other_text : int
        Ids among those left out that are in all stores, with another text or another number of
        times.
    other_label : int
        Rows that match but for their labels; they are left out.
    by_text : bool
        Whether texts were compared, and not ids alone.
    """

    rows: int
    left_out: dict[str, int]
    other_text: int
    other_label: int
    by_text: bool


@dataclass(frozen=True)
class Matched:
    """The rows that are in all stores, N of them.

    Attributes
    ----------
    kept : tuple of bool arrays
        Which rows of each store those are; they come in the same order.
    label_names : list of str
    codes : int array (N,)
        Into `label_names`; -1 where no store has a label.
    matching : Matching
    """

    kept: tuple[Mask, ...]
    label_names: list[str]
    codes: npt.NDArray[np.int32]
    matching: Matching


def match(stores: Sequence[FeatureStore]) -> Matched:
    """Match the rows of stores of different encoders.

    Raises
    ------
    InputError
        No row matches, or they come in another order.
    """
    by_text = len({store.spec.normalizer for store in stores}) == 1
    kept, other_text = _matched(stores, by_text)
    names = list(stores[0].label_names)
    if any(list(store.label_names) != names for store in stores[1:]):
        names = sort_labels({name for store in stores for name in store.label_names})
    labels = np.stack(
        [_recoded(store, names)[mask] for store, mask in zip(stores, kept, strict=True)]
    )
    codes = labels.max(axis=0)
    same = ((labels == codes) | (labels < 0)).all(axis=0)
    if not same.any():
        raise InputError(
            f"{' and '.join(map(str, stores))} have another label for every row that they share; "
            "extract both from the same files"
        )
    for mask in kept:
        mask[np.flatnonzero(mask)] = same
    matching = Matching(
        int(np.count_nonzero(same)),
        {str(s): int(np.count_nonzero(~mask)) for s, mask in zip(stores, kept, strict=True)},
        other_text,
        int(np.count_nonzero(~same)),
        by_text,
    )
    return Matched(tuple(kept), names, codes[same].astype(np.int32), matching)


def _matched(stores: Sequence[FeatureStore], by_text: bool) -> tuple[list[Mask], int]:
    """Find the rows of each store that are in all of them, and count the ids whose texts differ."""
    keys = [_keys(store, by_text) for store in stores]
    if all(of_store == keys[0] for of_store in keys[1:]):
        return [np.ones(len(of_store), bool) for of_store in keys], 0
    counts = [Counter(of_store) for of_store in keys]
    shared = {key for key, n in counts[0].items() if all(c[key] == n for c in counts[1:])}
    if not shared:
        differing = listed_differences(stores[1].spec.differences(stores[0].spec))
        raise InputError(
            f"{' and '.join(map(str, stores))} share no row: they are of different encoders "
            f"({differing}), whose rows are matched by id{' and text' if by_text else ''}; extract "
            "the same tweets with both"
        )
    kept = [np.array([key in shared for key in of_store], bool) for of_store in keys]
    _check_order(stores, keys, kept)
    left_out = [{key[0] for key in of_store if key not in shared} for of_store in keys]
    return kept, len(set.intersection(*left_out))


def _keys(store: FeatureStore, by_text: bool) -> list[tuple[str, bytes]]:
    """Give what a row is matched by: its id, and its text where that can be compared."""
    ids = store.ids()
    if not by_text:
        return [(identity, b"") for identity in ids]
    return [(i, digest.tobytes()) for i, digest in zip(ids, store.digests(), strict=True)]


def _check_order(
    stores: Sequence[FeatureStore],
    keys: Sequence[list[tuple[str, bytes]]],
    kept: Sequence[Mask],
) -> None:
    first, *others = (
        [of_store[i] for i in np.flatnonzero(mask)]
        for of_store, mask in zip(keys, kept, strict=True)
    )
    for store, other in zip(stores[1:], others, strict=True):
        if first != other:
            a, b = next((a, b) for a, b in zip(first, other, strict=True) if a != b)
            raise InputError(
                f"{store} has the rows of {stores[0]} in another order: {b[0]!r} where that has "
                f"{a[0]!r}; extract both from the same files, in the same order"
            )


def _recoded(store: FeatureStore, names: Sequence[str]) -> npt.NDArray[np.int32]:
    """Translate a store's labels, (rows of the store,), into codes of other names."""
    return np.asarray(label_recoding(store.label_names, names)[store.labels()])


def same_texts(digests: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.integer[Any]]:
    """Number groups of rows that share a digest in any store, directly or by others.

    Parameters
    ----------
    digests : sequence of uint8 arrays (N, 16)
        Of the same rows.

    Returns
    -------
    int array (N, 1)
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes, n_nodes = [], 0
    for of_store in digests:
        _, number = np.unique(of_store, axis=0, return_inverse=True)
        nodes.append(number.reshape(-1) + n_nodes)
        n_nodes = int(nodes[-1].max()) + 1
    pairs = [(nodes[0], others) for others in nodes[1:]]
    rows, columns = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(n_nodes, n_nodes))
    _, component = connected_components(graph, directed=False)
    return np.asarray(component[nodes[0]][:, None])


def nth(kept: Mask, n: int) -> int:
    """Give the place of the n-th row that is kept, counted from 0; behind the last, the end."""
    places = np.flatnonzero(kept)
    return int(places[n]) if n < len(places) else len(kept)
