"""Open an input and decode it: bytes of a file, maybe compressed, in; lines of text out.

The compression is told by the name, the encoding by the content: a mark at its start, or valid
UTF-8. What is neither is refused with the encoding that it probably has; nothing is guessed and
read all the same. Bytes that are damaged in a file that is UTF-8 otherwise become lone surrogates,
which the reader repairs and counts. Memory is bounded by `Source.max_line_bytes`.

A file is opened again for a look at it before it is read. Standard input can be read once, so that
some of it is held for such a look.
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
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from features.base.remote.copies import here
from features.errors import InputError

if TYPE_CHECKING:
    from features.tweets.span import Known, Part

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
# Bytes that are unpacked together: in Zstandard each may stand for 32 KiB. What xz may take itself.
_PACKED, _XZ_BYTES = 512, 2**28
# Bytes of lines that are not ASCII, from which a detector tells the encoding.
_SAMPLE = 2**16
# A file is damaged UTF-8, and not of another encoding, where so much of what is not ASCII is UTF-8.
_MOSTLY = 0.9
_NOT_ASCII = re.compile(rb"[\x80-\xff]+")
_WORD_NOT_ASCII = re.compile(rb"[A-Za-z]*[\x80-\xff][A-Za-z\x80-\xff]*")
# How files begin that are no text, what they are, and how their names should end.
_NO_TEXT = (
    (re.compile(rb"\x1f\x8b"), "packed by gzip", ".gz"),
    (re.compile(rb"BZh[1-9]1AY&SY"), "packed by bzip2", ".bz2"),
    (re.compile(rb"\xfd7zXZ\0"), "packed by xz", ".xz"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "packed by zstandard", ".zst"),
    (re.compile(rb"PK\x03\x04.{26,2000}?\[Content_Types\]", re.DOTALL), "an Excel workbook", ""),
    (re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "an Excel workbook", ""),
    (re.compile(rb"PK\x03\x04"), "a zip archive", ".zip"),
    (re.compile(rb"PAR1\x15"), "a Parquet file", ".parquet"),
    (re.compile(rb"ARROW1\0\0"), "an Arrow file", ".arrow"),
)


class _Frames(io.RawIOBase):
    """Unpack frames that follow each other, and let nothing behind a damage pass for the end.

    Parameters
    ----------
    raw : binary file
    begin : callable
        Gives what unpacks a frame: an object with `decompress`, `eof` and `unused_data`.
    """

    def __init__(self, raw: BinaryIO, begin: Callable[[], Any]) -> None:
        self._raw, self._begin = raw, begin
        self._frame = begin()
        self._held = memoryview(b"")

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Unpack into a buffer; raise EOFError where a frame is cut."""
        while not self._held:
            packed = b""
            if self._frame.eof:
                packed = self._frame.unused_data or self._raw.read(_PACKED)
                if not packed:
                    return 0
                self._frame = self._begin()
            elif getattr(self._frame, "needs_input", True):
                packed = self._raw.read(_PACKED)
                if not packed:
                    raise EOFError("it ends in the middle of a frame")
            self._held = memoryview(self._unpacked(packed))
        size = min(len(buffer), len(self._held))
        buffer[:size] = self._held[:size]
        self._held = self._held[size:]
        return size

    def _unpacked(self, packed: bytes) -> bytes:
        return bytes(self._frame.decompress(packed, _PIECE))


class _ZstandardFrames(_Frames):
    """The same of Zstandard, which unpacks all that it is given: little at a time."""

    def __init__(self, raw: BinaryIO) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise InputError(
                "reading .zst needs zstandard: pip install zstandard, or unpack the file first"
            ) from error
        self._error = zstandard.ZstdError
        super().__init__(raw, lambda: zstandard.ZstdDecompressor().decompressobj())

    def _unpacked(self, packed: bytes) -> bytes:
        try:
            return bytes(self._frame.decompress(packed))
        except self._error as error:
            raise EOFError(str(error)) from error


def _buffered(frames: _Frames) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(frames))


# From the end of a name to what unpacks the file, beside the suffix of the format.
COMPRESSIONS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    ".gz": lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw)),
    ".bz2": lambda raw: _buffered(_Frames(raw, bz2.BZ2Decompressor)),
    ".xz": lambda raw: _buffered(_Frames(raw, lambda: lzma.LZMADecompressor(memlimit=_XZ_BYTES))),
    ".zst": lambda raw: _buffered(_ZstandardFrames(raw)),
}


class LookAhead:
    """A stream that can be read once, of which some is held for a look at it before that.

    Parameters
    ----------
    raw : binary file
    size : int
        Bytes to hold.

    Attributes
    ----------
    held : bytearray
        What was taken from the stream and is not read yet.
    ended : bool
        Whether that is all that is left.
    filled : bool
        Whether as much is held as may be.
    """

    def __init__(self, raw: BinaryIO, size: int) -> None:
        self._raw, self._size = raw, size
        self.held = bytearray()
        self.ended = self.filled = False

    def more(self) -> bool:
        """Hold what comes next, however little; whether anything came."""
        taken = _some(self._raw, 8192)
        self.held += taken
        self.ended = not taken
        return not self.ended

    def fill(self) -> None:
        """Hold as much as may be, or all that is left."""
        while not self.is_full and self.more():
            pass
        self.filled = True

    @property
    def is_full(self) -> bool:
        """Whether no more may be held."""
        return len(self.held) >= self._size

    def read1(self, size: int = -1) -> bytes:
        """Read what is held, and then what is there, without waiting for more."""
        if not self.held:
            return _some(self._raw, size)
        taken = bytes(self.held if size < 0 else self.held[:size])
        del self.held[: len(taken)]
        return taken


def _some(stream: BinaryIO, size: int) -> bytes:
    """Read what is there, without waiting for more."""
    read1 = getattr(stream, "read1", None)
    return bytes(stream.read(size) if read1 is None else read1(size))


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
        Where it is read from; its position tells how much has been. Of standard input, a
        `LookAhead`.
    encoding : str or None
        As it was asked for; None where it is to be found out.
    max_line_bytes : int
        A longer line is none that can be used.
    part : Part or None
        The part of the file that is read; None for all of it. A look is at all of it either way.
    """

    name: str
    path: Path | None
    raw: BinaryIO | LookAhead
    encoding: str | None = None
    max_line_bytes: int = MAX_LINE_BYTES
    part: Part | None = None

    @property
    def known(self) -> Known | None:
        """What is known of the whole file, so that it need not be looked at."""
        return None if self.part is None else self.part.known

    @property
    def lines_before(self) -> int:
        """How many lines there are before what is read."""
        return 0 if self.part is None else self.part.line

    @property
    def ahead(self) -> LookAhead | None:
        """What is held of standard input; None for a file."""
        return self.raw if isinstance(self.raw, LookAhead) else None

    @property
    def is_cut(self) -> bool:
        """Whether a look shows the beginning alone."""
        return self.ahead is not None and not self.ahead.ended

    @contextmanager
    def bytes_again(self) -> Iterator[BinaryIO]:
        """Open the file a second time, unpacked, for a look at it before it is read."""
        if self.path is None:
            yield io.BytesIO(b"" if self.ahead is None else bytes(self.ahead.held))
            return
        with ExitStack() as stack:
            raw = stack.enter_context(self.path.open("rb"))
            yield unpacked(raw, self.path, stack)

    def bytes_once(self, stack: ExitStack) -> BinaryIO:
        """Give the unpacked bytes to be read."""
        raw = cast(BinaryIO, self.raw)
        return raw if self.path is None else unpacked(raw, self.path, stack)

    def text(self, stack: ExitStack) -> TextIO:
        """Give the text to be read, with its line ends as they are."""
        if self.part is not None:
            return self._text_of_part(self.part)
        raw, piece = self.bytes_once(stack), 8192
        if raw is self.raw and self.path is not None:
            # In pieces so small that the position says how much of a small file was read. That of
            # a packed one moves by more, and a small one may hold very much.
            piece = max(1, min(piece, self.path.stat().st_size // 1024))
        return _text_of(raw, self.found_encoding, piece)

    def _text_of_part(self, part: Part) -> TextIO:
        raw = cast(BinaryIO, self.raw)
        raw.seek(part.start)
        known = part.known
        assert known is not None, "it is a file of text"
        encoding = known.encoding if part.is_first else known.encoding_inside
        return _text_of(raw, encoding, 8192, part.stop - part.start)

    def lines(self, stack: ExitStack) -> Iterator[tuple[str, bool]]:
        """Give the lines to be read, see `lines_in`."""
        return lines_in(self.text(stack), self)

    @contextmanager
    def text_again(self) -> Iterator[TextIO]:
        """Give the text of a second opening."""
        with self.bytes_again() as stream:
            yield _text_of(stream, self.found_encoding, _PIECE)

    @contextmanager
    def lines_again(self) -> Iterator[Iterator[tuple[str, bool]]]:
        """Give the lines of a second opening; of a beginning, all that are whole."""
        with self.bytes_again() as stream:
            lines = lines_in(_text_of(stream, self.found_encoding, 8192), self)
            yield (line for line, _ in pairwise(lines)) if self.is_cut else lines

    @cached_property
    def look(self) -> Look:
        """What a look at all of it shows, or at what is held of standard input."""
        with self.bytes_again() as stream:
            size = min(_PIECE, self.max_line_bytes // 2)
            return _looked(stream, self.name, size, is_cut=self.is_cut)

    @cached_property
    def found_encoding(self) -> str:
        """The encoding: as asked for, or by the content, which is read once for it.

        Raises
        ------
        InputError
            It is neither UTF-8 nor marked, or there is no such encoding.
        """
        if self.known is not None:
            return self.known.encoding
        if self.encoding is not None:
            return known_encoding(self.encoding)
        if self.ahead is not None and not self.ahead.filled:
            return mark_of(self.ahead.held) or "utf-8-sig"
        return _detected(self.look, self.name)

    @property
    def is_clean(self) -> bool:
        """Whether all of it is known to be UTF-8, without what can't be in a text file."""
        if self.known is not None:
            return self.known.is_clean
        seen = self.ahead is None or self.ahead.filled
        return (
            seen
            and not self.is_cut
            and self.found_encoding == "utf-8-sig"
            and not self.look.damaged
            and not self.look.has_nul
        )


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
            with zipfile.ZipFile(here(path)) as archive:
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


def _text_of(stream: BinaryIO, encoding: str, piece: int, size: int | None = None) -> TextIO:
    """Decode a stream that is read in pieces; what can't be decoded becomes lone surrogates.

    Of `size` bytes it is read to there, and not beyond.
    """
    return io.TextIOWrapper(
        cast(BinaryIO, _Unclosed(stream, piece, size)), encoding, "surrogateescape", newline=""
    )


@contextmanager
def decoding(source: Source) -> Iterator[None]:
    """Say in one line that bytes can't even become surrogates, as those of UTF-16 that is cut."""
    try:
        yield
    except UnicodeError as error:
        raise InputError(
            f"{source.name}: its text is not {source.found_encoding}: {error}"
        ) from error


def lines_in(text: TextIO, source: Source, line: str = "") -> Iterator[tuple[str, bool]]:
    """Give lines with their end: line feed, carriage return, or both.

    Bytes that can't be decoded become lone surrogates (repaired later). The flag says that a line
    was too long. Then what comes out is an empty line, or a quote where the line had an odd number
    of them, so that in a table a quoted cell still ends where it ended.

    Parameters
    ----------
    text : text stream
    source : Source
        For messages.
    line : str
        The first line, or its beginning, where that was read already.
    """
    most = source.max_line_bytes
    with decoding(source):
        while line := line or text.readline(most + 1):
            if 4 * len(line) <= most or not _is_too_long(line, most):
                yield line, False
                line = ""
                continue
            quotes = line.count('"')
            while line and not line.endswith(("\n", "\r")):
                line = text.readline(most)
                quotes += line.count('"')
            yield '"\n' if quotes % 2 else "\n", True
            line = ""


def _is_too_long(line: str, most: int) -> bool:
    """Whether a line is too long, in bytes."""
    return len(line) > most or len(line.encode("utf-8", "surrogatepass")) > most


class _Unclosed(io.RawIOBase):
    """Hands reads on, one at a time, and leaves the stream open when it is thrown away."""

    def __init__(self, stream: BinaryIO, piece: int, left: int | None) -> None:
        self._stream, self._piece, self._left = stream, piece, left

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        """Read what is there, without waiting for more; `TextIOWrapper` asks for this."""
        size = self._piece if size < 0 else min(size, self._piece)
        if self._left is None:
            return _some(self._stream, size)
        taken = _some(self._stream, min(size, self._left))
        self._left -= len(taken)
        return taken

    def read(self, size: int = -1) -> bytes:
        """Read as `read1` does."""
        return self.read1(size)


def known_encoding(name: str) -> str:
    """Give the name of an encoding as it is read with.

    Raises
    ------
    InputError
        Python has no such encoding of text.
    """
    try:
        "".encode(name)
        return "utf-8-sig" if codecs.lookup(name).name == "utf-8" else name
    except (LookupError, ValueError) as error:
        raise InputError(
            f"unknown encoding {name!r}: give one that Python knows, such as utf-8, cp1252 or "
            "utf-16"
        ) from error


def mark_of(start: bytes | bytearray) -> str | None:
    """Give the encoding that a mark at the start tells."""
    return next((encoding for mark, encoding in _MARKS if start.startswith(mark)), None)


def check_text(start: bytes | bytearray, name: str) -> None:
    """Refuse what is no text by how it begins, and say what it is.

    Raises
    ------
    InputError
    """
    for begins, what, suffix in _NO_TEXT:
        if not begins.match(start):
            continue
        if not suffix:
            cure = "save its sheet as CSV in UTF-8"
        elif name == "standard input":
            cure = "name the file instead"
        elif suffix in (".parquet", ".arrow"):
            cure = f"give `input_format={suffix[1:]}`, or a name that ends in {suffix}"
        else:
            cure = f"give it a name that ends in {suffix}, such as {Path(name).name}{suffix}"
        raise InputError(f"{name} is {what}, by how it begins: {cure}")


@dataclass(frozen=True)
class Look:
    """What the bytes of an input show.

    Attributes
    ----------
    start : bytes
        The first ones.
    damaged : bytes
        The first piece that is not UTF-8; empty where all of it is.
    has_nul, has_quotes : bool
    has_short_lines : bool
        Whether every line has less than two pieces, for certain.
    """

    start: bytes
    damaged: bytes
    has_nul: bool
    has_quotes: bool
    has_short_lines: bool


def _looked(stream: BinaryIO, name: str, size: int, *, is_cut: bool) -> Look:
    """Look at all of a stream once, in pieces of so many bytes."""
    start = piece = stream.read(size)
    check_text(start, name)
    damaged = b""
    has_nul = has_quotes = False
    has_short_lines = True
    decoder = codecs.getincrementaldecoder("utf-8")()
    while piece:
        has_nul = has_nul or b"\0" in piece
        has_quotes = has_quotes or b'"' in piece
        following = stream.read(size)
        has_short_lines &= not following or b"\n" in piece or b"\r" in piece
        if not damaged:
            try:
                decoder.decode(piece, final=not following and not is_cut)
            except UnicodeDecodeError:
                damaged = piece
        piece = following
    return Look(start, damaged, has_nul, has_quotes, has_short_lines)


def _detected(look: Look, name: str) -> str:
    """Give the encoding of a whole file, by its mark or because it is UTF-8."""
    if marked := mark_of(look.start):
        return marked
    head = look.start[:4096]
    if len(head) > 3 and 3 * head.count(0) >= len(head):
        order = "le" if head[1::2].count(0) > head[::2].count(0) else "be"
        raise InputError(
            f"{name} is no UTF-8: much of it is NUL bytes; it is probably UTF-16 without a mark: "
            f"give `encoding=utf-16-{order}`"
        )
    if not look.damaged:
        return "utf-8-sig"
    return _damaged_or_other(look, name)


def _damaged_or_other(look: Look, name: str) -> str:
    """Tell a damaged UTF-8 file from one of another encoding, which is refused."""
    content = look.damaged if look.damaged is look.start else look.start + look.damaged
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

    lines = b"\n".join(line for line in content.splitlines() if _NOT_ASCII.search(line))
    if _looks_western(lines):
        return "cp1252"
    best = from_bytes(lines[:_SAMPLE]).best()
    return "cp1252" if best is None else str(best.encoding)


def _looks_western(content: bytes) -> bool:
    """Whether letters that are not ASCII stand among such that are, in words as Windows has them.

    A text of few such letters fits a dozen of code pages, of which that is by far the most common;
    in other scripts hardly a word has letters that are ASCII.
    """
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return False
    words = b"".join(_WORD_NOT_ASCII.findall(content[:_SAMPLE]))
    return 2 * len(_NOT_ASCII.sub(b"", words)) >= len(words)
