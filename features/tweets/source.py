"""Open an input and decode it: bytes of a file, maybe compressed, in; lines of text out.

The compression is told by the name, the encoding by the content: a mark at its start, or valid UTF-8. What is
neither is refused with the encoding that it probably has; nothing is guessed and read all the same.
Bytes that are damaged in a file that is UTF-8 otherwise become lone surrogates, which the reader repairs
and counts. Memory is bounded by `MAX_LINE_BYTES` a line.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, cast

from features.errors import InputError

# A tweet has 280 characters; the bound keeps memory bounded whatever the file.
MAX_LINE_BYTES = 16 * 2**20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PIECE = 2**20
# Bytes of lines that are not ASCII, from which a detector tells the encoding.
_SAMPLE = 2**16
# A file is damaged UTF-8, and not of another encoding, where so much of what is not ASCII is UTF-8.
_MOSTLY = 0.9
_NOT_ASCII = re.compile(rb"[\x80-\xff]+")


def _zstandard(raw: BinaryIO) -> BinaryIO:
    try:
        import zstandard
    except ImportError as error:
        raise InputError(
            "reading .zst needs zstandard: pip install zstandard, or unpack the file first"
        ) from error
    return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(raw))


# From the end of a name to what unpacks the file, beside the suffix of the format.
COMPRESSIONS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    ".gz": lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw)),
    ".bz2": lambda raw: cast(BinaryIO, bz2.BZ2File(raw)),
    ".xz": lambda raw: cast(BinaryIO, lzma.LZMAFile(raw)),  # noqa: SIM115 - its user closes it
    ".zst": _zstandard,
}


@dataclass(frozen=True)
class Source:
    """An input that is read, maybe several times.

    Attributes
    ----------
    name : str
        For messages.
    path : Path or None
        None for standard input, which can be read once.
    raw : binary file
        Where it is read from; its position tells how much has been.
    encoding : str or None
        As it was asked for; None where it is to be found out.
    """

    name: str
    path: Path | None
    raw: BinaryIO
    encoding: str | None = None

    @contextmanager
    def bytes_again(self) -> Iterator[BinaryIO]:
        """Open the file a second time, unpacked, for a look at it before it is read."""
        assert self.path is not None, "standard input is read once"
        with ExitStack() as stack:
            raw = stack.enter_context(self.path.open("rb"))
            yield unpacked(raw, self.path, stack)

    def bytes_once(self, stack: ExitStack) -> BinaryIO:
        """Give the unpacked bytes to be read."""
        return self.raw if self.path is None else unpacked(self.raw, self.path, stack)

    def lines(self, stack: ExitStack) -> Iterator[tuple[str, bool]]:
        """Give the lines to be read, see `lines_of`."""
        # In pieces so small that the position says how much of a small file was read.
        size = 0 if self.path is None else self.path.stat().st_size
        piece = max(1, min(8192, size // 1024)) if size else 8192
        return lines_of(self.bytes_once(stack), self.found_encoding, piece)

    @contextmanager
    def lines_again(self) -> Iterator[Iterator[tuple[str, bool]]]:
        """Give the lines of a second opening."""
        with self.bytes_again() as stream:
            yield lines_of(stream, self.found_encoding)

    @cached_property
    def found_encoding(self) -> str:
        """The encoding: as asked for, or by the content, which is read once for it.

        Raises
        ------
        InputError
            It is neither UTF-8 nor marked, or there is no such encoding.
        """
        if self.encoding is not None:
            try:
                return (
                    "utf-8-sig" if codecs.lookup(self.encoding).name == "utf-8" else self.encoding
                )
            except LookupError as error:
                raise InputError(
                    f"unknown encoding {self.encoding!r}: give one that Python knows, such as utf-8, "
                    "cp1252 or utf-16"
                ) from error
        if self.path is None:
            return "utf-8-sig"
        with self.bytes_again() as stream:
            return _detected(stream, self.name)


def unpacked(raw: BinaryIO, path: Path, stack: ExitStack) -> BinaryIO:
    """Give the stream to read a file from; `stack` closes what is opened for it."""
    suffix = path.suffix.lower()
    if suffix == ".zip":
        return stack.enter_context(_only_member(raw, path))
    unpack = COMPRESSIONS.get(suffix)
    return raw if unpack is None else stack.enter_context(unpack(raw))


def inner_name(path: str) -> str:
    """Give the name of a file without what says how it is compressed.

    Examples
    --------
    >>> inner_name("tweets.CSV.GZ"), inner_name("tweets.tsv")
    ('tweets.csv', 'tweets.tsv')
    """
    lower = Path(path).name.lower()
    if lower.endswith(".zip"):
        try:
            with zipfile.ZipFile(path) as archive:
                members = _members(archive)
        except (OSError, zipfile.BadZipFile):
            members = []
        return Path(members[0]).name.lower() if len(members) == 1 else lower.removesuffix(".zip")
    for suffix in COMPRESSIONS:
        lower = lower.removesuffix(suffix)
    return lower


def _members(archive: zipfile.ZipFile) -> list[str]:
    """Give the files in a zip archive, without folders and what macOS adds."""
    return [
        name
        for name in archive.namelist()
        if not name.endswith("/") and not name.startswith("__MACOSX/")
    ]


def _only_member(raw: BinaryIO, path: Path) -> BinaryIO:
    try:
        archive = zipfile.ZipFile(raw)
        members = _members(archive)
        if len(members) != 1:
            raise InputError(
                f"{path} holds {len(members)} files; unpack it, and name the one that is meant"
            )
        return cast(BinaryIO, archive.open(members[0]))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path} is not a readable zip file: {error}") from error


def lines_of(
    stream: BinaryIO, encoding: str = "utf-8-sig", piece: int = 8192
) -> Iterator[tuple[str, bool]]:
    """Give lines with their end: line feed, carriage return, or both.

    Bytes that can't be decoded become lone surrogates (repaired later). The flag says that a line was
    too long. Then what comes out is an empty line, or a quote where the line had an odd number of
    them, so that in a table a quoted cell still ends where it ended.
    """
    text = io.TextIOWrapper(
        cast(BinaryIO, _Unclosed(stream, piece)), encoding, "surrogateescape", newline=""
    )
    try:
        while line := text.readline(MAX_LINE_BYTES + 1):
            if 4 * len(line) <= MAX_LINE_BYTES or not _is_too_long(line):
                yield line, False
                continue
            quotes = line.count('"')
            while line and not line.endswith(("\n", "\r")):
                line = text.readline(MAX_LINE_BYTES)
                quotes += line.count('"')
            yield '"\n' if quotes % 2 else "\n", True
    except UnicodeError as error:  # bytes that can't become surrogates: UTF-16 that is cut
        raise InputError(f"its text is not {encoding}: {error}") from error


def _is_too_long(line: str) -> bool:
    """Whether a line is too long, in bytes."""
    return len(line) > MAX_LINE_BYTES or len(line.encode("utf-8", "surrogatepass")) > MAX_LINE_BYTES


class _Unclosed(io.RawIOBase):
    """Hands reads on, one at a time, and leaves the stream open when it is thrown away."""

    def __init__(self, stream: BinaryIO, piece: int) -> None:
        self._stream, self._piece = stream, piece

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        """Read what is there, without waiting for more; `TextIOWrapper` asks for this."""
        size = self._piece if size < 0 else min(size, self._piece)
        read1 = getattr(self._stream, "read1", None)
        return bytes(self._stream.read(size) if read1 is None else read1(size))

    def read(self, size: int = -1) -> bytes:
        """Read as `read1` does."""
        return self.read1(size)


def _detected(stream: BinaryIO, name: str) -> str:
    """Give the encoding of a whole file, by its mark or because it is UTF-8."""
    start = stream.read(_PIECE)
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    head = start[:4096]
    if len(head) > 3 and 3 * head.count(0) >= len(head):
        order = "le" if head[1::2].count(0) > head[::2].count(0) else "be"
        raise InputError(
            f"{name} is no UTF-8: much of it is NUL bytes; it is probably UTF-16 without a mark: "
            f"give `encoding=utf-16-{order}`"
        )
    decoder = codecs.getincrementaldecoder("utf-8")()
    piece = start
    try:
        while piece:
            decoder.decode(piece)
            piece = stream.read(_PIECE)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _damaged_or_other(start + piece, name)
    return "utf-8-sig"


def _damaged_or_other(content: bytes, name: str) -> str:
    """Tell a damaged UTF-8 file from one of another encoding, which is refused."""
    valid = total = 0
    for run in _NOT_ASCII.finditer(content):
        total += len(run[0])
        valid += len(run[0].decode("utf-8", "ignore").encode())
    if valid >= _MOSTLY * total:
        return "utf-8-sig"
    likely = _likely_encoding(content)
    line = content[: _first_wrong(content)].count(b"\n") + 1
    raise InputError(
        f"{name} is not UTF-8 (line {line}); it is probably {likely}: give `encoding={likely}`, or "
        "`encoding=utf-8` to read it all the same and mark what is damaged"
    )


def _first_wrong(content: bytes) -> int:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _likely_encoding(content: bytes) -> str:
    """Name the encoding that a detector finds in the lines that are not ASCII."""
    from charset_normalizer import from_bytes  # only where a file is refused

    lines = [line for line in content.splitlines() if _NOT_ASCII.search(line)]
    best = from_bytes(b"\n".join(lines)[:_SAMPLE]).best()
    # Western text of few letters fits a dozen of code pages; Windows' is by far the most common.
    western = (
        "cp1252",
        "latin_1",
        "iso8859_1",
        "cp1250",
        "iso8859_15",
        "cp1257",
        "cp1254",
        "hp_roman8",
    )
    try:
        b"\n".join(lines).decode("cp1252")
        fits = True
    except UnicodeDecodeError:
        fits = False
    if best is None or (fits and best.encoding in western):
        return "cp1252"
    return str(best.encoding)
