"""Tell what an input is: the path of a file, or something else that has rows of tweets.

In comes what a user gave, out comes a list of paths and `RowSource`s. Libraries of tables are not
imported for it: who gives a table of one has imported it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from features.errors import InputError
from features.tweets.rows import data_set
from features.tweets.rows.row_source import RowSource

# What makes rows of an object of some library; None where it is none of its own.
_KINDS = (data_set.row_source,)


def inputs_of(given: Any) -> list[str | RowSource]:
    """Give all inputs that were given, of one or of several.

    Parameters
    ----------
    given : path, data set, `RowSource`, or an iterable of these

    Raises
    ------
    InputError
        One of them is none of these.
    """
    one = _input_of(given)
    if one is not None:
        return [one]
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise _unknown(given)
    found = []
    for single in given:
        one = _input_of(single)
        if one is None:
            raise _unknown(single)
        found.append(one)
    return found


def name_of(one: str | RowSource) -> str:
    """Give the name by which a store remembers an input: that of a file goes without its folder."""
    return one.name if isinstance(one, RowSource) else Path(one).name


def _input_of(given: Any) -> str | RowSource | None:
    if isinstance(given, RowSource):
        return given
    if isinstance(given, str | Path):
        return str(given)
    return next((found for kind in _KINDS if (found := kind(given)) is not None), None)


def _unknown(given: object) -> InputError:
    return InputError(
        f"an input is a {type(given).__name__}: give the path of a file, or a data set of "
        "Hugging Face"
    )
