"""Copy what is needed of a Parquet file that lies elsewhere into a file of this machine.

In comes a stream that can be read from any place, such as one of object storage; out comes a file
of the same size that has its footer and some row groups, and holes in place of the rest. The
process that reads Parquet takes files alone. What is in the copied bytes is not looked at here.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

_MAGIC = b"PAR1"
# Bytes at the end that are fetched at first: the footer of most files, its length and the mark.
_TAIL = 2**16
_LENGTH = 4


def is_file(stream: BinaryIO) -> bool:
    """Whether a stream is a file of this machine, which another process can read."""
    try:
        stream.fileno()
    except OSError:  # `io.UnsupportedOperation` is one
        return False
    return True


@contextmanager
def footer_copy(stream: BinaryIO) -> Iterator[BinaryIO]:
    """Copy the footer; all of a file that is no Parquet file."""
    with tempfile.TemporaryFile() as copy:
        size = stream.seek(0, os.SEEK_END)
        copy.truncate(size)
        _copy(stream, copy, 0, len(_MAGIC))
        _copy(stream, copy, max(0, size - _TAIL), size)
        copy.seek(max(0, size - _LENGTH - len(_MAGIC)))
        length, mark = copy.read(_LENGTH), copy.read()
        copy.seek(0)
        if copy.read(len(_MAGIC)) == mark == _MAGIC:
            footer = int.from_bytes(length, "little") + _LENGTH + len(_MAGIC)
            _copy(stream, copy, max(0, size - footer), max(0, size - _TAIL))
        else:
            _copy(stream, copy, 0, size)
        copy.seek(0)
        yield cast(BinaryIO, copy)


def add_ranges(stream: BinaryIO, copy: BinaryIO, ranges: Iterable[tuple[int, int]]) -> None:
    """Copy bytes from here to there, range by range."""
    for start, stop in ranges:
        _copy(stream, copy, start, stop)
    copy.seek(0)


def _copy(stream: BinaryIO, copy: BinaryIO, start: int, stop: int) -> None:
    size = copy.seek(0, os.SEEK_END)
    start, left = max(0, start), min(stop, size) - max(0, start)
    stream.seek(start)
    copy.seek(start)
    while left > 0 and (some := stream.read(min(left, 2**20))):
        copy.write(some)
        left -= len(some)
    copy.flush()
