"""Tell what an input is: the path of a file, or something else that has rows of tweets.

In comes what a user gave, out comes a list of paths, `Span`s and `RowSource`s. Libraries of tables
are not imported for it: who gives a table of one has imported it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from features.base import storage
from features.base.remote.urls import is_url
from features.errors import InputError
from features.tweets.rows import data_set, frame
from features.tweets.rows.hub import hub_source
from features.tweets.rows.hub_name import PREFIX
from features.tweets.rows.row_source import RowSource
from features.tweets.span import Span

# A file by its path, some of one, or what is no file.
Input = str | Span | RowSource

# What makes rows of an object of some library; None where it is none of its own.
_KINDS = (data_set.row_source, frame.row_source)


def inputs_of(given: Any) -> list[Input]:
    """Give all inputs that were given, of one or of several.

    Parameters
    ----------
    given : path, URL, `Span`, name (`hf:…`), frame, data set, `RowSource`, or an iterable of these
        `*` in a URL stands for all files that match, by name.
        An iterator of frames is one input: it is read frame by frame.

    Raises
    ------
    InputError
        One of them is none of these.
    """
    if isinstance(given, str) and is_url(given) and "*" in given:
        return list(storage.matching(given))
    one = _input_of(given)
    if one is not None:
        return [one]
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise _unknown(given)
    if isinstance(given, Iterator):
        frames, given = frame.frames_in(given)
        if frames is not None:
            return [frames.source()]
    found: list[Input] = []
    for single in given:
        if isinstance(single, str) and is_url(single) and "*" in single:
            found += storage.matching(single)
            continue
        one = _input_of(single)
        if one is None:
            raise _unknown(single)
        found.append(one)
    return _told_apart(found)


def path_of(one: Input) -> str | None:
    """Give the path of an input that is a file, or `-`; None for what is no file."""
    if isinstance(one, RowSource):
        return None
    return one.path if isinstance(one, Span) else one


def name_of(one: Input) -> str:
    """Give the name by which a store remembers an input: that of a file goes without its folder."""
    return one.name if isinstance(one, RowSource) else Path(path_of(one) or "").name


def _input_of(given: Any) -> Input | None:
    if isinstance(given, RowSource | Span):
        return given
    if isinstance(given, str) and given.startswith(PREFIX):
        return hub_source(given)
    if isinstance(given, str | Path):
        return str(given)
    return next((found for kind in _KINDS if (found := kind(given)) is not None), None)


def _told_apart(inputs: list[Input]) -> list[Input]:
    """Number those that have one name, such as frames of one library."""
    times = Counter(one.name for one in inputs if isinstance(one, RowSource))
    seen: Counter[str] = Counter()
    told: list[Input] = []
    for one in inputs:
        if isinstance(one, RowSource) and times[one.name] > 1:
            seen[one.name] += 1
            one = replace(one, name=f"{one.name} {seen[one.name]}")
        told.append(one)
    return told


def _unknown(given: object) -> InputError:
    return InputError(
        f"an input is a {type(given).__name__}: give the path of a file, a data set of Hugging "
        "Face or its name as hf:ID, or a frame of pandas, polars or Arrow, such as "
        "pandas.DataFrame(rows)"
    )
