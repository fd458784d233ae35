"""Draw the report's figures as SVG. In come facts as they are in `report.json`; out goes text.

Each drawing has the same width, so letters have the same size in all of them. Classes are told
apart by colour and by the dashes of their lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.page import axes, words
from pipeline.page.axes import BOTTOM, LEFT, RIGHT, TOP

# Colours that the style sheet has for classes; those beyond share one.
COLOURS = 8
# Of the drawing of changes: how high a line is, and from where to where changes are drawn.
_LINE, _CHANGES = 30, (150, 340)


def colour(k: int) -> str:
    """Name the colour of the k-th class."""
    return f"c{k}" if k < COLOURS else "c-rest"


def lengths(found: Mapping[str, Any]) -> str:
    """Draw how many tweets have how many tokens: counts (M,), edges (M + 1,)."""
    edges, counts = found["edges"], found["counts"]
    x, y = axes.across(edges[0], edges[-1]), axes.upward(0, max(*counts, 1) * 1.05)
    bars = []
    for low, high, n in zip(edges, edges[1:], counts, strict=False):
        left, right = x.at(low), x.at(high)
        bars.append(
            f'<rect class="bar" x="{left + 0.5:.1f}" y="{y.at(n):.1f}" '
            f'width="{max(right - left - 1, 0.5):.1f}" height="{BOTTOM - y.at(n):.1f}">'
            f"<title>{low:g} to {high:g} tokens: {n:,} tweets</title></rect>"
        )
    return axes.drawing(
        "Lengths of the tweets",
        f"From {edges[0]:g} to {edges[-1]:g} tokens, {found['truncated']:,} cut off.",
        axes.beside(y, axes.round_ticks(0, y.high, 5), "tweets", words.count),
        *bars,
        axes.below(x, axes.round_ticks(x.low, x.high), "tokens in a tweet", words.count),
    )


def choice(found: Mapping[str, Any]) -> str:
    """Draw the score of each C with one standard error, the plateau and what was chosen."""
    grid, metric = found["grid"], found["metric"]
    ends = [one["score"] + side * one["standard_error"] for one in grid for side in (-1, 1)]
    values = [one["C"] for one in grid]
    x = axes.across(min(values) / 1.5, max(values) * 1.5, is_log=True)
    y = axes.upward(*axes.room_for(ends))
    marks = []
    for one in grid:
        at, error = x.at(one["C"]), one["standard_error"]
        low, high = y.at(one["score"] - error), y.at(one["score"] + error)
        name = _part_in_choice(one)
        tip = f"C {words.short(one['C'])}: {words.figure(one['score'], metric)}, {name}"
        marks.append(axes.bar_between(at, low, high, "interval"))
        kind = "chosen" if one["chosen"] else "plateau" if one["plateau"] else "plain"
        marks.append(axes.dot(at, y.at(one["score"]), f"mark {kind}", tip, _size_of(one)))
    chosen = next((one for one in grid if one["chosen"]), None)
    said = "" if chosen is None else f"Chosen: C {words.short(chosen['C'])}."
    return axes.drawing(
        f"{words.title(metric)} by C",
        said,
        _beside_metric(y, metric),
        axes.line([(x.at(one["C"]), y.at(one["score"])) for one in grid], "thread"),
        *marks,
        axes.below(x, axes.decades(x.low, x.high), "C, the inverse of the penalty", words.short),
    )


def _beside_metric(y: axes.Axis, metric: str) -> str:
    """Draw the axis of a metric's values."""
    ticks = axes.round_ticks(y.low, y.high, 5)
    return axes.beside(y, ticks, words.spoken(metric), lambda v: words.figure(v, metric))


def _beside_shares(y: axes.Axis, title: str) -> str:
    """Draw an axis from 0 to 100 %."""
    return axes.beside(y, axes.round_ticks(0, 1, 6), title, lambda v: words.percent(v, 0))


def _part_in_choice(one: Mapping[str, Any]) -> str:
    names = [name for name in ("chosen", "best") if one[name]]
    return ", ".join(names) or ("on the plateau" if one["plateau"] else "worse than the plateau")


def _size_of(one: Mapping[str, Any]) -> float:
    return 6.0 if one["chosen"] else 4.0


def precision_recall(curves: Sequence[Mapping[str, Any]]) -> str:
    """Draw precision over recall, a line for each class."""
    x, y = axes.across(0, 1), axes.upward(0, 1)
    lines = [
        axes.line(
            [(x.at(r), y.at(p)) for r, p in zip(one["recall"], one["precision"], strict=True)],
            f"curve {colour(k)} dash{k % 4}",
        )
        for k, one in enumerate(curves)
        if one["recall"]
    ]
    said = "; ".join(
        f"{one['label']}: average precision {words.percent(one['average_precision'])}"
        for one in curves
    )
    return axes.drawing(
        "Precision over recall",
        said,
        _beside_shares(y, "precision"),
        *lines,
        axes.below(x, axes.round_ticks(0, 1, 6), "recall", lambda v: words.percent(v, 0)),
    )


def reliability(bins: Sequence[Mapping[str, Any]], name: str) -> str:
    """Draw how often predictions of a confidence are right, beside what they should be."""
    x, y = axes.across(0, 1), axes.upward(0, 1)
    most = max((one["rows"] for one in bins), default=1)
    dots = [
        axes.dot(
            x.at(one["confidence"]),
            y.at(one["accuracy"]),
            "mark plateau",
            f"{one['rows']:,} rows: confidence {words.percent(one['confidence'])}, "
            f"right {words.percent(one['accuracy'])}",
            2.5 + 5.5 * (one["rows"] / most) ** 0.5,
        )
        for one in bins
    ]
    through = [(x.at(one["confidence"]), y.at(one["accuracy"])) for one in bins]
    return axes.drawing(
        f"Reliability {name}",
        "Accuracy of predictions by their confidence; on the diagonal, both are the same.",
        _beside_shares(y, "right among predictions of that confidence"),
        axes.line([(LEFT, BOTTOM), (RIGHT, TOP)], "guide"),
        axes.line(through, "thread") if through else "",
        *dots,
        axes.below(x, axes.round_ticks(0, 1, 6), "confidence", lambda v: words.percent(v, 0)),
    )


def learning_curve(found: Mapping[str, Any]) -> str:
    """Draw a metric over the number of training rows, and what more rows would bring."""
    points, forecast, metric = found["points"], found["forecast"], found["metric"]
    every = [*points, forecast] if forecast else list(points)
    rows = [one["rows"] for one in every]
    x = axes.across(min(rows) / 1.1, max(rows) * 1.1, is_log=True)
    y = axes.upward(*axes.room_for([one[end] for one in every for end in ("low", "high")]))
    places = [(x.at(one["rows"]), y.at(one["value"])) for one in points]
    upper = [(x.at(one["rows"]), y.at(one["high"])) for one in points]
    lower = [(x.at(one["rows"]), y.at(one["low"])) for one in points]
    parts = [axes.area(upper, lower), axes.line(places, "curve c0")]
    if forecast:
        at, value = x.at(forecast["rows"]), y.at(forecast["value"])
        parts.append(axes.line([places[-1], (at, value)], "curve c1 dash1"))
        parts.append(axes.bar_between(at, y.at(forecast["low"]), y.at(forecast["high"]), "ahead"))
    for one in every:
        kind = "ahead-mark" if one is forecast else "chosen"
        tip = f"{one['rows']:,} rows: {words.figure(one['value'], metric)}"
        parts.append(axes.dot(x.at(one["rows"]), y.at(one["value"]), f"mark {kind}", tip))
    return axes.drawing(
        f"{words.title(metric)} by training rows",
        "With its interval, and what is expected of more rows.",
        _beside_metric(y, metric),
        *parts,
        axes.below(x, _some_of(rows), "labelled rows", words.count),
    )


def _some_of(rows: Sequence[float]) -> list[float]:
    """Give numbers of rows for the ticks, from the largest, each at most 0.6 of the one before."""
    ticks: list[float] = []
    for n in sorted(rows, reverse=True):
        if not ticks or n <= 0.6 * ticks[-1]:
            ticks.append(n)
    return ticks[:5]


def differences(found: Sequence[Mapping[str, Any]]) -> str:
    """Draw the change of each metric with its interval; shares have one scale, losses another."""
    height = _LINE * len(found) + 8
    parts = []
    for n, one in enumerate(found):
        y = _LINE * (n + 0.5) + 4
        x = _scale_of(
            [o for o in found if words.is_share(o["name"]) == words.is_share(one["name"])]
        )
        low, high, at = x.at(one["low"]), x.at(one["high"]), x.at(one["difference"])
        tip = words.difference(one["difference"], one["name"])
        parts += [
            axes.label(4, y + 4, words.title(one["name"])),
            f'<path class="interval" d="M{low:.1f} {y:.1f}H{high:.1f}"/>',
            axes.dot(at, y, "mark chosen", tip),
        ]
    zero = f'<path class="axis" d="M{axes.Axis(-1, 1, *_CHANGES).at(0):.1f} 2V{height - 2}"/>'
    said = "; ".join(f"{o['name']} {words.difference(o['difference'], o['name'])}" for o in found)
    return axes.drawing("What changed", said, zero, *parts, height=height)


def _scale_of(found: Sequence[Mapping[str, Any]]) -> axes.Axis:
    """Give the axis, with zero in its middle, that all these changes fit on."""
    most = max(abs(one[end]) for one in found for end in ("low", "high", "difference")) or 1.0
    return axes.Axis(-most, most, *_CHANGES)
