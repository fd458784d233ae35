r"""The tweet normaliser: raw text in, the text that the encoder reads out.

What it does is part of what makes two vectors comparable, so every normaliser has a versioned name
that goes into the spec (`tweeteval/1`). To change a rule is to add a version: give the new function
the next number, point the short name at it, and keep the old one, so that old heads still score.

It does not lower-case, stem or remove anything: the tokenizer of the model decides about that.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from html.entities import html5

from features.errors import InputError

# A literal \uXXXX as data sets that went through a JSON dump carry it; a surrogate pair counts as
# one character, and half a pair is left as it is.
_ESCAPE = re.compile(
    r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})"
)

# Entities with their semicolon only: "AT&T" and "?a=1&copy=2" are not entities.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")

# Names without an underscore are those that others find the same units of a text by.
LINK = re.compile(
    r"https?://[^\s<>\"“”]*"
    r"|(?<![\w@./-])(?:www\.[^\s<>\"“”]+|(?:pic\.twitter\.com|t\.co)/[^\s<>\"“”]+)",
    re.IGNORECASE,
)
AFTER_LINK = ".,;:!?'’)]}…"

# Twitter's handles are ASCII. Not after a letter, a digit or another @ (an e-mail address), not
# before a Latin letter with an accent (then it is no handle), and not an amount or a time: "@5",
# "@10k", "@7pm". The possessive `++` keeps the look-ahead from being met by a shorter handle.
MENTION = re.compile(
    r"(?<![A-Za-z0-9_@\u00c0-\u024f])[@＠]"
    r"(?![0-9]++(?:k|m|bn|x|st|nd|rd|th|am|pm|a|p|h|hrs?|min|usd|eur|gbp|ish)?(?![A-Za-z0-9_]))"
    r"[A-Za-z0-9_]++(?![@\u00c0-\u024f\u0300-\u036f])"
)


# No encoder reads more of a text than this, and Python's NFC takes quadratic time on long runs of
# combining marks.
_MAX_CHARACTERS = 10_000


def _unescape(match: re.Match[str]) -> str:
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


def _short_link(match: re.Match[str]) -> str:
    link = match.group()
    return "http" + link[len(link.rstrip(AFTER_LINK)) :]


def tweeteval_1(text: str) -> str:
    r"""Bring a raw tweet into the form of the TweetEval data sets.

    Literal `\uXXXX` escapes and HTML entities are undone (once), the text is brought to Unicode's
    composed form (NFC), links become `http`, and mentions of users become `@user`. E-mail
    addresses, amounts such as `@5` and cashtags such as `$AAPL` stay. Texts are cut at 10,000
    characters.

    The conventions are those of Barbieri et al., "TweetEval: Unified Benchmark and Comparative
    Evaluation for Tweet Classification", 2020.

    Examples
    --------
    >>> tweeteval_1("@ana_b I\\u2019m in &lt;3 https://t.co/x1 (mail a@b.org, 3 tickets @5 $AAPL)")
    '@user I’m in <3 http (mail a@b.org, 3 tickets @5 $AAPL)'
    """
    text = text[:_MAX_CHARACTERS]
    if "\\u" in text:
        text = _ESCAPE.sub(_unescape, text)
    if "&" in text:
        text = _ENTITY.sub(_character, text)
    text = unicodedata.normalize("NFC", text)
    text = LINK.sub(_short_link, text)
    return MENTION.sub("@user", text)


def _unchanged(text: str) -> str:
    return text


NORMALIZERS: dict[str, Callable[[str], str]] = {"tweeteval/1": tweeteval_1, "none": _unchanged}
CURRENT = {"tweeteval": "tweeteval/1", "none": "none"}


def versioned_name(name: str) -> str:
    """Give the versioned name (`tweeteval/1`) for a short one (`tweeteval`) or for itself."""
    if name in NORMALIZERS:
        return name
    if name not in CURRENT:
        raise InputError(f"unknown normaliser {name!r}: choose one of {', '.join(CURRENT)}")
    return CURRENT[name]


def normalizer(name: str) -> Callable[[str], str]:
    """Give the function behind a short or a versioned name."""
    return NORMALIZERS[versioned_name(name)]
