"""Read objects from JSON: one a line, an array, pages of Twitter's API, or a Twitter archive's `tweets.js`.

Lines are read one by one, so that a damaged one costs itself alone. An array is read object by object, in
bounded memory; behind a damage in it, nothing more can be told apart. An object whose `data` is a list of
objects is a page: its rows are those of the list. A row that is `{"tweet": {...}}` is what is inside.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from typing import Any

from features.base.shown import shown
from features.errors import InputError
from features.tweets import source as sources
from features.tweets.source import Source
from features.tweets.values import kind_of

# What stands before the array in a Twitter archive.
_ARCHIVE = re.compile(r"\s*window\.YTD\.\w+\.part\d+\s*=\s*")
_PIECE = 2**16


def read_json_lines(source: Source, stack: ExitStack) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Read an object a line: its number, and the object or why there is none; blank lines are skipped."""
    return _objects(source.lines(stack))


def read_json(source: Source, stack: ExitStack) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Read a file that holds lines of objects, or one array of them."""
    lines = source.lines(stack)
    first: list[tuple[str, bool]] = []
    for line in lines:
        first.append(line)
        if line[0].strip():
            break
    start = _ARCHIVE.sub("", first[-1][0], count=1) if first else ""
    rest = chain([*first[:-1], (start, False)] if first else [], lines)
    if start.lstrip().startswith("["):
        return _elements(rest, source.name)
    if start.strip() and not _is_whole(start):
        return _values(rest, source.name)
    return _objects(rest)


def _is_whole(line: str) -> bool:
    """Whether a line is a JSON value by itself, rather than the start of one over several lines."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _objects(lines: Iterator[tuple[str, bool]]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, (line, too_long) in enumerate(lines, 1):
        if too_long:
            yield number, f"line is longer than {sources.MAX_LINE_BYTES} bytes"
            continue
        if not line.strip():
            continue
        try:
            content = json.loads(line, object_pairs_hook=_without_doubles)
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON ({str(error)[:80]}): {shown(line)}"
            continue
        for row in _rows_in(content):
            yield number, row if isinstance(row, dict) else _no_object(row, line)


def _elements(
    lines: Iterator[tuple[str, bool]], name: str
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Give the elements of an array."""
    for number, value, line in _decoded(lines, name, in_array=True):
        for row in _rows_in(value):
            yield number, row if isinstance(row, dict) else _no_object(row, line)


def _values(
    lines: Iterator[tuple[str, bool]], name: str
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Give objects that go over several lines each, one behind the other."""
    for number, value, line in _decoded(lines, name, in_array=False):
        for row in _rows_in(value):
            yield number, row if isinstance(row, dict) else _no_object(row, line)


def _decoded(
    lines: Iterator[tuple[str, bool]], name: str, *, in_array: bool
) -> Iterator[tuple[int, Any, str]]:
    """Give values with the line where each begins, and how it starts."""
    decoder = json.JSONDecoder(object_pairs_hook=_without_doubles)
    text = _Ahead(lines)
    line, opened, separated = 1, not in_array, True
    while True:
        text.fill(_PIECE)
        blank = len(text.rest) - len(text.rest.lstrip(" \t\r\n"))
        line += text.take(blank).count("\n")
        if not text.rest:
            if text.more:
                continue
            if in_array:
                raise InputError(
                    f"{name}, line {line}: its array is never closed; the file is cut short"
                )
            return
        mark = text.rest[0]
        if in_array and mark == "]" and opened:
            return
        if mark == "[" and not opened:
            opened = bool(text.take(1))
            continue
        if in_array and mark == "," and not separated:
            separated = bool(text.take(1))
            continue
        while True:
            try:
                value, end = decoder.raw_decode(text.rest)
                break
            except (ValueError, RecursionError) as error:
                if text.more and len(text.rest) <= sources.MAX_LINE_BYTES:
                    text.fill(2 * len(text.rest) + 1)  # twice as much, so that it is not read often
                    continue
                raise InputError(
                    f"{name}, line {line}: not JSON ({str(error)[:80]}), so what is behind it cannot be "
                    "told apart; write one object a line (.jsonl), where a damaged one costs itself alone"
                ) from error
        taken = text.take(end)
        yield line, value, taken[:60]
        line += taken.count("\n")
        separated = False


class _Ahead:
    """Text of lines that is held until it is taken.

    Attributes
    ----------
    rest : str
        What is held.
    more : bool
        Whether there may be more lines.
    """

    def __init__(self, lines: Iterator[tuple[str, bool]]) -> None:
        self._lines = lines
        self.rest, self.more = "", True

    def fill(self, size: int) -> None:
        """Hold so many characters, or all that is left."""
        parts, held = [self.rest], len(self.rest)
        while held < size and self.more:
            found = next(self._lines, None)
            self.more = found is not None
            if found is not None:
                parts.append(found[0])
                held += len(found[0])
        self.rest = "".join(parts)

    def take(self, size: int) -> str:
        """Give the first characters, and forget them."""
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken


def _rows_in(content: Any) -> list[Any]:
    """Give the rows that a value holds: those of a page, what is in `tweet`, or the value itself."""
    if not isinstance(content, dict) or "text" in content or "full_text" in content:
        return [content]
    inner = content.get("tweet")
    if isinstance(inner, dict):
        return [inner]
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
