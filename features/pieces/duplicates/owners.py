"""Find the texts that stand in several pieces, and give each to the first piece that has it.

In come the sorted digests of the pieces between two borders; out come two files: for each piece the
digests that it shares with others, with their owner and their place there (`takes`); and for each
owner the digests that others want of it (`shared`). Pieces are numbered from 0. It needs the memory
that the ranges were cut for (`ranges`), and it does not know texts or vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array
from features.base.storage import Target
from features.pieces.duplicates.digests import DIGEST, Digests, read_range
from features.pieces.duplicates.files import read_each
from features.pieces.duplicates.grouped_records import read_groups, write_groups
from features.pieces.duplicates.ranges import Range

# A digest that a piece shares, the piece that owns it, and its place among those of the same range
# that the owner shares.
TAKE = np.dtype([("digest", DIGEST), ("owner", "<u4"), ("place", "<u4")])


def write_owners(
    takes_path: Target, shared_path: Target, within: Range, files: Sequence[Target]
) -> None:
    """Find the owners of the digests of one range, and write them down.

    The same input gives the same bytes, whoever writes them. `takes_path` is there last, so where
    it is, both are.

    Parameters
    ----------
    takes_path : path or URL
        Gets the records of `TAKE`, a group each piece, in the order of the digests.
    shared_path : path or URL
        Gets the digests that are shared, a group each owner, in order.
    within : Range
        One of `cut_ranges`.
    files : sequence of paths or URLs
        The digests of each piece, see `write_digests`.

    Raises
    ------
    FileRefused, CannotContinue
    """
    of_range = partial(read_range, low=within.low, high=within.high)
    takes, takes_ends, shared, shared_ends = find_owners(list(read_each(of_range, files)))
    write_groups(shared_path, shared, shared_ends)
    write_groups(takes_path, takes, takes_ends)


def find_owners(
    digests_of: list[Digests],
) -> tuple[Array, npt.NDArray[np.int64], Digests, npt.NDArray[np.int64]]:
    """Find the digests that several pieces have.

    Parameters
    ----------
    digests_of : list of arrays (n,) of `DIGEST`
        Those of each piece, sorted and different; the list is emptied, as memory counts here.

    Returns
    -------
    takes : array of `TAKE`
        What each piece shares with others, piece by piece. The owner is among those that take.
    takes_ends : int64 array (pieces,)
        Where each piece ends in it.
    shared : array of `DIGEST`
        What each owner gives to others, owner by owner.
    shared_ends : int64 array (pieces,)
        Where each owner ends in it.
    """
    sizes = [len(part) for part in digests_of]
    n_pieces = len(sizes)
    digests = np.concatenate(digests_of) if digests_of else np.empty(0, DIGEST)
    digests_of.clear()
    # Timsort merges the sorted parts, and keeps equal digests in the order of their pieces.
    order = np.argsort(digests, kind="stable")
    digests = digests[order]
    pieces = np.repeat(np.arange(n_pieces, dtype=np.uint32), sizes)[order]
    del order
    is_first = np.ones(len(digests), np.bool_)
    is_first[1:] = digests[1:] != digests[:-1]
    starts = np.flatnonzero(is_first)
    repeats = np.diff(starts, append=len(digests))
    is_shared = np.repeat(repeats > 1, repeats)
    starts, repeats = starts[repeats > 1], repeats[repeats > 1]

    owners = pieces[starts]
    by_owner = np.argsort(owners, kind="stable")
    shared_counts = np.bincount(owners, minlength=n_pieces)
    shared_ends = np.cumsum(shared_counts, dtype=np.int64)
    places = np.empty(len(owners), np.uint32)
    places[by_owner] = np.arange(len(owners)) - np.repeat(
        shared_ends - shared_counts, shared_counts
    )
    shared = digests[starts[by_owner]]

    pieces = pieces[is_shared]
    by_piece = np.argsort(pieces, kind="stable")
    takes = np.empty(len(pieces), TAKE)
    takes["digest"] = digests[is_shared][by_piece]
    takes["owner"] = np.repeat(owners, repeats)[by_piece]
    takes["place"] = np.repeat(places, repeats)[by_piece]
    takes_ends = np.cumsum(np.bincount(pieces, minlength=n_pieces), dtype=np.int64)
    return takes, takes_ends, shared, shared_ends


def read_of_piece(
    files: Iterable[Target], dtype: npt.DTypeLike, piece: int
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Read what the files of all ranges, in order, have of one piece.

    Parameters
    ----------
    files : iterable of paths or URLs
        Either those of `takes` or those of `shared`.
    dtype : numpy type
        `TAKE` or `DIGEST`.
    piece : int

    Returns
    -------
    records : array (n,)
        In the order of their digests.
    ends : int64 array (ranges,)
        Where each range ends in it.

    Raises
    ------
    FileRefused, CannotContinue
    """
    read = partial(read_groups, dtype=dtype, first=piece, stop=piece + 1)
    parts = [records for records, _ in read_each(read, files)]
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    return np.concatenate([np.empty(0, dtype), *parts]), ends
