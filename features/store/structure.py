"""Refuse feature files that hold anything beyond what HDF5 needs for one.

HDF5 is a file system of its own: it has names that lead into other files, filters that load
plugins, shapes that no file could hold, and types that allocate what they declare. A feature file
needs none of these, so it may hold exactly what `features/store/writer.py` writes, except that
texts in attributes may be of variable length. In comes an open HDF5 file, out comes a refusal or
nothing. Vectors are not read; `features/store/format.py` knows what the attributes mean, and
`features/store/checksum.py` what lies behind the HDF5 content.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
from h5py import h5a, h5d, h5o, h5t, h5z

from features.errors import FileRefused, first_line
from features.store.checksum import SEAL_BYTES

# The checksum of every chunk. Compressors are not needed, and would let a small file unpack to any
# size.
_FILTERS = [h5z.FILTER_FLETCHER32]
_CHECKSUM_BYTES = 4
_BYTE_ORDERS = ("<", ">")
# Where a file says its end is, in the first block of the versions that HDF5 has written since 2008.
_FIRST_BLOCK = struct.Struct("<8s B 3x 8x 8x Q")
_FIRST_BLOCK_VERSIONS = (2, 3)


@contextmanager
def damage_refused(file: h5py.File, name: str) -> Iterator[None]:
    """Refuse a file where HDF5 reports a wrong checksum or a bad chunk, or that was just cut."""
    try:
        yield
        cut = _missing(file)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise FileRefused(
            f"{file.filename}: {name!r} is damaged: {first_line(error)}; make the file again"
        ) from error
    if cut:
        raise FileRefused(
            f"{file.filename}: {cut:,} bytes of it have gone since it was opened; make the file "
            "again, and let it be while it is read"
        )


def _missing(file: h5py.File) -> int:
    """Count the bytes that a local file has lost since it was opened.

    HDF5 reads zeros in their place, and the checksum of zeros is zero, so that it finds them sound.
    """
    if file.mode != "r" or file.driver != "sec2":
        return 0
    return max(0, int(file.id.get_filesize()) - os.fstat(file.id.get_vfd_handle()).st_size)


def read_attribute(file: h5py.File, name: str) -> str | int | None:
    """Read a text or a number from the root's attributes; None if it is not there.

    Raises
    ------
    FileRefused
        It is something else, whose type could make HDF5 follow references or fill memory.
    """
    try:
        if not h5a.exists(file.id, name.encode()):
            return None
        attribute = h5a.open(file.id, name.encode())
        kind = attribute.get_type()
        if attribute.get_space().get_simple_extent_type() != h5py.h5s.SCALAR:
            raise ValueError(f"{name!r} is not a single value")
        if not isinstance(kind, h5t.TypeStringID | h5t.TypeIntegerID):
            raise TypeError(f"{name!r} is neither a text nor a number")
        value = file.attrs[name]
        return int(value) if isinstance(kind, h5t.TypeIntegerID) else _text(value)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise FileRefused(
            f"{file.filename}: its attributes are damaged: {first_line(error)}"
        ) from error


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def check_dataset(file: h5py.File, name: str, dtypes: Mapping[str, int]) -> None:
    """Refuse what is not a plain dataset in this very file with as many rows as `label`.

    Parameters
    ----------
    file : h5py.File
    name : str
    dtypes : mapping of str to int
        The names of numpy's types that it may have, `S` for texts of fixed width, and its
        dimensions.
    """
    path = file.filename
    with damage_refused(file, name):
        link = file.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
            raise FileRefused(f"{path}: {name!r} is missing, or not a dataset of this file")
        dataset = file[name]
        if dataset.is_virtual or dataset.external:
            raise FileRefused(f"{path}: {name!r} points to another file; such files are not read")
        kind = "S" if dataset.dtype.kind == "S" else dataset.dtype.name
        if dtypes.get(kind) != dataset.ndim or not _is_standard(dataset.id.get_type()):
            raise FileRefused(
                f"{path}: {name!r} has type {dataset.dtype} and shape {dataset.shape}, which is "
                "not of this format"
            )
        if dataset.shape[0] != file["label"].shape[0]:
            raise FileRefused(
                f"{path}: {name!r} has {dataset.shape[0]} rows, 'label' has another number"
            )


def _is_standard(kind: h5t.TypeID) -> bool:
    """Tell whether a type is one of numpy's own, in either byte order, and has no name."""
    if kind.committed():
        return False
    if isinstance(kind, h5t.TypeStringID):
        return not kind.is_variable_str()
    dtype = kind.dtype
    return any(kind.equal(h5t.py_create(dtype.newbyteorder(order))) for order in _BYTE_ORDERS)


def check_storage(file: h5py.File, names: Mapping[str, Any] | set[str]) -> None:
    """Refuse a file that holds more than these datasets, or less of one than its shape says.

    Walks over every chunk, so that each is known to be there, in the file, and of its full size.
    """
    path, size = file.filename, file.id.get_filesize()
    with damage_refused(file, "its storage"):
        if len(file) != len(names) or set(file) != set(names):
            raise FileRefused(f"{path} holds more than a feature file: {_surplus(file, names)}")
        if file.userblock_size:
            raise FileRefused(f"{path} has something else before its HDF5 content")
        if _bytes_behind(path, size) not in (0, SEAL_BYTES):
            raise FileRefused(
                f"{path} ends within its seal or behind it; the file was cut or altered"
            )
        extents: list[tuple[int, int]] = []
        for name in names:
            dataset = file[name]
            reason = _odd_layout(dataset, size)
            if reason:
                raise FileRefused(f"{path}: {name!r} {reason}, which is not of this format")
            extents += _chunk_extents(file, dataset)
        extents.sort()
        if any(end > start for (_, end), (start, _) in pairwise(extents)):
            raise FileRefused(f"{path}: its chunks lie over each other; the file was altered")
        if extents and extents[-1][1] > size:
            raise FileRefused(
                f"{path}: its chunks lie outside the file; the file was cut or altered"
            )


def _bytes_behind(path: str, size: int) -> int:
    """Count the bytes behind the end that HDF5 knows; none where its first block is older."""
    with Path(path).open("rb") as file:
        _, version, end = _FIRST_BLOCK.unpack(file.read(_FIRST_BLOCK.size))
    return size - end if version in _FIRST_BLOCK_VERSIONS else 0


def _surplus(file: h5py.File, names: Mapping[str, Any] | set[str]) -> str:
    found = [repr(name) for name, _ in zip(file, range(20), strict=False) if name not in names]
    return ", ".join(found[:5]) or "many names"


def _odd_layout(dataset: h5py.Dataset, file_size: int) -> str | None:
    """Say what is odd about the shape, the chunks or the filters of a dataset."""
    plist = dataset.id.get_create_plist()
    if plist.get_layout() != h5d.CHUNKED:
        return "is not in chunks"
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if filters != _FILTERS:
        return f"has filters {filters} instead of a checksum alone"
    if dataset.maxshape != dataset.shape or dataset.chunks[1:] != dataset.shape[1:]:
        return f"has shape {dataset.shape} in chunks of {dataset.chunks}"
    row_bytes = dataset.dtype.itemsize * math.prod(dataset.shape[1:])
    if dataset.shape[0] * row_bytes > file_size or dataset.chunks[0] * row_bytes > file_size:
        return f"has shape {dataset.shape}, more than a file of {file_size:,} bytes can hold"
    info = h5o.get_info(dataset.id)
    if info.rc != 1 or h5a.get_num_attrs(dataset.id):
        return "has other names or attributes"
    return None


def _chunk_extents(file: h5py.File, dataset: h5py.Dataset) -> list[tuple[int, int]]:
    """Give where the chunks of a dataset lie, once each of them is known to be complete."""
    found: list[tuple[int, int, int, int]] = []
    dataset.id.chunk_iter(
        lambda chunk: found.append(
            (chunk.chunk_offset[0], chunk.byte_offset, chunk.size, chunk.filter_mask)
        )
    )
    rows = dataset.chunks[0]
    size = rows * dataset.dtype.itemsize * math.prod(dataset.shape[1:]) + _CHECKSUM_BYTES
    expected = range(0, dataset.shape[0], rows)
    if sorted(offset for offset, *_ in found) != list(expected) or any(
        (length, mask) != (size, 0) for *_, length, mask in found
    ):
        raise FileRefused(
            f"{file.filename}: {dataset.name!r} has {len(found)} whole chunks or fewer instead of "
            f"{len(expected)}; the file was cut or altered"
        )
    return [(offset, offset + length) for _, offset, length, _ in found]
