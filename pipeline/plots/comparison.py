"""Draw what `compare` found: a heat map of layers by poolings, and all views in order.

In comes a `Comparison`. The heat map is drawn where its views are a grid: at least two layers and
two ways to pool tokens, of which half the pairs or more are there. Computes nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from statistics import quantiles

from features.spec.pooling import parse_pooling
from pipeline.compare import Compared, Comparison
from pipeline.evaluation.metrics import METRICS
from pipeline.plots.files import Plot
from pipeline.plots.picture import (
    BLUE,
    INK,
    LINES,
    MUTED,
    PAPER,
    Circle,
    Line,
    Mark,
    Picture,
    Rect,
    Text,
    short,
)

# Views that a picture has room for; the best ones are drawn.
MOST_VIEWS = 100
_WIDTH, _MARGIN, _LEFT, _RIGHT, _LINE = 860, 16, 290, 90, 24
_CELL, _CELL_HEIGHT = 112, 30
# From the worst to the best cell: Brewer's blues, in order of lightness for the colour-blind too.
_SHADES = ("#deebf7", "#9ecae1", "#4292c6", "#2171b5", "#08306b")
_WHITE, _BLACK = "#fefefe", "#010101"  # on shades, which a dark page does not change

# The number of a view's encoder, where there are several.
_NUMBERED = re.compile(r"^(\d+:|)")

# The cells of a heat map, by layers and by how tokens are pooled.
_Grid = dict[tuple[str, str], Compared]


def comparison_plot(result: Comparison) -> Plot:
    """Draw a comparison."""
    metric = METRICS[result.metric].label
    views = "1 view" if len(result.lines) == 1 else f"{len(result.lines):,} views"
    title = f"{metric} of {views}, on {result.rows:,} rows"
    marks: list[Mark] = [Text(_MARGIN, 26, title, size=15, bold=True)]
    marks.append(
        Text(_MARGIN, 44, short(f"measured on {result.measured_on}", 110), size=11, fill=MUTED)
    )
    y, width = 76.0, float(_WIDTH)
    if grid := _grid(result.lines):
        columns = len(list(dict.fromkeys(column for _, column in grid)))
        width = max(width, _LEFT / 2 + columns * _CELL + 2 * _MARGIN)
        marks += _heat_map(grid, result, y)
        y += _CELL_HEIGHT * (2 + len({row for row, _ in grid})) + 24
    marks += _dots(result, y)
    height = y + _LINE * min(len(result.lines), MOST_VIEWS) + 92
    difference = ("difference from the best", "low", "high", "can be told from the best")
    heads = ("view", "D", "C", metric, *difference)
    return Plot(Picture(title, width, height, marks), heads, _rows(result))


def _rows(result: Comparison) -> list[list[object]]:
    return [
        [
            line.name,
            line.width,
            f"{line.C:g}",
            line.metrics.figures[result.metric],
            line.difference,
            *line.difference_interval,
            "best" if line is result.lines[0] else ("yes" if line.distinguishable else "no"),
        ]
        for line in result.lines
    ]


def _grid(lines: Sequence[Compared]) -> _Grid:
    """Give the cells of a heat map, ordered; empty where the views are no grid."""
    cells: _Grid = {}
    for line in lines:
        if len(line.views) == 1:
            encoder, view = _NUMBERED.split(line.views[0])[1:]
            tokens = parse_pooling(view).tokens
            row = view.removeprefix(tokens).removeprefix("@") or "-1"
            cells[row, encoder + tokens] = line
    rows = sorted({row for row, _ in cells}, key=_depth)
    columns = sorted({column for _, column in cells})
    if min(len(rows), len(columns)) < 2 or 2 * len(cells) < len(rows) * len(columns):
        return {}
    order = ((row, column) for row in rows for column in columns)
    return {place: cells[place] for place in order if place in cells}


def _depth(layers: str) -> tuple[int, int, str]:
    """Order layers: several together first, then the last one, and the embeddings at the end."""
    single = re.fullmatch(r"-?\d+", layers)
    if single is None:
        return (0, 0, layers)
    number = int(layers)
    return (1, -number, "") if number < 0 else (2, -number, "")


def _heat_map(grid: _Grid, result: Comparison, top: float) -> Iterator[Mark]:
    """Draw a cell for each view, the darker the better."""
    rows = list(dict.fromkeys(row for row, _ in grid))
    columns = sorted({column for _, column in grid})
    left = _LEFT / 2
    yield Text(_MARGIN, top, "Layers by poolings: the darker the better", size=13, bold=True)
    top += 14
    yield Text(left - 12, top + 20, "layers", anchor="end", fill=MUTED)
    for n, column in enumerate(columns):
        yield Text(left + (n + 0.5) * _CELL, top + 20, short(column, 16), anchor="middle")
    top += _CELL_HEIGHT
    figures = [line.metrics.figures[result.metric] for line in grid.values()]
    best = result.lines[0]
    for m, row in enumerate(rows):
        y = top + m * _CELL_HEIGHT
        name = {"-1": "-1, the last", "0": "0, the embeddings"}.get(row, row)
        yield Text(left - 12, y + 20, short(name, 18), anchor="end")
        for n, column in enumerate(columns):
            if (line := grid.get((row, column))) is not None:
                figure = line.metrics.figures[result.metric]
                goodness = _goodness(figure, figures, result.metric)
                yield from _cell(line, figure, goodness, (left + n * _CELL, y), line is best)


def _cell(
    line: Compared, figure: float, goodness: float, at: tuple[float, float], is_best: bool
) -> Iterator[Mark]:
    x, y = at
    fill = _shade(goodness)
    yield Rect(x + 1, y + 1, _CELL - 2, _CELL_HEIGHT - 2, fill, _tip(line, figure))
    alike = not is_best and not line.distinguishable
    text = f"{'~ ' if alike else ''}{figure:.4f}{', best' if is_best else ''}"
    ink = max(_WHITE, _BLACK, key=lambda colour: _contrast(colour, fill))
    yield Text(x + _CELL / 2, y + 20, text, anchor="middle", fill=ink, bold=is_best)


def _goodness(figure: float, figures: Sequence[float], metric: str) -> float:
    """Place a figure between 0, the worst that is no outlier, and 1, the best.

    One view that has learned nothing would else leave the same shade to all others.
    """
    sign = 1 if METRICS[metric].higher_is_better else -1
    ours = sorted(sign * one for one in figures)
    quarter, _, three_quarters = quantiles(ours, method="inclusive")
    low, high = max(ours[0], quarter - 1.5 * (three_quarters - quarter)), ours[-1]
    return max(0.0, (sign * figure - low) / (high - low)) if high > low else 1.0


def _shade(goodness: float) -> str:
    """Give the colour of a cell, between those of `_SHADES`."""
    place = goodness * (len(_SHADES) - 1)
    n = min(int(place), len(_SHADES) - 2)
    one, next_one = (bytes.fromhex(_SHADES[k][1:]) for k in (n, n + 1))
    mixed = (round(a + (b - a) * (place - n)) for a, b in zip(one, next_one, strict=True))
    return "#" + bytes(mixed).hex()


def _contrast(one: str, other: str) -> float:
    """Give the contrast of two colours as WCAG 2 has it, from 1 to 21."""

    def luminance(colour: str) -> float:
        parts = (part / 255 for part in bytes.fromhex(colour[1:]))
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _tip(line: Compared, figure: float) -> str:
    low, high = line.difference_interval
    difference = f"{line.difference:+.4f} ({low:+.4f} to {high:+.4f})"
    return f"{short(line.name, 200)}: {figure:.4f}, {difference}"


def _dots(result: Comparison, top: float) -> Iterator[Mark]:
    """Draw the views in order, each with its difference from the best and its interval."""
    lines, metric = result.lines[:MOST_VIEWS], METRICS[result.metric].label
    title = f"All views in order: difference in {metric} from the best, with 95 % intervals"
    if len(result.lines) > MOST_VIEWS:
        title += f" (the first {MOST_VIEWS} of {len(result.lines):,})"
    yield Text(_MARGIN, top, title, size=13, bold=True)
    top += 18
    ticks = _ticks(
        min(0.0, *(one.difference_interval[0] for one in lines), lines[0].difference),
        max(0.0, *(one.difference_interval[1] for one in lines), lines[0].difference),
    )
    span, bottom = _WIDTH - _LEFT - _RIGHT, top + _LINE * len(lines)

    def x(difference: float) -> float:
        return _LEFT + (difference - ticks[0]) / (ticks[-1] - ticks[0]) * span

    decimals = max(2, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    for tick in ticks:
        zero = abs(tick) < 1e-12
        yield Line(x(tick), top, x(tick), bottom, MUTED if zero else LINES)
        text = "0" if zero else f"{tick:+.{decimals}f}"
        yield Text(x(tick), bottom + 16, text, anchor="middle", size=10, fill=MUTED)
    for n, line in enumerate(lines):
        y = top + (n + 0.5) * _LINE
        figure = line.metrics.figures[result.metric]
        is_best = line is result.lines[0]
        yield Text(_LEFT - 16, y + 4, short(line.name, 42), anchor="end", bold=is_best)
        yield Text(_WIDTH - 16, y + 4, f"{figure:.4f}", anchor="end", bold=is_best)
        low, high = line.difference_interval
        if not is_best:
            yield Line(x(low), y, x(high), y, BLUE, 1.8)
        fill = BLUE if is_best or line.distinguishable else PAPER
        yield Circle(x(line.difference), y, 4, fill, BLUE, _tip(line, figure))
    yield from _legend(bottom + 46)


def _legend(y: float) -> Iterator[Mark]:
    x = float(_MARGIN)
    for fill, words in (
        (BLUE, "the best, or told from it by these rows"),
        (PAPER, "its interval holds 0: can't be told from the best (~)"),
    ):
        yield Circle(x + 6, y - 4, 4, fill, BLUE)
        yield Text(x + 18, y, words, size=11, fill=INK)
        x += 300


def _ticks(low: float, high: float) -> list[float]:
    """Give round numbers, evenly spaced, from at most `low` to at least `high`: three to eight."""
    span = high - low if high - low > 1e-9 else 0.01
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= span / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        first -= 1
    last = max(last, first + 2)
    return [n * step for n in range(first, last + 1)]
