"""Write text and tables as Markdown: whatever a text holds, it is shown as it is.

Escaped text can make no link, picture, heading, table or HTML, and it moves no cursor where the
Markdown is printed. Long texts are cut.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from features.base.shown import NOT_UNICODE, printable

# What means something in Markdown gets a backslash; HTML, names of people and links are written as
# references. Nothing that is escaped begins a line.
_ESCAPES = str.maketrans(
    {c: f"\\{c}" for c in "\\`*_[]|~#>$"} | {"&": "&amp;", "<": "&lt;", "@": "&#64;", ":": "&#58;"}
)
# What GitHub and the hub make a link of without any mark.
_BARE_LINK = re.compile(r"(www)\.", re.IGNORECASE)
# Characters of a text that are shown.
_SHOWN = 280


def escaped(text: object, most: int | None = _SHOWN) -> str:
    r"""Write any text so that it is shown as it is, on one line.

    Examples
    --------
    >>> print(escaped("<b> *hi* [a](b) @you"))
    &lt;b\> \*hi\* \[a\](b) &#64;you
    """
    line = printable(NOT_UNICODE.sub("\ufffd", " ".join(str(text).split())))
    if most is not None and len(line) > most:
        line = line[: most - 1] + "…"
    return _BARE_LINK.sub(r"\1&#46;", line.translate(_ESCAPES))


def table(head: Sequence[str], rows: Sequence[Sequence[object]], most: int | None = _SHOWN) -> str:
    """Write a table; strings in it are escaped, and cut to `most` characters."""
    cells = [[_cell(one, most) for one in row] for row in rows]
    lines = [[escaped(one) for one in head], ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object, most: int | None) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else escaped(value, most)
