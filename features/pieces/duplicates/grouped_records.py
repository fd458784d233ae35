r"""Keep equally long records in groups in one file, so that neighbouring groups are read alone.

In comes an array whose records lie group by group, with the end of each group; out comes a file, or
the records of the groups that are asked for. A file is::

    magic     b"frostline-groups\n"
    sizes     bytes of a record (4 bytes) | groups (4)
    group     end of the group, in records (8) | CRC-32 (4); one entry a group
    records   one group behind the other

All numbers are little-endian. The CRC is over the group's number, its start, its end and its
records, so that damage is found by whoever reads a group. It does not know what records mean.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array
from features.base.storage import Target
from features.errors import FileRefused
from features.pieces.duplicates.files import open_to_read, open_to_write, read_exactly

MAGIC = b"frostline-groups\n"

_SIZES = struct.Struct("<II")
_PLACE = struct.Struct("<IQQ")
_ENTRY = np.dtype([("end", "<u8"), ("crc", "<u4")])
_HEAD_BYTES = len(MAGIC) + _SIZES.size


def write_groups(path: Target, records: Array, ends: npt.NDArray[np.int64]) -> None:
    """Write records to a file that appears whole, in place of what has its name.

    Parameters
    ----------
    path : path or URL
    records : array (n,)
        Group by group.
    ends : int64 array (groups,)
        Where each group ends, ascending; the last one is n.

    Raises
    ------
    CannotContinue
        The disk refused.
    """
    entries = np.zeros(len(ends), _ENTRY)
    entries["end"] = ends
    start = 0
    for number, end in enumerate(ends.tolist()):
        entries["crc"][number] = _crc(number, start, end, records[start:end])
        start = end
    with open_to_write(path) as file:
        file.write(MAGIC + _SIZES.pack(records.dtype.itemsize, len(ends)) + entries.tobytes())
        file.write(_bytes(records))


def read_ends(path: Target, dtype: npt.DTypeLike) -> npt.NDArray[np.int64]:
    """Read where the groups end, (groups,), without their records.

    Raises
    ------
    FileRefused
        It is not such a file, or not one of records of this type.
    CannotContinue
        It cannot be read.
    InputError
        It is not there.
    """
    with open_to_read(path) as file:
        n_groups = _read_head(file, path, np.dtype(dtype))
        ends: npt.NDArray[np.int64] = _take(file, path, _ENTRY, n_groups)["end"].astype(np.int64)
        return ends


def read_groups(
    path: Target, dtype: npt.DTypeLike, first: int, stop: int
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Read the groups from `first` to `stop`.

    Returns
    -------
    records : array (n,)
        Of all these groups.
    starts : int64 array (stop - first + 1,)
        Where each group begins among these, and where the last one ends: 0 to n.

    Raises
    ------
    FileRefused
        It is not such a file, is damaged, or has records of another type.
    CannotContinue
        It cannot be read.
    InputError
        It is not there.
    """
    kind = np.dtype(dtype)
    with open_to_read(path) as file:
        n_groups = _read_head(file, path, kind)
        before = max(0, first - 1)
        file.seek(before * _ENTRY.itemsize, 1)
        entries = _take(file, path, _ENTRY, stop - before)
        borders = [0] * (first == 0) + entries["end"].tolist()
        records_start = _HEAD_BYTES + n_groups * _ENTRY.itemsize
        # More records than bytes: a number that is damaged, and may be too large to go there.
        if sorted(borders) != borders or borders[-1] > file.seek(0, 2):
            raise _damaged(path)
        file.seek(records_start + borders[0] * kind.itemsize)
        records = _take(file, path, kind, borders[-1] - borders[0])
    starts = np.array(borders, np.int64) - borders[0]
    crcs = entries["crc"][len(entries) - (stop - first) :].tolist()
    for n, crc in enumerate(crcs):
        content = records[starts[n] : starts[n + 1]]
        if _crc(first + n, borders[n], borders[n + 1], content) != crc:
            raise _damaged(path)
    return records, starts


def _read_head(file: BinaryIO, path: Target, dtype: np.dtype[Any]) -> int:
    """Check that it is such a file, and give the number of its groups."""
    head = read_exactly(file, _HEAD_BYTES)
    if head is None or not head.startswith(MAGIC):
        raise _damaged(path)
    size, n_groups = _SIZES.unpack(head[len(MAGIC) :])
    if size != dtype.itemsize:
        raise FileRefused(f"{path} has records of {size} bytes, not of {dtype.itemsize}: {_CURE}")
    return int(n_groups)


def _take(file: BinaryIO, path: Target, dtype: np.dtype[Any], n: int) -> Array:
    """Read n records where the file stands."""
    data = read_exactly(file, n * dtype.itemsize)
    if data is None:
        raise _damaged(path)
    return np.frombuffer(data, dtype)


def _bytes(records: Array) -> memoryview | bytes:
    return np.ascontiguousarray(records).view(np.uint8).data if len(records) else b""


def _crc(number: int, start: int, end: int, records: Array) -> int:
    return zlib.crc32(_bytes(records), zlib.crc32(_PLACE.pack(number, start, end)))


_CURE = "remove it, and run the same command again"


def _damaged(path: Target) -> FileRefused:
    return FileRefused(f"{path} is damaged, or was not written by frostline: {_CURE}")
