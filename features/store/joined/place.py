"""Read the files of a store that is made in pieces, wherever it lies.

This is the one place where bytes of such a store come from: small files by name, many at a time,
and shards as files of this machine, which HDF5 can open.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from features.base import disk, storage
from features.base.remote.copies import here, target_of
from features.base.remote.places import place_of
from features.base.remote.urls import is_url
from features.base.storage import Target
from features.errors import FileRefused, InputError, system_reason
from features.store.joined.layout import order_path, shard_path, store_path

# The copies of shards of object storage by age, with their bytes.
_copies: dict[Path, int] = {}


def is_in_pieces(store: Target) -> bool:
    """Tell whether a folder is a store that is made in pieces, finished or not."""
    return _exists(store_path(store)) or _exists(order_path(store))


def is_unjoined(store: Target) -> bool:
    """Tell whether a folder is such a store, and nobody has joined its pieces yet."""
    return _exists(order_path(store)) and not _exists(store_path(store))


def read_each(files: Sequence[Target], most: int) -> Iterator[bytes]:
    """Read small files of one folder, in order.

    Raises
    ------
    InputError
        One is not there, or can't be read.
    FileRefused
        One has more bytes than such a file can need.
    """
    if not any(map(is_url, files)):
        yield from (_read(file, most) for file in files)
        return
    sizes = storage.listed(str(files[0]).rpartition("/")[0])
    for file in files:
        if sizes.get(storage.name_of(file), 0) > most:
            raise _too_large(file, most)
    yield from storage.read_each(files)


def read(file: Target, most: int) -> bytes:
    """Read one small file; see `read_each`."""
    return next(read_each([file], most))


def names(folder: Target) -> list[str]:
    """Name what is in a folder, in order; nothing where there is none."""
    if is_url(folder):
        return list(storage.listed(folder))
    path = storage.local_path(folder)
    try:
        return sorted(one.name for one in path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"{path} cannot be read: {system_reason(error)}") from error


def whole_name(store: Target) -> Target:
    """Give a store's URL, where its name or the path of a copy stands for one; else its path."""
    return target_of(store)


def shard_here(store: Target, piece: int, number: int) -> Path:
    """Give the path at which HDF5 opens a shard once it was brought here; of a disk, its own."""
    path = shard_path(store, piece, number)
    return place_of(path) if isinstance(path, str) and is_url(path) else storage.local_path(path)


def bring_shard(store: Target, piece: int, number: int) -> Path:
    """Bring a shard to this machine, unless it is here, and give its path.

    Whether there is one, and it is what it should be, is checked by those who open it. Copies of
    shards take half of the room that was there before the first one, at most: then the oldest go.

    Raises
    ------
    InputError, CannotContinue
        The server says no, or nothing, or there is no room for it.
    """
    path = shard_here(store, piece, number)
    if not is_url(store) or path.exists():
        return path
    room = _room()
    here(path)
    if not path.exists():
        return path
    _copies[path] = path.stat().st_size
    while len(_copies) > 1 and sum(_copies.values()) > room:
        oldest = next(iter(_copies))
        disk.unlink(oldest)  # who has it open reads on
        del _copies[oldest]
    return path


def _exists(file: Target) -> bool:
    with suppress(OSError, ValueError):  # a name that no file can have
        return storage.exists(file)
    return False


@cache
def _room() -> int:
    return disk.free(Path(tempfile.gettempdir())) // 2


def _read(path: Target, most: int) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - to make a `Path` of each takes longer
            data = file.read(most + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {system_reason(error)}") from error
    if len(data) > most:
        raise _too_large(path, most)
    return data


def _too_large(file: Target, most: int) -> FileRefused:
    return FileRefused(f"{file} has more than {most:,} bytes: no such file of frostline")
