"""Write down the different texts of a piece as sorted digests, and read those of a range.

In come the digests of a piece's rows, in any order; out comes a file of 16 bytes a text, in groups
by its first bits (`grouped_records`), so that all digests between two borders are read from every
piece without reading the rest. It does not know texts, and does not compare pieces.

Two texts with the same digest would get the same vector. Digests are those of BLAKE2b of 128 bits,
so among n different texts that happens with a probability below n² / 2¹²⁹ (the birthday bound):
1.5e-19 for 1e10 texts. To make two such texts on purpose takes about 2⁶⁴ tries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from features.base.storage import Target
from features.pieces.duplicates.grouped_records import read_ends, read_groups, write_groups
from features.store.format import DIGEST_BYTES

# As bytes they sort and compare like the numbers that they are, the first byte first. Numpy cuts
# zeros off where it gives one of them as `bytes`: `tobytes` does not.
DIGEST = np.dtype(f"S{DIGEST_BYTES}")
Digests = npt.NDArray[np.bytes_]

# A digest is a number of so many bits, and its first ones are its cell.
BITS = 8 * DIGEST_BYTES
CELL_BITS = 12
CELLS = 2**CELL_BITS
_CELL_WIDTH = BITS - CELL_BITS

# Digests that are kept unsorted, at most.
_BATCH = 2**18


def distinct(batches: Iterable[Sequence[bytes]]) -> Digests:
    """Sort digests, each once, (n,).

    Memory is 48 bytes for each different one, and that of a batch.

    Parameters
    ----------
    batches : iterable of sequences of bytes
        Digests of 16 bytes.
    """
    known = np.empty(0, DIGEST)
    waiting: list[Digests] = []
    n_waiting = 0
    for batch in batches:
        waiting.append(np.frombuffer(b"".join(batch), DIGEST))
        n_waiting += len(batch)
        # More of them the more there are, so that each is sorted a few times only.
        if n_waiting >= max(_BATCH, len(known)):
            known, waiting, n_waiting = np.unique(np.concatenate([known, *waiting])), [], 0
    return np.unique(np.concatenate([known, *waiting]))


def write_digests(path: Target, digests: Digests) -> None:
    """Write the digests of a piece, which are sorted and different.

    Raises
    ------
    CannotContinue
        The disk refused.
    """
    borders = np.frombuffer(b"".join(_as_bytes(n << _CELL_WIDTH) for n in range(1, CELLS)), DIGEST)
    ends = np.append(np.searchsorted(digests, borders), len(digests))
    write_groups(path, digests, ends)


def cell_counts(path: Target) -> npt.NDArray[np.int64]:
    """Count the digests of a piece in each cell, (CELLS,), without reading them.

    Raises
    ------
    FileRefused, CannotContinue
    """
    return np.diff(read_ends(path, DIGEST), prepend=0)


def read_range(path: Target, low: int, high: int) -> Digests:
    """Read the digests of a piece from `low` to below `high`, as numbers of `BITS` bits.

    Raises
    ------
    FileRefused, CannotContinue
    """
    digests, _ = read_groups(path, DIGEST, low >> _CELL_WIDTH, -(-high >> _CELL_WIDTH))
    # Of the last digest in the range, as the border behind it may have a bit more than fits.
    borders = np.frombuffer(_as_bytes(low) + _as_bytes(high - 1), DIGEST)
    start = np.searchsorted(digests, borders[:1], "left")[0]
    stop = np.searchsorted(digests, borders[1:], "right")[0]
    # A copy of a part, so that the rest of its cells does not stay in memory.
    return digests if stop - start == len(digests) else digests[start:stop].copy()


def _as_bytes(number: int) -> bytes:
    return number.to_bytes(DIGEST_BYTES, "big")
