"""Write a result as a picture, in the format that the name of the file says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features.base.atomic import replacing
from features.errors import InputError
from pipeline.plots.page import page_text
from pipeline.plots.picture import Picture
from pipeline.plots.png import check_pillow, png_bytes
from pipeline.plots.svg import svg_text

FORMATS = (".svg", ".png", ".html")


@dataclass(frozen=True)
class Plot:
    """A picture, and the numbers in it: heads and cells of a table."""

    picture: Picture
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def check_plot(path: Path | None) -> None:
    """Refuse a name that says no format that can be written here, before the work.

    Raises
    ------
    InputError
    """
    if path is None:
        return
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"{path}: unknown format; the name of a plot must end in {', '.join(FORMATS[:-1])} or "
            f"{FORMATS[-1]}"
        )
    if path.suffix.lower() == ".png":
        check_pillow()


def write_plot(plot: Plot, path: Path) -> None:
    """Write a plot to a file that appears whole.

    Raises
    ------
    InputError
        See `check_plot` and `png_bytes`.
    """
    check_plot(path)
    kind = path.suffix.lower()
    if kind == ".png":
        content = png_bytes(plot.picture)
    elif kind == ".html":
        content = page_text(plot.picture, plot.columns, plot.rows).encode()
    else:
        content = svg_text(plot.picture).encode()
    with replacing(path) as aside:
        aside.write_bytes(content)
