"""Write one shard of the layout in `features/store/format.py`, and prove that the disk holds it.

In come a shard's attributes and a function that gives its rows; out comes a file that is synced,
read back, compared and sealed. Under which name it lies at the end is not decided here.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from features.base import disk
from features.base.arrays import Array
from features.errors import CannotContinue, FileRefused
from features.store import admission
from features.store.checksum import seal
from features.store.format import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    DIGEST_BYTES,
    Shard,
    attributes,
    chunk_rows,
    open_file,
    read_rows,
    row_slices,
)


def write_shard(
    path: Path,
    shard: Shard,
    *,
    n_rows: int,
    id_bytes: int,
    rows_of: Callable[[str, slice], Array],
    chunk_bytes: int = CHUNK_BYTES,
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Write a shard to a new file in bounded memory, sync it, read it back, compare and seal it.

    Parameters
    ----------
    path : Path
        Must not exist; the caller renames it to its final name
        (`features/extraction/shard_builder.py`).
    shard : Shard
        The attributes.
    n_rows, id_bytes : int
        N, and the bytes of the longest id.
    rows_of : callable
        ``rows_of(name, rows)`` gives a slice of a dataset; called in order, dataset by dataset.
    chunk_bytes, block_bytes : int
        Bytes of a chunk of a dataset, and of the rows that are written at a time.

    Raises
    ------
    OSError
        It could not be written.
    CannotContinue
        What comes back from the disk is not what was written.
    """
    layout: dict[str, tuple[Any, tuple[int, ...]]] = {
        "id": (h5py.string_dtype("utf-8", max(1, id_bytes)), ()),
        "label": (np.int32, ()),
        "digest": (np.uint8, (DIGEST_BYTES,)),
        "n_tokens": (np.int32, ()),
        "flags": (np.uint8, ()),
    }
    for view, width in shard.vectors.views.items():
        layout[view] = (np.dtype(shard.vectors.store_dtype), (width,))
    sums = dict.fromkeys(layout, 0)
    with (
        _ErrorsLater(path) as target,
        h5py.File(target, "w", libver=("v110", "v110")) as file,
    ):
        for name, text in attributes(shard).items():
            file.attrs[name] = _fixed_width(text) if isinstance(text, str) else text
        for name, (dtype, tail) in layout.items():
            row_bytes = np.dtype(dtype).itemsize * math.prod(tail)
            chunk = max(1, min(n_rows, chunk_rows(row_bytes, chunk_bytes)))
            dataset = file.create_dataset(
                name, (n_rows, *tail), dtype, chunks=(chunk, *tail), fletcher32=True
            )
            for rows in row_slices(n_rows, row_bytes, block_bytes, chunk_bytes):
                # With the dtype, because h5py tells UTF-8 from ASCII by what is attached to it.
                values = rows_of(name, rows).astype(dtype)
                dataset[rows] = values
                sums[name] = zlib.crc32(np.ascontiguousarray(values).data, sums[name])
    _check_written(path, layout, n_rows, sums, (block_bytes, chunk_bytes))
    seal(path)
    admission.vouch(path)


def _check_written(
    path: Path,
    layout: Mapping[str, Any],
    n_rows: int,
    sums: Mapping[str, int],
    sizes: tuple[int, int],
) -> None:
    """Compare what is on the disk with the checksums of what was to be there."""
    if hasattr(os, "posix_fadvise"):  # from the disk, not from memory
        with path.open("rb") as written:
            os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        with open_file(path) as file:
            for name, (dtype, tail) in layout.items():
                found = 0
                row_bytes = np.dtype(dtype).itemsize * math.prod(tail)
                for rows in row_slices(n_rows, row_bytes, *sizes):
                    found = zlib.crc32(
                        np.ascontiguousarray(read_rows(file, name, rows)).data, found
                    )
                if found != sums[name]:
                    raise FileRefused(f"{name!r} is not as it was written")
    except FileRefused as error:
        raise CannotContinue(
            f"{path}: the disk does not give back what was written to it ({error}); it may be "
            "failing"
        ) from error


class _ErrorsLater:
    """A new file that keeps the first error of a write until it is closed, which syncs it.

    HDF5 does not survive a failing write: it raises something else, then crashes when it closes. So
    it is told that all went well, and the error comes out behind it; Ctrl-C is no other error here.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("x+b", buffering=0)
        self._error: BaseException | None = None

    def __enter__(self) -> _ErrorsLater:
        return self

    def __exit__(self, *exception: object) -> None:
        self._try(disk.sync, self._file.fileno())
        self._file.close()
        if self._error is not None:
            raise self._error

    def _try(self, operation: Callable[..., object], *arguments: object) -> None:
        if self._error is None:
            try:
                operation(*arguments)
            except BaseException as error:
                self._error = error

    def write(self, data: bytes) -> int:
        self._try(disk.write, self._file.fileno(), data)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        self._try(disk.truncate, self._file.fileno(), self.tell() if size is None else size)
        return self.tell() if size is None else size

    def flush(self) -> None:
        """Do nothing: no data waits in memory."""

    def seek(self, offset: int, whence: int = 0) -> int:
        self._try(self._file.seek, offset, whence)
        return self.tell()

    def tell(self) -> int:
        return 0 if self._error else self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return b"" if self._error else self._file.read(size)

    def readinto(self, buffer: bytearray) -> int:
        return 0 if self._error else self._file.readinto(buffer)


def _fixed_width(text: str) -> Array:
    """Give a text as an attribute that lies in the root's header, under its checksum.

    Texts of variable length lie where there is no checksum.
    """
    data = text.encode()
    return np.array(data, h5py.string_dtype("utf-8", len(data)))
