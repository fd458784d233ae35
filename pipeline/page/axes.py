"""Place values on a drawing: axes with ticks, and a frame of two of them. SVG text out.

Colours come from the page's style sheet by the names of classes, so one drawing serves the light
and the dark page, and print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.page.words import escaped

# Of all drawings, in units of about a pixel: as wide as a phone has room for.
WIDTH, HEIGHT = 360, 272
LEFT, RIGHT, TOP, BOTTOM = 52, 338, 34, 228


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`, drawn from `start` to `end`; `is_log` where decades are equal.

    Examples
    --------
    >>> Axis(0, 1, 100, 200).at(0.25), Axis(0.01, 1, 0, 100, is_log=True).at(0.1)
    (125.0, 50.0)
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Give the place of a value; those beyond an end are at the end."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        part = (value - low) / (high - low) if high > low else 0.5
        return self.start + part * (self.end - self.start)


def across(low: float, high: float, *, is_log: bool = False) -> Axis:
    """Give the horizontal axis of a drawing."""
    return Axis(low, high, LEFT, RIGHT, is_log)


def upward(low: float, high: float) -> Axis:
    """Give the vertical axis of a drawing."""
    return Axis(low, high, BOTTOM, TOP)


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Give round values from `low` to `high`, at most `most` of them: steps of 1, 2 or 5.

    Examples
    --------
    >>> round_ticks(0, 1), round_ticks(0.631, 0.702)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.64, 0.66, 0.68, 0.7])
    """
    if not high > low:
        return [low]
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [float(f"{n * step:.10g}") for n in range(first, last + 1)]
    return [low, high]


def decades(low: float, high: float) -> list[float]:
    """Give the powers of ten from `low` to `high`."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [float(f"1e{n}") for n in range(first, last + 1)]


def room_for(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """Give the ends of an axis that holds these values, with some room at both ends."""
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * share
    return low - room, high + room


def drawing(name: str, description: str, *parts: str, height: float = HEIGHT) -> str:
    """Put a drawing's parts together; a reader that sees nothing gets name and description."""
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escaped(f"{name}. {description}")}">' + "".join(parts) + "</svg>"
    )


def below(axis: Axis, ticks: Sequence[float], title: str, shown: Callable[[float], str]) -> str:
    """Draw a horizontal axis below the drawing's field, its title under it."""
    parts = [f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>']
    for tick in ticks:
        x = axis.at(tick)
        parts.append(f'<path class="axis" d="M{x:.1f} {BOTTOM}v4"/>')
        parts.append(label(x, BOTTOM + 17, shown(tick), anchor="middle"))
    parts.append(label((LEFT + RIGHT) / 2, BOTTOM + 36, title, anchor="middle"))
    return "".join(parts)


def beside(axis: Axis, ticks: Sequence[float], title: str, shown: Callable[[float], str]) -> str:
    """Draw a vertical axis left of the drawing's field, with a line across at each tick.

    Its title is above it: upright letters are hard to read on a phone.
    """
    parts = [label(4, 14, title)]
    for tick in ticks:
        y = axis.at(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(label(LEFT - 7, y + 4, shown(tick), anchor="end"))
    return "".join(parts)


def label(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    """Write text on a drawing."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(text)}</text>'


def line(points: Sequence[tuple[float, float]], classes: str) -> str:
    """Draw a line through places."""
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{classes}" d="M{path}"/>'


def area(upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]]) -> str:
    """Fill what lies between two lines."""
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in [*upper, *reversed(lower)])
    return f'<path class="band" d="M{path}Z"/>'


def bar_between(x: float, low: float, high: float, classes: str) -> str:
    """Draw an interval upright at `x`, with caps."""
    return (
        f'<path class="{classes}" d="M{x:.1f} {low:.1f}V{high:.1f}M{x - 3:.1f} {low:.1f}h6'
        f'M{x - 3:.1f} {high:.1f}h6"/>'
    )


def dot(x: float, y: float, classes: str, tip: str, radius: float = 3.5) -> str:
    """Draw a dot that says what it is where a pointer rests on it."""
    return (
        f'<circle class="{classes}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
        f"<title>{escaped(tip)}</title></circle>"
    )
