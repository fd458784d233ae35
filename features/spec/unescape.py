r"""Undo what JSON dumps and web pages did to a text: literal `\uXXXX` escapes and HTML entities.

It needs nothing but Python: `frostline export` writes a copy of this file beside a tokenizer.
"""

from __future__ import annotations

import html
import re
from html.entities import html5

# A literal \uXXXX as data sets that went through a JSON dump carry it; a surrogate pair counts as
# one character, and half a pair is left as it is.
_ESCAPE = re.compile(
    r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})"
)

# Entities with their semicolon only: "AT&T" and "?a=1&copy=2" are not entities.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")

# No encoder reads more of a text than this.
_MAX_CHARACTERS = 10_000


def _escaped(match: re.Match[str]) -> str:
    high, low, single = match.groups()
    if single is None:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00))
    code = int(single, 16)
    # Half a surrogate pair is no character, and a control character is no text.
    return match.group() if 0xD800 <= code <= 0xDFFF or code < 0x20 else chr(code)


def _character(match: re.Match[str]) -> str:
    """Undo one entity; a name that HTML does not know stays, also if it begins like one."""
    entity = match.group()
    known = entity.startswith("&#") or entity[1:] in html5
    return html.unescape(entity) if known else entity


def unescape(text: str) -> str:
    r"""Cut a text at 10,000 characters, and undo its escapes, then its entities, once.

    Examples
    --------
    >>> unescape("I\\u2019m in &lt;3, AT&T &amp;lt; &#8364;5 &nosuch;")
    'I’m in <3, AT&T &lt; €5 &nosuch;'
    """
    text = text[:_MAX_CHARACTERS]
    if "\\u" in text:
        text = _ESCAPE.sub(_escaped, text)
    if "&" in text:
        text = _ENTITY.sub(_character, text)
    return text
