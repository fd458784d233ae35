"""Draw the shares of the classes: an SVG of one panel a class, and one line a group.

In come `Quantities`, out goes the text of an SVG file that needs no fonts, scripts or network. All
that comes from files is escaped. It computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from features.base.shown import NOT_UNICODE, printable
from pipeline.scoring.quantify import Quantities, Quantity

# Groups that a picture has room for; the first ones are drawn.
MOST_GROUPS = 100
_LINE, _TOP, _LEFT, _PANEL, _GAP, _BOTTOM = 24, 56, 170, 190, 24, 64
_EM, _ADJUSTED, _COUNTED, _GREY, _INK = "#0072b2", "#d55e00", "#777777", "#dddddd", "#222222"


def shares_svg(found: Quantities) -> str:
    """Draw shares and intervals: EM above, adjusted count below it, plain counting as a tick."""
    groups = found.groups[:MOST_GROUPS]
    lines = [found.all, *groups]
    width = _LEFT + len(found.labels) * (_PANEL + _GAP)
    height = _TOP + _LINE * len(lines) + _BOTTOM
    title = f"Shares of the classes in {found.all.shift.rows:,} rows"
    if found.by is not None:
        title += f", by {_safe(found.by)}"
    if len(found.groups) > MOST_GROUPS:
        title += f" (the first {MOST_GROUPS} of {len(found.groups):,})"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" font-family="sans-serif" font-size="12" fill="{_INK}">',
        f"<title>{title}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="22" font-size="14" font-weight="bold">{title}</text>',
    ]
    for n, one in enumerate(lines):
        parts += _name(one, _TOP + _LINE * n + _LINE / 2)
    for k, label in enumerate(found.labels):
        left = _LEFT + k * (_PANEL + _GAP)
        parts += _frame(label, left, _TOP + _LINE * len(lines))
        for n, one in enumerate(lines):
            parts += _marks(one, k, left, _TOP + _LINE * n + _LINE / 2)
    parts += _legend(height - 18)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _safe(text: str, most: int = 40) -> str:
    text = printable(NOT_UNICODE.sub("\ufffd", text))
    return escape(text if len(text) <= most else text[: most - 1] + "…")


def _name(one: Quantity, y: float) -> Iterator[str]:
    """Write what a line is of, and of how many rows."""
    name = "all rows" if one.group is None else _safe(one.group, 18)
    weight = ' font-weight="bold"' if one.group is None else ""
    fill = f' fill="{_COUNTED}" font-style="italic"' if one.is_small else ""
    yield f'<text x="12" y="{y + 4:.1f}"{weight}{fill}>{name}</text>'
    yield (
        f'<text x="{_LEFT - 14}" y="{y + 4:.1f}" text-anchor="end" fill="{_COUNTED}">'
        f"{one.shift.rows:,}</text>"
    )


def _frame(label: str, left: float, bottom: float) -> Iterator[str]:
    """Draw the axis of a class."""
    middle = left + _PANEL / 2
    yield (
        f'<text x="{middle}" y="{_TOP - 10}" text-anchor="middle" font-weight="bold">'
        f"{_safe(label, 24)}</text>"
    )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + share * _PANEL
        yield f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom}" stroke="{_GREY}"/>'
        yield (
            f'<text x="{x}" y="{bottom + 16}" text-anchor="middle" fill="{_COUNTED}" '
            f'font-size="10">{share:.0%}</text>'
        )


def _marks(one: Quantity, k: int, left: float, y: float) -> Iterator[str]:
    """Draw the shares of a class in a line."""

    def x(share: float) -> str:
        return f"{left + share * _PANEL:.1f}"

    counted = x(one.shift.counted[k])
    yield (
        f'<line x1="{counted}" x2="{counted}" y1="{y - 8}" y2="{y + 8}" stroke="{_COUNTED}" '
        'stroke-width="1.5"/>'
    )
    for share, (low, high), colour, offset in (
        (one.shift.shares[k], one.shift.intervals[k], _EM, -3.5),
        (one.adjusted.shares[k], one.adjusted.intervals[k], _ADJUSTED, 3.5),
    ):
        fill = "#ffffff" if one.is_small else colour
        at = f"{y + offset:.1f}"
        yield (
            f'<line x1="{x(low)}" x2="{x(high)}" y1="{at}" y2="{at}" stroke="{colour}" '
            'stroke-width="1.8"/>'
        )
        yield (
            f'<circle cx="{x(share)}" cy="{at}" r="3" fill="{fill}" stroke="{colour}" '
            'stroke-width="1.5"/>'
        )


def _legend(y: float) -> Iterator[str]:
    x = 12
    for words, colour in (
        ("EM, 95 % interval", _EM),
        ("adjusted count, 95 % interval", _ADJUSTED),
        ("plain count", _COUNTED),
    ):
        yield f'<rect x="{x}" y="{y - 8}" width="14" height="4" fill="{colour}"/>'
        yield f'<text x="{x + 20}" y="{y}" font-size="11">{words}</text>'
        x += 32 + 7 * len(words)
