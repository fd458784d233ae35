"""Write a picture as PNG with Pillow, which is an extra and is imported where it is needed alone.

Text is drawn in the font that Pillow brings along, or in one of this machine where characters are
missing in it; a character that no font has is an error and never an empty box.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from features.base.shown import shown
from features.errors import InputError
from pipeline.plots.picture import PAPER, Circle, Line, Mark, Picture, Rect, Text

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

# Pixels of the file for one of the picture, and pixels that are drawn for one of the file, which
# smooths edges.
_SCALE, _SMOOTHING = 2, 2
_MOST_PIXELS = 60e6  # that are drawn
# Of most machines, by the names that Pillow finds them by.
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")
_NOWHERE = "\U0010fffd"  # a character that no font has


def check_pillow() -> None:
    """Refuse to draw PNG where Pillow is missing.

    Raises
    ------
    InputError
    """
    try:
        import PIL.ImageDraw
        import PIL.ImageFont  # noqa: F401
    except ImportError as error:
        raise InputError(
            "a PNG is drawn with Pillow, which is not installed: pip install "
            "'frostline[plots]', or give `plot` a name that ends in .svg or .html"
        ) from error


def png_bytes(picture: Picture) -> bytes:
    """Give the content of a PNG file, twice as many pixels wide as the picture.

    Raises
    ------
    InputError
        Pillow is missing, the picture is too large, or no font has a character of it.
    """
    check_pillow()
    from PIL import Image, ImageDraw

    scale = _SCALE * _SMOOTHING
    size = (round(picture.width * scale), round(picture.height * scale))
    if size[0] * size[1] > _MOST_PIXELS:
        raise InputError(
            f"a PNG of {picture.width:,.0f} x {picture.height:,.0f} points is too large; give "
            "`plot` a name that ends in .svg or .html"
        )
    font = _font("".join(mark.text for mark in picture.marks if isinstance(mark, Text)))
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    for mark in picture.marks:
        _draw(draw, mark, scale, font)
    width, height = size
    image = image.resize((width // _SMOOTHING, height // _SMOOTHING), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, dpi=(96 * _SCALE, 96 * _SCALE))
    return file.getvalue()


def _font(text: str) -> FreeTypeFont:
    """Give the first font that has all characters of a text."""
    from PIL import ImageFont

    characters = sorted(set(text) - {" "})
    missing = ""
    for name in ("", *_FONTS):
        try:
            font = ImageFont.truetype(name, 48) if name else ImageFont.load_default(48)
        except OSError:  # not on this machine
            continue
        if not isinstance(font, ImageFont.FreeTypeFont):
            raise InputError(
                "this Pillow draws no fonts (it lacks FreeType); give `plot` a name that ends in "
                ".svg or .html"
            )
        lacking = [one for one in characters if _same_glyph(font, one, _NOWHERE)]
        if not lacking:
            return font
        missing = lacking[0]
    raise InputError(
        f"no font on this machine has the character {shown(missing)}, which the picture needs; "
        "give `plot` a name that ends in .svg or .html"
    )


def _same_glyph(font: FreeTypeFont, one: str, other: str) -> bool:
    return bytes(font.getmask(one)) == bytes(font.getmask(other))


def _draw(draw: ImageDraw, mark: Mark, scale: int, font: FreeTypeFont) -> None:
    match mark:
        case Rect(x, y, width, height, fill, _):
            corners = (x * scale, y * scale, (x + width) * scale - 1, (y + height) * scale - 1)
            draw.rectangle(corners, fill=fill)
        case Line(x1, y1, x2, y2, stroke, width):
            ends = (x1 * scale, y1 * scale, x2 * scale, y2 * scale)
            draw.line(ends, fill=stroke, width=round(width * scale))
        case Circle(x, y, radius, fill, stroke, _):
            draw.circle(
                (x * scale, y * scale),
                (radius + 0.75) * scale,
                fill=fill,
                outline=stroke,
                width=round(1.5 * scale),
            )
        case Text(x, y, text, anchor, size, fill, bold):
            draw.text(
                (x * scale, y * scale),
                text,
                fill=fill,
                font=font.font_variant(size=size * scale),
                anchor={"start": "ls", "middle": "ms", "end": "rs"}[anchor],
                stroke_width=0.02 * size * scale if bold else 0,
            )
