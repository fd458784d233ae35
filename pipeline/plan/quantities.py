"""Read the numbers that a plan is asked with, as people write them: 10e9, 10_000_000_000, 10B.

In goes a text, or a number, out comes a number that is checked; what is no such number is an
`InputError` that names the option. Nothing is computed here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from features.errors import InputError

_SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_NUMBER = re.compile(
    r"(\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)?(\.\d+)?(e[+-]?\d{1,3})?\s*([kmbgt]?)",
    re.IGNORECASE | re.ASCII,
)
MOST_ROWS = 10**15
# Of rates, prices and times.
_LEAST, _MOST = 1e-6, 1e15


@dataclass(frozen=True)
class Stragglers:
    """How many shards take how much longer: a share of them, and by which factor."""

    share: float
    factor: float


def rows_of(text: str | int | float, name: str = "rows") -> int:
    """Read a number of rows; `name` is that of the parameter.

    Raises
    ------
    InputError
        It is none, is not whole, is 0 or is above `MOST_ROWS`.

    Examples
    --------
    >>> rows_of("10e9") == rows_of("10_000_000_000") == rows_of("10B") == rows_of("10,000,000,000")
    True
    """
    value = _value(str(text))
    if value is None or value != int(value) or not 1 <= value <= MOST_ROWS:
        raise InputError(
            f"`{name}` is {str(text)!r}; give a whole number from 1 to 1e15, e.g. 2500000, "
            "10_000_000_000, 10e9, 250k, 100M or 10B"
        )
    return int(value)


def positive(text: str | float, name: str, example: str) -> float:
    """Read a number above 0, within what any machine has.

    Raises
    ------
    InputError
    """
    value = _value(str(text))
    if value is None or not _LEAST <= value <= _MOST:
        raise InputError(
            f"`{name}` is {str(text)!r}; give a number above 0, e.g. {example} (from {_LEAST:g} to "
            f"{_MOST:g})"
        )
    return value


def at_least_zero(value: float, name: str) -> float:
    """Check a number that may be 0.

    Raises
    ------
    InputError
    """
    if not 0 <= value <= _MOST:
        raise InputError(f"`{name}` is {value!r}; give a number from 0 to {_MOST:g}")
    return value


def stragglers_of(text: str) -> Stragglers:
    """Read ``SHARE:FACTOR``.

    Raises
    ------
    InputError

    Examples
    --------
    >>> stragglers_of("0.02:4"), stragglers_of("2%:4") == stragglers_of("0.02:4")
    (Stragglers(share=0.02, factor=4.0), True)
    """
    share_text, colon, factor_text = text.partition(":")
    percent = share_text.strip().endswith("%")
    share, factor = _value(share_text.strip().rstrip("%")), _value(factor_text.strip())
    if share is not None and percent:
        share /= 100
    if not colon or share is None or factor is None or not share <= 1 or not 1 <= factor <= 1e6:
        raise InputError(
            f"`stragglers` is {text!r}; give the share of shards that are slow, from 0 to 1, and "
            "how many times as long they take, from 1 up, e.g. 0.01:3 or 2%:4"
        )
    return Stragglers(share, factor)


def _value(text: str) -> float | None:
    """Read a number that is not negative; None where it is none, or is too large."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None or not (found[1] or found[2]):
        return None
    digits = (found[1] or "0").replace(",", "").replace("_", "")
    value = float(digits + (found[2] or "") + (found[3] or "")) * _SUFFIXES[found[4].lower()]
    return value if value < math.inf else None
