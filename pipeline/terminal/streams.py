"""Say what a stream can show: nothing is known of a pipe, a terminal has columns and colours."""

from __future__ import annotations

import os
from typing import TextIO

from pipeline.report.layout import COLUMNS, Look

# A terminal that is narrower gets lines of so many columns all the same.
_FEWEST_COLUMNS = 40


def look_of(stream: TextIO) -> Look | None:
    """Give the columns of a terminal, and whether it takes colours; None of a file or a pipe.

    The environment can say otherwise: `COLUMNS`, `NO_COLOR` (https://no-color.org) and `TERM=dumb`.
    """
    if not stream.isatty():
        return None
    colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Look(max(_FEWEST_COLUMNS, _columns(stream)), colours)


def _columns(stream: TextIO) -> int:
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns or COLUMNS
    except (OSError, ValueError):  # a terminal that does not say
        return COLUMNS
