"""Read equally long records of a scratch file by number, neighbours in one go.

In comes a file that somebody else writes; out come records as arrays of numpy. It does not know
what they mean.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt


class Records:
    """Equally long records in a scratch file, by number.

    They are read, not mapped: mapped pages count as memory of the process for as long as the map
    lives, and with a million tweets that is most of the file.
    """

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any]) -> None:
        self._file, self._dtype = file, dtype
        file.seek(0, os.SEEK_END)  # what waits in memory is written

    def read(self, part: slice) -> npt.NDArray[Any]:
        """Read the records from `part.start` to `part.stop`, which must both be in the file."""
        records = np.empty(part.stop - part.start, self._dtype)
        self._read_into(records, part.start)
        return records

    def take(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Read records by number, in any order; neighbours in the file in one go."""
        ordered, places = np.unique(numbers, return_inverse=True)
        records = np.empty(len(ordered), self._dtype)
        for run in runs(ordered):
            self._read_into(records[run], int(ordered[run.start]))
        return np.asarray(records[places])

    def _read_into(self, records: npt.NDArray[Any], first: int) -> None:
        self._file.seek(first * self._dtype.itemsize)
        self._file.readinto(records)  # type: ignore[attr-defined]  # typeshed's BinaryIO lacks it


def runs(ordered: npt.NDArray[np.int64], step: int = 1) -> Iterator[slice]:
    """Cut sorted numbers into runs of neighbours, which are `step` apart.

    Examples
    --------
    >>> [(run.start, run.stop) for run in runs(np.array([3, 4, 5, 9]))]
    [(0, 3), (3, 4)]
    """
    ends = [*(np.flatnonzero(np.diff(ordered) != step) + 1).tolist(), len(ordered)]
    start = 0
    for end in ends if len(ordered) else []:
        yield slice(start, end)
        start = end


def slices(n_rows: int) -> Iterator[slice]:
    """Cut rows into blocks, so that memory does not grow with them."""
    for start in range(0, n_rows, 65_536):
        yield slice(start, min(start + 65_536, n_rows))
