"""Lay out tables, and facts by name, as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from features.base.shown import printable

COLUMNS = 80  # of a terminal


def table(rows: Sequence[Sequence[object]]) -> str:
    """Line up cells; the first column to the left, the others to the right."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def facts_text(facts: Mapping[str, str]) -> str:
    """Lay out facts, a line each, behind their names."""
    width = max(map(len, facts))
    return "\n".join(f"  {name.ljust(width)}  {printable(value)}" for name, value in facts.items())


def wrapped_text(facts: Mapping[str, str]) -> str:
    """Lay out facts as `facts_text` does, long ones in several lines."""
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
