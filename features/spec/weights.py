"""Read safetensors files: the names, types, shapes and bytes of their tensors. No torch.

In comes the path of a file, out come its tensors, each bounded by the bytes that are there. What a
wrapper of the model put before every name is found here; what a name means is the model's business.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from features.errors import FileRefused

# What safetensors itself allows.
_MAX_HEADER_BYTES = 100_000_000
# What a wrapper of the model at its saving put before every name: DataParallel, torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")


class _Entry(NamedTuple):
    """Where a tensor lies in its file, counted from behind the header."""

    name: str
    kind: str
    shape: list[int]
    start: int
    end: int


def read_tensors(path: Path) -> Iterator[tuple[str, str, list[int], memoryview]]:
    """Read the name, type, shape and bytes of each tensor in a safetensors file.

    The format: an 8-byte little-endian length, that many bytes of JSON, then the tensors' bytes.
    https://github.com/huggingface/safetensors#format

    Raises
    ------
    FileRefused
        The file is something else, or damaged.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        entries = _entries(path, file)
        first = file.tell()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
            for name, kind, shape, start, end in entries:
                if not 0 <= start <= end <= size - first:
                    raise FileRefused(
                        f"{path}: tensor {name!r} lies outside the file; fetch it again"
                    )
                with view[first + start : first + end] as tensor:
                    yield name, kind, shape, tensor


def tensor_names(path: Path) -> list[str]:
    """Give the names of the tensors in a safetensors file.

    Raises
    ------
    FileRefused
        The file is something else, or damaged.
    """
    with path.open("rb") as file:
        return [entry.name for entry in _entries(path, file)]


def wrapper_of(names: Sequence[str]) -> str:
    """Give what a wrapper of the model put before the name of every tensor; "" where none did.

    Examples
    --------
    >>> wrapper_of(["module.embeddings.weight", "module.pooler.dense.bias"])
    'module.'
    >>> wrapper_of(["module.embeddings.weight", "pooler.dense.bias"])
    ''
    """
    found = ""
    while names:
        longer = [found + w for w in _WRAPPERS if all(n.startswith(found + w) for n in names)]
        if not longer:
            break
        found = longer[0]
    return found


def _entries(path: Path, file: BinaryIO) -> list[_Entry]:
    """Read the header; the file is then at the first byte behind it."""
    size = path.stat().st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
        raise FileRefused(f"{path}: not a safetensors file, or cut short; fetch it again")
    try:
        header: Mapping[str, Any] = json.loads(file.read(length))
        return [
            _Entry(
                name,
                str(e["dtype"]),
                list(e["shape"]),
                int(e["data_offsets"][0]),
                int(e["data_offsets"][1]),
            )
            for name, e in header.items()
            if name != "__metadata__"
        ]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise FileRefused(f"{path}: its safetensors header cannot be read: {error}") from error
