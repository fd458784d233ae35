"""Read and write the files of duplicates by path or URL: parts of them, from any place.

In come targets (`features/base/storage.py`), out come open files. What is written appears whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from features.base import disk
from features.base.remote.filesystem import asking, opened
from features.base.remote.urls import is_url
from features.base.storage import Target, local_path, put_file_new
from features.errors import CannotContinue, InputError, system_reason

Read = TypeVar("Read")
# Files that are read at the same time, as most of the time of a small read is waiting for a server,
# and how many are asked for ahead.
_TOGETHER, _AHEAD = 16, 256


def read_each(read: Callable[[Target], Read], targets: Iterable[Target]) -> Iterator[Read]:
    """Read many files, some at a time, and give what was read in their order."""
    left = iter(targets)
    with ThreadPoolExecutor(_TOGETHER) as together:
        while some := list(islice(left, _AHEAD)):
            yield from together.map(read, some)


@contextmanager
def open_to_read(target: Target) -> Iterator[BinaryIO]:
    """Open a file; of a server each read is one request, of just the bytes that are read.

    Raises
    ------
    CannotContinue
        It cannot be read.
    InputError
        It is not there.
    """
    if is_url(target):
        with asking(str(target), "read"):
            system, path = opened(str(target))
            with system.open(path, "rb", cache_type="none") as there:
                yield cast(BinaryIO, there)
        return
    try:
        with local_path(target).open("rb", buffering=0) as file:
            yield cast(BinaryIO, file)
    except FileNotFoundError as error:
        raise InputError(f"{target}: no such file") from error
    except OSError as error:
        raise CannotContinue(f"{target} cannot be read: {system_reason(error)}") from error


@contextmanager
def open_to_write(target: Target) -> Iterator[BinaryIO]:
    """Open a file that appears whole at the end, unless another process has written it meanwhile.

    What was there first stays, as others may have read it already.

    Raises
    ------
    InputError, CannotContinue
        It cannot be written.
    """
    if is_url(target):
        with tempfile.TemporaryDirectory() as folder:
            aside = Path(folder) / "file"
            with aside.open("w+b") as file:
                yield file
            put_file_new(aside, str(target))
        return
    path = local_path(target)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            aside = Path(folder) / path.name
            with aside.open("w+b") as file:
                yield file
                file.flush()
                disk.sync(file.fileno())
            with suppress(FileExistsError):
                disk.link(aside, path)
            disk.sync_folder(path.parent)
    except OSError as error:
        raise CannotContinue(
            f"{path} cannot be written: {system_reason(error)}; what is done stays, and the same "
            "command goes on"
        ) from error


def read_exactly(file: BinaryIO, size: int) -> bytearray | None:
    """Read so many bytes where the file stands; None where it has fewer."""
    position = file.tell()
    # Before memory is taken for it: a damaged number may be a very large one.
    if size > file.seek(0, 2) - position:
        return None
    file.seek(position)
    data, filled = bytearray(size), 0
    while filled < size:
        some = file.read(size - filled)
        if not some:
            return None
        data[filled : filled + len(some)] = some
        filled += len(some)
    return data
