"""Tell about how many rows a file has, from its size and a sample of the first file of its format.

In come files, out goes a number that is the same on every machine. Of a file 256 KiB are read, or
the footer where it is a Parquet file; of the others of its format nothing.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from features.base import storage
from features.tweets.columns import DEFAULT_COLUMNS
from features.tweets.formats import BINARY, JSON, JSON_LINES
from features.tweets.parquet import row_groups
from features.tweets.reader import readable
from features.tweets.source import COMPRESSIONS, unpacked

_SAMPLE = 2**18
_STEP = 2**16
# A row and its bytes, where a sample does not tell.
_USUAL = 1, 100
# Unpacked bytes of a sample that are looked at: what a bomb unpacks to has no end.
_MOST = 2**24


@dataclass
class RowSize:
    """How long rows are, format by format, as the first file of each shows.

    Parameters
    ----------
    text : str or None
        The name of the column of texts, where it was said; in JSON, it tells rows apart.
    """

    text: str | None = None
    _known: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def rows(self, path: str, size: int, suffix: str) -> int:
        """Give about how many rows a file has.

        Parameters
        ----------
        path : str
        size : int
            Its bytes.
        suffix : str
            Its format, as in `FORMATS`.
        """
        if not size:
            return 0
        key = suffix, packing_of(path)
        if key not in self._known:
            names = DEFAULT_COLUMNS["text"] if self.text is None else (self.text,)
            with readable(path):
                rows, sampled = _sample(path, size, suffix, names)
            self._known[key] = (rows, sampled) if rows else _USUAL
        rows, sampled = self._known[key]
        return max(1, size * rows // sampled)


def packing_of(path: str) -> str:
    """Give the end of the name of a packed file, such as `.gz`; else nothing."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in (*COMPRESSIONS, ".zip") else ""


def _sample(path: str, size: int, suffix: str, names: Collection[str]) -> tuple[int, int]:
    """Give how many rows there are in how many bytes of a file; 0 rows where that is not seen."""
    with storage.reading(path) as raw:
        if suffix in BINARY:
            return sum(row_groups(raw, path)) if suffix == ".parquet" else 0, size
        if packing_of(path) == ".zip":
            text, sampled = _of_archive(raw, Path(path), size)
        else:
            head = raw.read(_SAMPLE)
            text, sampled = _unpacked(head, Path(path)), len(head)
    lines = max(text.count(b"\n"), text.count(b"\r"))
    if suffix in JSON and suffix not in JSON_LINES:
        return max(text.count(f'"{name}"'.encode()) for name in names) or lines, sampled
    return lines, sampled


def _unpacked(head: bytes, path: Path) -> bytes:
    """Unpack the beginning of a file as far as it goes: it is cut."""
    text = bytearray()
    with ExitStack() as stack, suppress(EOFError):
        stream = unpacked(cast(BinaryIO, io.BytesIO(head)), path, stack)
        while len(text) < _MOST and (some := stream.read1(_STEP)):  # type: ignore[attr-defined]
            text += some
    return bytes(text)


def _of_archive(raw: BinaryIO, path: Path, size: int) -> tuple[bytes, int]:
    """Give the beginning of the only file in an archive, and its share of the archive's bytes."""
    whole = sum(one.file_size for one in zipfile.ZipFile(raw).infolist())
    with ExitStack() as stack:
        text = unpacked(raw, path, stack).read(_SAMPLE)
    return text, max(1, size * len(text) // max(1, whole))
