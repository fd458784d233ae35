"""Cut the digests of all pieces into ranges, each small enough for the memory that is given.

In come the files of the pieces' digests; out come borders. Digests of texts are spread evenly, so
the ranges are about equally wide; where somebody has chosen texts whose digests lie together, they
are cut finer, so the memory holds there too. Nothing is compared here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from features.base.storage import Target
from features.errors import InputError
from features.pieces.duplicates.digests import BITS, CELL_BITS, CELLS, cell_counts, read_range
from features.pieces.duplicates.files import read_each

# What `find_owners` holds of a digest while it works on a range, at most; measured by
# `benchmarks/duplicates.py`.
BYTES_A_DIGEST = 96
MEMORY = 512 * 2**20


@dataclass(frozen=True)
class Range:
    """The digests from `low` to below `high`, as numbers of `BITS` bits."""

    low: int
    high: int


def cut_ranges(files: Sequence[Target], memory: int = MEMORY) -> list[Range]:
    """Cut all digests into ranges, in ascending order and without gaps.

    Parameters
    ----------
    files : sequence of paths or URLs
        The digests of each piece, see `write_digests`.
    memory : int
        Bytes that work on a range may take.

    Raises
    ------
    InputError
        The memory is too little for one digest of each piece.
    FileRefused, CannotContinue
    """
    most = memory // BYTES_A_DIGEST
    if most < max(1, len(files)):
        raise InputError(
            f"memory is {memory:,} bytes; for {len(files):,} pieces it must be at least "
            f"{max(1, len(files)) * BYTES_A_DIGEST:,}"
        )
    counts = np.zeros(CELLS, np.int64)
    for of_file in read_each(cell_counts, files):
        counts += of_file
    return ranges_of(files, counts.tolist(), most)


def ranges_of(files: Sequence[Target], counts: Sequence[int], most: int) -> list[Range]:
    """Join neighbouring cells to ranges, and cut those cells that are too full.

    Parameters
    ----------
    files : sequence of paths or URLs
        Read where a cell is too full.
    counts : sequence of int
        The digests of all pieces in each cell.
    most : int
        Digests of a range at most.
    """
    width = 2 ** (BITS - CELL_BITS)
    ranges: list[Range] = []
    low = held = 0
    for cell, of_cell in enumerate(counts):
        whole = Range(cell * width, (cell + 1) * width)
        for part, count in _halves(files, whole, of_cell, most):
            if held and held + count > most:
                ranges.append(Range(low, part.low))
                low, held = part.low, 0
            held += count
    return [*ranges, Range(low, 2**BITS)]


def _halves(
    files: Sequence[Target], whole: Range, count: int, most: int
) -> Iterator[tuple[Range, int]]:
    """Halve a range until each part is small enough.

    That ends: a digest is once in a piece, and `most` is the number of pieces at least.
    """
    if count <= most:
        yield whole, count
        return
    middle = (whole.low + whole.high) // 2
    of_half = partial(read_range, low=whole.low, high=middle)
    lower = sum(map(len, read_each(of_half, files)))
    yield from _halves(files, Range(whole.low, middle), lower, most)
    yield from _halves(files, Range(middle, whole.high), count - lower, most)
