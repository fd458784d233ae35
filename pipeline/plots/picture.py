"""The marks that a picture is made of: rectangles, lines, circles and text, in pixels from the top.

A mark holds text as it came from a file, cut by `short`. Who writes a picture in a format escapes
it; nothing is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.base.shown import NOT_UNICODE, printable

INK, MUTED, LINES, PAPER = "#222222", "#666666", "#dddddd", "#ffffff"
BLUE, ORANGE = "#0072b2", "#d55e00"  # told apart by the colour-blind as well


@dataclass(frozen=True)
class Rect:
    """A filled rectangle; `tip` is shown where the pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    tip: str = ""


@dataclass(frozen=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    stroke: str
    width: float = 1


@dataclass(frozen=True)
class Circle:
    """A circle with a border; `tip` is shown where the pointer rests on it."""

    x: float
    y: float
    radius: float
    fill: str
    stroke: str
    tip: str = ""


@dataclass(frozen=True)
class Text:
    """One line of text; `anchor` says what `x` is: its `start`, `middle` or `end`."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    size: float = 12
    fill: str = INK
    bold: bool = False


Mark = Rect | Line | Circle | Text


@dataclass(frozen=True)
class Picture:
    """Marks on white paper, in the order in which they are drawn.

    Attributes
    ----------
    title : str
        Says what the picture shows, to those who do not see it too; it is among the marks as well.
    width, height : float
        In pixels.
    marks : sequence of Mark
    """

    title: str
    width: float
    height: float
    marks: Sequence[Mark]


def short(text: str, most: int = 40) -> str:
    """Make one printable line of a text, cut behind `most` characters."""
    text = printable(NOT_UNICODE.sub("\ufffd", text))
    return text if len(text) <= most else text[: most - 1] + "…"
