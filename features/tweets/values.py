"""Give one value one meaning, whatever the format of the file: ids, labels, and what is missing.

In come cells as a format has them (text, numbers, truth values, None), out come texts. pandas
writes whole numbers as `4.0` where a column has gaps, JSON has `4`, a table has text: all of them
are `4`. What can't be an id or a label is a `ValueError` that says why. Texts of tweets are never
changed here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What stands around a label or an id and is no part of it: blanks, and two characters without
# width; the second marks the beginning of a file, so that it is in the middle of two joined ones.
BLANKS = (
    " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u200b\ufeff"
)
# What pandas reads as missing by default, without its oddest ones. Only labels and ids: as the text
# of a tweet, each of them is a tweet.
MISSING = frozenset(
    ["", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "<NA>", "None", "null", "NULL", "NaT"]
)
# From here on, neighbouring whole numbers are the same float.
_EXACT = 2**53
_WHOLE_FLOAT = re.compile(r"([+-]?\d{1,300})\.0*")
# How spreadsheets show numbers that are too wide for a cell, and how Python writes large floats.
EXPONENT = re.compile(r"[+-]?\d+(\.\d+)?[eE]\+?\d+")
_PYTHON_FLOAT = re.compile(r"[+-]?\d+(\.\d+)?e\+\d+")


def is_missing(value: object) -> bool:
    """Whether a label or an id is missing."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and value.strip(BLANKS) in MISSING)


def label_of(value: object) -> str | None:
    """Give a label as text; None where it is missing.

    Examples
    --------
    >>> [label_of(value) for value in (2, 2.0, "2.0", " 2 ", True, "positive", "nan", None)]
    ['2', '2', '2', '2', 'True', 'positive', None, None]
    """
    if is_missing(value):
        return None
    if isinstance(value, str):
        text = value.strip(BLANKS)
        whole = _WHOLE_FLOAT.fullmatch(text)
        return _integer(whole[1]) if whole else text
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, float):
        raise ValueError("label is not a finite number")
    raise ValueError(f"label is {kind_of(value)}; it must be a text, a number, or true or false")


def id_of(value: object) -> str | None:
    """Give an id as text; None where it is missing.

    Examples
    --------
    >>> id_of(12), id_of(12.0), id_of("12.0"), id_of(" x "), id_of("NA")
    ('12', '12', '12', 'x', None)
    """
    if is_missing(value):
        return None
    if isinstance(value, str):
        text = value.strip(BLANKS)
        if _PYTHON_FLOAT.fullmatch(text):
            _check_exact(float(text), text)
        whole = _WHOLE_FLOAT.fullmatch(text)
        if whole is None:
            return text
        _check_exact(int(whole[1]), text)
        return _integer(whole[1])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"id is {kind_of(value)}; it must be a text or a number")
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise ValueError("id is not a finite number")
    _check_exact(value, repr(value))
    return str(int(value)) if value.is_integer() else repr(value)


def _check_exact(value: float, text: str) -> None:
    if abs(value) >= _EXACT:
        raise ValueError(
            f"id {text} is a floating-point number, which can't tell ids of this size apart; write "
            "ids as text or as whole numbers, or give an empty name for their column to go without"
        )


def _integer(digits: str) -> str:
    """Give a whole number as an integer is written: `+04` is 4, `-0` is 0."""
    return str(int(digits))


def whole_text(cells: Mapping[str, Any]) -> str | None:
    """Give the whole text of a tweet as Twitter's API has it, where `text` is cut; None elsewhere.

    In version 1.1 a retweet's own text is cut, and the retweeted one is not: it is `RT @name: ` and
    that. In version 2 a long tweet is a `note_tweet`.

    Examples
    --------
    >>> whole_text({"text": "so lo…", "extended_tweet": {"full_text": "so long"}})
    'so long'
    >>> whole_text({"text": "RT @a: so lo…", "retweeted_status": {"full_text": "so long"}})
    'RT @a: so long'
    >>> whole_text({"text": "all of it"}) is None
    True
    """
    retweeted = cells.get("retweeted_status")
    own = cells.get("full_text", cells.get("text"))
    if isinstance(retweeted, Mapping) and isinstance(own, str):
        inner = whole_text(retweeted) or retweeted.get("full_text") or retweeted.get("text")
        prefix = re.match(r"RT @\w+: ", own)
        if prefix and isinstance(inner, str):
            text = prefix[0] + inner
            return text if text != own else None
    extended, note = cells.get("extended_tweet"), cells.get("note_tweet")
    found = cells.get("full_text")
    if isinstance(extended, Mapping):
        found = extended.get("full_text")
    elif isinstance(note, Mapping):
        found = note.get("text")
    return found if isinstance(found, str) and found != cells.get("text") else None


@dataclass(frozen=True)
class Odd:
    """A value that is no text and no number: what it is, and how it starts."""

    kind: str
    start: str

    def __str__(self) -> str:
        return self.start


def kind_of(value: object) -> str:
    """Name a value's type as its user would."""
    if isinstance(value, Odd):
        return value.kind
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value)) or (
        "a number" if isinstance(value, int | float) else "not a text"
    )
