"""Draw the shares of the classes: one panel a class, and one line a group. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.plots.files import Plot
from pipeline.plots.picture import (
    BLUE,
    INK,
    LINES,
    MUTED,
    ORANGE,
    PAPER,
    Circle,
    Line,
    Mark,
    Picture,
    Rect,
    Text,
    short,
)
from pipeline.scoring.quantify import COLUMNS, Quantities, Quantity

# Groups that a picture has room for; the first ones are drawn.
MOST_GROUPS = 100
_LINE, _TOP, _LEFT, _PANEL, _GAP, _BOTTOM = 24, 56, 170, 190, 24, 64


def shares_plot(found: Quantities) -> Plot:
    """Draw shares and intervals: EM above, adjusted count below it, plain counting as a tick."""
    groups = found.groups[:MOST_GROUPS]
    lines = [found.all, *groups]
    width = _LEFT + len(found.labels) * (_PANEL + _GAP)
    height = _TOP + _LINE * len(lines) + _BOTTOM
    title = f"Shares of the classes in {found.all.shift.rows:,} rows"
    if found.by is not None:
        title += f", by {short(found.by)}"
    if len(found.groups) > MOST_GROUPS:
        title += f" (the first {MOST_GROUPS} of {len(found.groups):,})"
    marks: list[Mark] = [Text(12, 22, title, size=14, bold=True)]
    for n, one in enumerate(lines):
        marks += _name(one, _TOP + _LINE * n + _LINE / 2)
    for k, label in enumerate(found.labels):
        left = _LEFT + k * (_PANEL + _GAP)
        marks += _frame(label, left, _TOP + _LINE * len(lines))
        for n, one in enumerate(lines):
            marks += _marks(one, k, left, _TOP + _LINE * n + _LINE / 2)
    marks += _legend(height - 18)
    rows = [[row[column] for column in COLUMNS] for row in found.rows()]
    return Plot(Picture(title, width, height, marks), COLUMNS, rows)


def _name(one: Quantity, y: float) -> Iterator[Mark]:
    """Write what a line is of, and of how many rows."""
    name = "all rows" if one.group is None else short(one.group, 18)
    fill = MUTED if one.is_small else INK
    yield Text(12, y + 4, name, fill=fill, bold=one.group is None)
    yield Text(_LEFT - 14, y + 4, f"{one.shift.rows:,}", anchor="end", fill=MUTED)


def _frame(label: str, left: float, bottom: float) -> Iterator[Mark]:
    """Draw the axis of a class."""
    yield Text(left + _PANEL / 2, _TOP - 10, short(label, 24), anchor="middle", bold=True)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + share * _PANEL
        yield Line(x, _TOP, x, bottom, LINES)
        yield Text(x, bottom + 16, f"{share:.0%}", anchor="middle", size=10, fill=MUTED)


def _marks(one: Quantity, k: int, left: float, y: float) -> Iterator[Mark]:
    """Draw the shares of a class in a line."""
    counted = left + one.shift.counted[k] * _PANEL
    yield Line(counted, y - 8, counted, y + 8, MUTED, 1.5)
    for share, (low, high), colour, offset in (
        (one.shift.shares[k], one.shift.intervals[k], BLUE, -3.5),
        (one.adjusted.shares[k], one.adjusted.intervals[k], ORANGE, 3.5),
    ):
        at = y + offset
        yield Line(left + low * _PANEL, at, left + high * _PANEL, at, colour, 1.8)
        fill = PAPER if one.is_small else colour
        tip = f"{share:.3f} ({low:.3f} to {high:.3f})"
        yield Circle(left + share * _PANEL, at, 3, fill, colour, tip)


def _legend(y: float) -> Iterator[Mark]:
    x = 12
    for words, colour in (
        ("EM, 95 % interval", BLUE),
        ("adjusted count, 95 % interval", ORANGE),
        ("plain count", MUTED),
    ):
        yield Rect(x, y - 8, 14, 4, colour)
        yield Text(x + 20, y, words, size=11)
        x += 32 + 7 * len(words)
