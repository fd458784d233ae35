"""Show text from files on a terminal: nothing in it may move the cursor or change colours.

In comes any text, or a size, out comes text that can be printed. Nothing is printed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from itertools import islice

from features.errors import reworded

# Names that are listed, before the rest is counted.
_LISTED = 8
# What UTF-8 can't write, and what no text file may hold.
NOT_UNICODE = re.compile("[\ud800-\udfff\x00]")


def shown(text: str) -> str:
    """Give the start of something from a file, quoted and safe to print on a terminal."""
    return printable(json.dumps(NOT_UNICODE.sub("\ufffd", text[:60]), ensure_ascii=False))


def listed(names: Collection[str]) -> str:
    """Give the first of some names from a file, and how many more there are."""
    first = [shown(name) for name in islice(names, _LISTED)]
    rest = len(names) - len(first)
    return (", ".join(first) or "none") + (f" and {rest:,} more" if rest else "")


def size(n_bytes: int) -> str:
    """Give a number of bytes in MB, GB or TB.

    Examples
    --------
    >>> size(2_500_000), size(21_000_000_000), size(31_300_000_000_000)
    ('2.5 MB', '21.0 GB', '31.3 TB')
    """
    if n_bytes >= 1e12:
        return f"{n_bytes / 1e12:,.1f} TB"
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"


def printable(text: str) -> str:
    """Write control characters, also those that change the direction of text, as JSON escapes."""
    text = reworded(text)
    if text.isprintable():
        return text
    # JSON leaves DEL, the one control character beyond the first 32 that is ASCII, as it is.
    return "".join(
        c if c.isprintable() else json.dumps(c)[1:-1].replace("\x7f", "\\u007f") for c in text
    )
