"""Write a picture as SVG that needs no fonts, scripts or network. All text is escaped here."""

from __future__ import annotations

from html import escape

from pipeline.plots.picture import INK, PAPER, Circle, Line, Mark, Picture, Rect, Text


def svg_text(picture: Picture) -> str:
    """Give the text of an SVG file, or of an element of a page."""
    width, height, title = f"{picture.width:g}", f"{picture.height:g}", escape(picture.title)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" font-family="sans-serif" font-size="12" fill="{INK}">',
        f"<title>{title}</title>",
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        *map(_element, picture.marks),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _element(mark: Mark) -> str:
    match mark:
        case Rect(x, y, width, height, fill, tip):
            place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            return _with_tip("rect", f'{place} fill="{fill}"', tip)
        case Line(x1, y1, x2, y2, stroke, width):
            place = f'x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"'
            return f'<line {place} stroke="{stroke}" stroke-width="{width:g}"/>'
        case Circle(x, y, radius, fill, stroke, tip):
            place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"'
            look = f'fill="{fill}" stroke="{stroke}" stroke-width="1.5"'
            return _with_tip("circle", f"{place} {look}", tip)
        case Text(x, y, text, anchor, size, fill, bold):
            look = f'text-anchor="{anchor}" font-size="{size:g}" fill="{fill}"'
            weight = ' font-weight="bold"' if bold else ""
            return f'<text x="{x:.1f}" y="{y:.1f}" {look}{weight}>{escape(text)}</text>'


def _with_tip(name: str, attributes: str, tip: str) -> str:
    if not tip:
        return f"<{name} {attributes}/>"
    return f"<{name} {attributes}><title>{escape(tip)}</title></{name}>"
