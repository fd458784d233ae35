"""Read the files of a store that is made in pieces, wherever it lies.

This is the one place where bytes of such a store come from: small files by name, many at a time,
and shards as files of this machine, which HDF5 can open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from features.base.atomic import replacing
from features.errors import FileRefused, InputError, system_reason
from features.store.joined.layout import shard_path


def read_each(paths: Sequence[Path], most: int) -> Iterator[bytes]:
    """Read small files, in order.

    Raises
    ------
    InputError
        One is not there, or can't be read.
    FileRefused
        One has more bytes than such a file can need.
    """
    for path in paths:
        try:
            with path.open("rb") as file:
                data = file.read(most + 1)
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file") from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {system_reason(error)}") from error
        if len(data) > most:
            raise FileRefused(f"{path} has more than {most:,} bytes: no such file of frostline")
        yield data


def read(path: Path, most: int) -> bytes:
    """Read one small file; see `read_each`."""
    return next(read_each([path], most))


def names(folder: Path) -> list[str]:
    """Name what is in a folder, in order; nothing where there is none."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {system_reason(error)}") from error


def write(path: Path, data: bytes) -> None:
    """Write a small file, which appears whole, in place of what is there."""
    with replacing(path) as aside:
        aside.write_bytes(data)


def shard_here(store: Path, piece: int, number: int) -> Path:
    """Give the path at which HDF5 opens a shard once it was brought here; of a disk, its own."""
    return shard_path(store, piece, number)


def bring_shard(store: Path, piece: int, number: int) -> Path:
    """Bring a shard to this machine, unless it is here, and give its path.

    Whether it is the shard that it should be is checked by those who open it.
    """
    return shard_here(store, piece, number)
