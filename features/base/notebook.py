"""Show facts and tables in a notebook: names and cells in, a small piece of HTML out.

All text is escaped, cut where it is long, and has no control characters in it. What a notebook
shows is styled by the notebook itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from features.base.shown import NOT_UNICODE, printable

MOST_ROWS = 30  # of a table
_MOST_CHARACTERS = 200  # of a cell


def facts_html(title: str, facts: Mapping[str, object]) -> str:
    """Give facts by name, in a table of two columns below a title.

    Examples
    --------
    >>> facts_html("A head", {"labels": "<b>"})
    '<strong>A head</strong><table><tr><th>labels</th><td>&lt;b&gt;</td></tr></table>'
    """
    rows = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in facts.items()
    )
    return f"<strong>{_text(title)}</strong><table>{rows}</table>"


def table_html(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Give a table; of many rows the first ones, and how many more there are.

    Examples
    --------
    >>> table_html(["class", "rows"], [["neutral", 3]])
    '<table><tr><th>class</th><th>rows</th></tr><tr><td>neutral</td><td>3</td></tr></table>'
    """
    lines = ["".join(f"<th>{_text(head)}</th>" for head in heads)]
    lines += ["".join(f"<td>{_text(cell)}</td>" for cell in row) for row in rows[:MOST_ROWS]]
    left = len(rows) - MOST_ROWS
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>{table}</table>" + (f"<p>… and {left:,} more</p>" if left > 0 else "")


def _text(value: object) -> str:
    text = printable(NOT_UNICODE.sub("\ufffd", str(value)[: _MOST_CHARACTERS + 1]))
    return escape(text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…")
