r"""The tweet normaliser: raw text in, the text that the encoder reads out.

What it does is part of what makes two vectors comparable, so every normaliser has a versioned name
that goes into the spec (`tweeteval/1`). To change a rule is to add a version: give the new function
the next number, point the short name at it, and keep the old one, so that old heads still score.

It does not lower-case, stem or remove anything: the tokenizer of the model decides about that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from itertools import groupby

from features.errors import InputError
from features.spec.unescape import unescape

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


# Combining marks, in any order, on which Python's NFC takes no noticeable time: it is quadratic in
# the length of a run of them, and holds up all threads.
_FEW_MARKS = 256


def _short_link(match: re.Match[str]) -> str:
    link = match.group()
    return "http" + link[len(link.rstrip(AFTER_LINK)) :]


def _with_marks_in_order(text: str) -> str:
    """Bring many combining marks into canonical order, which makes their NFC quick and no other."""
    combining = unicodedata.combining
    if len(text) <= _FEW_MARKS or text.isascii():
        return text
    if sum(map(bool, map(combining, text))) <= _FEW_MARKS:
        return text
    parts: list[str] = []
    for _, run in groupby(
        (c for part in text for c in unicodedata.normalize("NFD", part)),
        key=lambda c: combining(c) > 0,
    ):
        parts.extend(sorted(run, key=combining))
    return "".join(parts)


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
    text = unicodedata.normalize("NFC", _with_marks_in_order(unescape(text)))
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
