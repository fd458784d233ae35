"""Lay out tables, facts by name and prose as lines of text, for a terminal or for a pipe.

In a pipe lines are as long as they are, and plain. On a terminal, which `seen_on` describes, they
fit its columns, tables are drawn by rich, and some words have a colour; only what has no blank in
it, such as a path, is never broken, so that it can be copied.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from features.base.shown import printable

COLUMNS = 80  # of a terminal
# Of a table on a terminal: columns of the first cells and of the others, and lines of one cell.
_WIDEST_NAME, _WIDEST_CELL, _MOST_LINES = 28, 24, 3
_MARKS = {"best", "chosen"}  # cells with one of these words stand out


@dataclass(frozen=True)
class Look:
    """A terminal: how many columns it has, and whether it takes colours."""

    columns: int
    colours: bool


_STYLES = re.compile(r"\x1b\[[0-9;]*m")
_LOOK: ContextVar[Look | None] = ContextVar("look", default=None)


@contextmanager
def seen_on(look: Look | None) -> Iterator[None]:
    """Lay out what is made meanwhile for a terminal; None is a pipe."""
    before = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(before)


def columns() -> int | None:
    """Give the columns of the terminal that is written to; None in a pipe."""
    look = _LOOK.get()
    return None if look is None else look.columns


def table(rows: Sequence[Sequence[object]]) -> str:
    """Line up cells; the first column to the left, the others to the right.

    On a terminal a table that is too wide is cut into several, one below the other, that all begin
    with the first column.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    look = _LOOK.get()
    if look is not None:
        return "\n\n".join(_drawn(part, look) for part in _that_fit(cells, look.columns))
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def table_with_texts(rows: Sequence[Sequence[object]], texts: Sequence[str]) -> str:
    """Line up cells as `table` does, with a text behind each row.

    On a terminal that is as much of it as fits; leave room for some.
    """
    look = _LOOK.get()
    if look is None:
        lines = table(rows).split("\n")
        return "\n".join(f"{a}  {b}".rstrip() for a, b in zip(lines, texts, strict=True))
    cells = [[*map(printable, map(str, row)), text] for row, text in zip(rows, texts, strict=True)]
    return _drawn(cells, look, texts_behind=True)


def _that_fit(cells: Sequence[Sequence[str]], columns: int) -> Iterator[list[list[str]]]:
    """Cut a table into parts that fit."""
    widths = _widths(cells, columns)
    part, used = [0], widths[0]
    for n in range(1, len(widths)):
        if used + 2 + widths[n] > columns and len(part) > 1:
            yield [[row[k] for k in part] for row in cells]
            part, used = [0], widths[0]
        part.append(n)
        used += 2 + widths[n]
    yield [[row[k] for k in part] for row in cells]


def _widths(cells: Sequence[Sequence[str]], columns: int) -> list[int]:
    """Give the widths of columns; the first one may take what the others leave."""
    from rich.cells import cell_len

    name, *others = (max(map(cell_len, column)) for column in zip(*cells, strict=True))
    widths = [min(width, _WIDEST_CELL, columns // 2 - 2) for width in others]
    left = columns - sum(width + 2 for width in widths)
    return [min(name, max(min(_WIDEST_NAME, columns // 2), left)), *widths]


def _drawn(cells: Sequence[Sequence[str]], look: Look, *, texts_behind: bool = False) -> str:
    """Draw a table as a terminal shows it; long cells take several lines, texts behind it one."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    widths = _widths(cells, look.columns)
    if texts_behind:
        widths[-1] = look.columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for n, width in enumerate(widths):
        is_text = texts_behind and n == len(widths) - 1
        drawn.add_column(
            Text(_cut(cells[0][n], width)),
            justify="right" if n and not is_text else "left",
            no_wrap=is_text,
            overflow="ellipsis" if is_text else "fold",
            width=width,
        )
    for row in cells[1:]:
        drawn.add_row(
            *(
                Text(_cut(cell, width), style="green" if _MARKS & set(cell.split(", ")) else "")
                for cell, width in zip(row, widths, strict=True)
            )
        )
    file = io.StringIO()
    console = Console(
        file=file,
        width=look.columns,
        force_terminal=look.colours,
        color_system="standard" if look.colours else None,
        legacy_windows=False,
    )
    console.print(drawn)
    return "\n".join(line.rstrip() for line in file.getvalue().rstrip("\n").split("\n"))


def _cut(cell: str, width: int) -> str:
    """Leave what some lines of a column have room for."""
    most = _MOST_LINES * width
    return cell if len(cell) <= most else cell[: most - 1] + "…"


def facts_text(facts: Mapping[str, str]) -> str:
    """Lay out facts behind their names: a line each, or on a terminal as many as it takes."""
    if _LOOK.get() is None:
        width = max(map(len, facts))
        return "\n".join(f"  {n.ljust(width)}  {printable(value)}" for n, value in facts.items())
    width = max((len(name) for name in facts if len(name) <= _WIDEST_NAME), default=0)
    lines = []
    for name, value in facts.items():
        begins = f"  {printable(name).ljust(width)}  "
        if len(name) > width:  # a path: what is said of it goes below
            begins = f"{begins.rstrip()}\n{' ' * (width + 4)}"
        lines.append(_styled(begins, "bold") + _broken(printable(value), width + 4))
    return "\n".join(lines)


def fitted(text: str) -> str:
    """Break the lines of a text where a terminal ends; each goes on below its own beginning.

    Tables and facts fit already. Warnings, which begin with `!` or `WARNING`, get a colour there.
    """
    if _LOOK.get() is None:
        return text
    lines = []
    for line in text.split("\n"):
        blanks = " " * (len(line) - len(line.lstrip()))
        broken = blanks + _broken(line.lstrip(), len(blanks))
        warns = line.lstrip().startswith(("! ", "WARNING"))
        lines.append(_styled(broken, "yellow") if warns else broken)
    return "\n".join(lines)


def _broken(text: str, indent: int) -> str:
    """Break a line between its words where a terminal ends, if it goes to one.

    A word that is too long for a line of its own stays where it is.
    """
    look = _LOOK.get()
    if look is None:
        return text
    from rich.cells import cell_len

    found, used = "", indent
    for n, word in enumerate(text.split(" ")):
        width = cell_len(_STYLES.sub("", word))
        if n and used + 1 + width > look.columns >= indent + width:
            found += "\n" + " " * indent + word
            used = indent + width
        else:
            found += (" " if n else "") + word
            used += (1 if n else 0) + width
    return found


def _styled(text: str, style: str) -> str:
    """Give text a style on a terminal that takes colours."""
    look = _LOOK.get()
    if look is None or not look.colours:
        return text
    from rich.color import ColorSystem
    from rich.style import Style

    render = Style.parse(style).render
    return "\n".join(render(line, color_system=ColorSystem.STANDARD) for line in text.split("\n"))


def wrapped_text(facts: Mapping[str, str]) -> str:
    """Lay out facts as `facts_text` does, long ones in several lines in a pipe too."""
    if _LOOK.get() is not None:
        return facts_text(facts)
    width = max(map(len, facts))
    return "\n".join(
        textwrap.fill(
            printable(value),
            max(COLUMNS, width + 40),
            initial_indent=f"  {printable(name).ljust(width)}  ",
            subsequent_indent=" " * (width + 4),
            break_long_words=False,  # paths are copied
            break_on_hyphens=False,
        )
        for name, value in facts.items()
    )


def counts_text(counts: Mapping[str, int]) -> str:
    """Give ` (a 3, b 4)`, cut where there are many."""
    if not counts:
        return ""
    shown = [f"{printable(name)} {n:,}" for name, n in list(counts.items())[:8]]
    return f" ({', '.join(shown)}{', …' if len(counts) > 8 else ''})"
