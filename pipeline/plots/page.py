"""Write a picture as a page of HTML: the picture, and the numbers in it as a table.

The page is one file that needs nothing from outside, and says so to the browser. It has a light and
a dark look; the picture's own colours are changed by its style sheet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from features.base.shown import NOT_UNICODE, printable
from pipeline.plots.picture import INK, LINES, MUTED, PAPER, Picture
from pipeline.plots.svg import svg_text

_STYLE = f"""
:root {{ color-scheme: light dark; }}
body {{ margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem; color: {INK}; background: {PAPER};
  font: 16px/1.5 system-ui, sans-serif; }}
h2 {{ font-size: 1.1rem; }}
.unseen {{ position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.2rem 0.7rem; border-bottom: 1px solid {LINES}; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; overflow-wrap: anywhere; }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #e8e8e8; background: #1b1b1b; }}
  th, td {{ border-color: #444444; }}
  svg, svg [fill="{INK}"] {{ fill: #e8e8e8; }}
  svg [fill="{MUTED}"] {{ fill: #b0b0b0; }}
  svg [fill="{PAPER}"] {{ fill: #1b1b1b; }}
  svg [stroke="{LINES}"] {{ stroke: #444444; }}
  svg [stroke="{MUTED}"] {{ stroke: #b0b0b0; }}
  svg [stroke="{INK}"] {{ stroke: #e8e8e8; }}
}}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page_text(picture: Picture, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Give the text of an HTML file.

    Parameters
    ----------
    picture : Picture
    columns : sequence of str
        Heads of the table below it.
    rows : iterable of sequences
        Its cells, from files too.
    """
    title = escape(picture.title)
    heads = "".join(f'<th scope="col">{_cell(name)}</th>' for name in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1 class="unseen">{title}</h1>
<div class="wide" role="region" aria-label="The picture" tabindex="0">
{svg_text(picture)}</div>
<h2>The numbers</h2>
<div class="wide" role="region" aria-label="The numbers" tabindex="0">
<table>
<thead><tr>{heads}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>
</main>
</body>
</html>
"""


def _cell(value: object) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return escape(printable(NOT_UNICODE.sub("\ufffd", text)))
