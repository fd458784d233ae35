"""Read objects from JSON: one a line, arrays, pages of Twitter's API, or an archive's `tweets.js`.

Lines are read one by one, so that a damaged one costs itself alone. An array is read object by
object, in bounded memory; behind a damage in it, nothing more can be told apart. An object whose
`data` is a list of objects is a page: its rows are those of the list. A row that has a tweet as its
`tweet` is what is in that, and what stands beside it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, TextIO

from features.base.shown import shown
from features.errors import InputError
from features.tweets.source import Source, decoding, lines_in
from features.tweets.values import kind_of

# What stands before the array in a Twitter archive.
_ARCHIVE = re.compile(r"\s*window\.YTD\.\w+\.part\d+\s*=\s*")
_ARRAY, _ARRAY_OF_OBJECTS = re.compile(r"\s*\["), re.compile(r"\s*\[\s*(\{|$)")
_BLANK = re.compile(r"[ \t\r\n]*")
_PIECE = 2**16


def read_json_lines(source: Source, stack: ExitStack) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Read an object a line: its number, and the object or why there is none; no blank lines.

    A file that begins as an array is read as one.
    """
    return _read(source, stack, lines_alone=True)


def read_json(source: Source, stack: ExitStack) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Read a file that holds lines of objects, one array of them, or one behind the other."""
    return _read(source, stack, lines_alone=False)


def _read(
    source: Source, stack: ExitStack, *, lines_alone: bool
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    if source.part is not None and not source.part.is_first:
        return _objects(source, source.lines(stack), source.lines_before + 1)
    text = source.text(stack)
    start, line = _first_line(source, text)
    if _holds_values(start, lines_alone=lines_alone):
        return _values(source, text, start, line)
    return _objects(source, lines_in(text, source, start), line)


def lines_of_objects(
    source: Source, stack: ExitStack, *, lines_alone: bool
) -> Iterator[tuple[str, bool]] | None:
    """Give the lines from the first that has something on; None where values go over lines."""
    text = source.text(stack)
    start, _ = _first_line(source, text)
    if _holds_values(start, lines_alone=lines_alone):
        return None
    return lines_in(text, source, start)


def _first_line(source: Source, text: TextIO) -> tuple[str, int]:
    """Read the first line that has something, and give its number."""
    blank = 0  # lines before it
    with decoding(source):
        while (start := text.readline(source.max_line_bytes + 1)) and not start.strip():
            blank += start.endswith(("\n", "\r"))
    if archive := _ARCHIVE.match(start):
        start = start[archive.end() :]
    return start, blank + 1


def _holds_values(start: str, *, lines_alone: bool) -> bool:
    """Whether a file that starts so holds values that may go over lines, not an object a line."""
    # An array may be one line, however long; among lines it is one where objects are in it.
    if (_ARRAY_OF_OBJECTS if lines_alone else _ARRAY).match(start):
        return True
    return bool(start) and not lines_alone and not _is_whole(start)


def _is_whole(line: str) -> bool:
    """Whether a line is a JSON value by itself, rather than the start of one over several lines."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _objects(
    source: Source, lines: Iterator[tuple[str, bool]], first: int
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, (line, too_long) in enumerate(lines, first):
        if too_long:
            yield number, f"line is longer than {source.max_line_bytes} bytes"
        elif line.strip():
            for row in rows_in_line(line):
                yield number, row


def rows_in_line(line: str) -> Iterator[dict[str, Any] | str]:
    """Give the objects that a line holds, or why there are none."""
    try:
        content = json.loads(line, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        yield f"not JSON ({str(error)[:80]}): {shown(line)}"
        return
    for row in _rows_in(content):
        yield row if isinstance(row, dict) else _no_object(row, line)


def _values(
    source: Source, text: TextIO, start: str, line: int
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Give objects that go over lines, in arrays or one behind the other."""
    for number, value, content in _decoded(_Ahead(source, text, start), line):
        for row in _rows_in(value):
            yield number, row if isinstance(row, dict) else _no_object(row, content)


def _decoded(ahead: _Ahead, line: int) -> Iterator[tuple[int, Any, str]]:
    """Give values with the line where each begins, and how it starts; of arrays their elements."""
    decoder = json.JSONDecoder(object_pairs_hook=_without_doubles)
    in_array, separated = False, True
    while True:
        line += ahead.skip_blanks()
        mark = ahead.mark()
        if not mark:
            if in_array:
                raise InputError(
                    f"{ahead.name}, line {line}: its array is never closed; the file is cut short"
                )
            return
        if mark == "," and not separated:
            separated = bool(ahead.take(1))
            continue
        if mark == ("]" if in_array else "["):
            in_array = not in_array
            separated = bool(ahead.take(1)) and in_array
            continue
        while True:
            try:
                value, end = decoder.raw_decode(ahead.text, ahead.at)
                break
            except (ValueError, RecursionError) as error:
                if ahead.hold_more():
                    continue
                raise InputError(
                    f"{ahead.name}, line {line}: not JSON ({str(error)[:80]}), so what is behind "
                    "it cannot be told apart; write one object a line (.jsonl), where a damaged "
                    "one costs itself alone"
                ) from error
        taken = ahead.take(end - ahead.at)
        yield line, value, taken[:60]
        line += taken.count("\n")
        separated = False


class _Ahead:
    """Text that is held until it is taken.

    Attributes
    ----------
    name : str
        Of the file.
    text : str
        What is held, from `at` on.
    at : int
    """

    def __init__(self, source: Source, stream: TextIO, start: str) -> None:
        self.name = source.name
        self.text, self.at = start, 0
        self._source, self._stream, self._ended = source, stream, False

    def hold_more(self) -> bool:
        """Hold about twice as much, so that it is not read often; whether there was more."""
        held = len(self.text) - self.at
        if self._ended or held > self._source.max_line_bytes:
            return False
        with decoding(self._source):
            more = self._stream.read(max(_PIECE, held))
        self.text, self.at, self._ended = self.text[self.at :] + more, 0, not more
        return bool(more)

    def skip_blanks(self) -> int:
        """Leave out what is blank, and count the lines that end in it."""
        lines = 0
        while True:
            blank = _BLANK.match(self.text, self.at)
            assert blank is not None, "it may be empty"
            end = blank.end()
            lines += self.text.count("\n", self.at, end)
            self.at = end
            if end < len(self.text) or not self.hold_more():
                return lines

    def mark(self) -> str:
        """Give the next character; nothing at the end."""
        return self.text[self.at : self.at + 1]

    def take(self, size: int) -> str:
        """Give the next characters, and forget them."""
        self.at += size
        return self.text[self.at - size : self.at]


def _rows_in(content: Any) -> list[Any]:
    """Give the rows that a value holds: those of a page, a tweet in it, or the value itself."""
    if not isinstance(content, dict) or "text" in content or "full_text" in content:
        return [content]
    inner = content.get("tweet")
    if isinstance(inner, dict):
        return [{key: value for key, value in content.items() if key != "tweet"} | inner]
    page = content.get("data")
    if isinstance(page, list) and page and all(isinstance(row, dict) for row in page):
        return page
    return [content]


def _no_object(value: object, line: str) -> str:
    return f"{kind_of(value)}, not a JSON object: {shown(line)}"


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object; of two values under one key none is the right one."""
    content = dict(pairs)
    if len(content) < len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"key {shown(key)} is there more than once")
    return content
