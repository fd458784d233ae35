"""Choose the columns of text, label and id: those named by hand, or by the names that are common.

Names match without case, blanks, `_` and `-`: `Tweet ID` is `tweet_id`. What looks like labels and
was not taken is told. Nothing is read here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from features.base.shown import listed, shown
from features.errors import InputError

# By role, the names of columns that people use; the first that is there is taken.
DEFAULT_COLUMNS = {
    "text": (
        "text",
        "tweet",
        "content",
        "full_text",
        "tweet_text",
        "OriginalTweet",
        "sentence",
        "message",
    ),
    "label": (
        "label",
        "sentiment",
        "airline_sentiment",
        "target",
        "class",
        "polarity",
        "labels",
        "emotion",
        "stance",
        "category",
    ),
    "id": ("id", "tweet_id", "textID", "id_str", "status_id"),
}
# Parts of names that make a column look like labels.
_LABEL_LIKE = ("label", "sentiment", "polarity", "emotion", "stance", "target", "class", "category")
# What columns are chosen with.
_PARAMETERS = {
    "text": "text_column",
    "label": "label_column",
    "id": "id_column",
    "group": "by",
}
# What may be done with the case of labels.
LABEL_CASES = ("keep", "fold")
_IGNORED = re.compile(r"[\s_\-]+")


@dataclass(frozen=True)
class Columns:
    """What was said about the columns of the input; None where the usual names will do.

    Attributes
    ----------
    text, label, id : str, optional
        Names of columns, or their numbers from 0; "" for none; default: the first of
        `DEFAULT_COLUMNS` that is there. A text column must be there; rows without an id get their
        number in the input, from 0.
    labels : path, optional
        For one `.txt` input: a file with one label a line.
    mapping : path, optional
        Lines of `value<TAB>name` that turn labels as they are in the file into names.
    label_case : str
        `keep`, or `fold` to merge labels that differ in case and blanks alone.
    need_labels : bool
        Whether a table without a label column is refused.
    group : str, optional
        A column whose values are read as labels are, into groups; it must be there.
    """

    text: str | None = None
    label: str | None = None
    id: str | None = None
    labels: str | Path | None = None
    mapping: str | Path | None = None
    label_case: str = "keep"
    need_labels: bool = False
    group: str | None = None

    @property
    def files(self) -> tuple[str | Path | None, str | Path | None]:
        """The files that are read besides the input."""
        return self.labels, self.mapping

    @property
    def given(self) -> list[str]:
        """The parameters of this that were given, as they are named in messages."""
        plain = Columns(need_labels=self.need_labels)
        return [
            _PARAMETERS.get(one.name, one.name)
            for one in fields(self)
            if getattr(self, one.name) != getattr(plain, one.name)
        ]

    @property
    def asked(self) -> dict[str, str | None]:
        """What was said of each role."""
        group = {} if self.group is None else {"group": self.group}
        return {"text": self.text, **group, "label": self.label, "id": self.id}


def choose_columns(asked: Mapping[str, str | None], existing: Sequence[str]) -> dict[str, str]:
    """Give, for text, label and id, the column that is meant, where it is there.

    Examples
    --------
    >>> names = ["Tweet ID", "airline_sentiment", "Text"]
    >>> choose_columns(dict.fromkeys(["text", "label", "id"]), names)
    {'text': 'Text', 'label': 'airline_sentiment', 'id': 'Tweet ID'}
    """
    folded: dict[str, str] = {}
    for column in existing:
        folded.setdefault(_folded(column), column)
    columns: dict[str, str] = {}
    for role, name in asked.items():
        if name == "":
            continue
        for wanted in DEFAULT_COLUMNS[role] if name is None else (name,):
            found = wanted if wanted in existing else folded.get(_folded(wanted), "")
            if not found and name is not None and name.isdigit() and int(name) < len(existing):
                found = existing[int(name)]
            if found and found not in columns.values():
                columns[role] = found
                break
    return columns


def check_columns(
    asked: Mapping[str, str | None],
    columns: Mapping[str, str],
    existing: Collection[str],
    name: str,
    required: Collection[str] = ("text",),
) -> None:
    """Refuse a file without a required column, or without one that was asked for."""
    for role, wanted in asked.items():
        if role in columns or (not wanted and role not in required):
            continue
        missing = (
            f"no column {wanted!r}"
            if wanted
            else f"none of the columns {', '.join(DEFAULT_COLUMNS[role])}"
        )
        raise InputError(
            f"{name}: {missing} is there; its columns are: {listed(existing)}; choose one with "
            f"`{_PARAMETERS[role]}`"
        )


def with_more_columns(
    asked: Mapping[str, str | None], columns: Mapping[str, str], keys: Sequence[str], name: str
) -> dict[str, str]:
    """Choose columns among the keys of an object, for the roles that have none yet.

    Raises
    ------
    InputError
        It is the first with a text, and has not what was asked for.
    """
    more = choose_columns(asked, keys) | dict(columns)
    if "text" in more and "text" not in columns:
        check_columns(asked, more, keys, name)
    return more


def check_single(columns: dict[str, str], existing: Sequence[str], name: str) -> None:
    """Refuse a table that has a column twice under a name that is read."""
    for role, column in columns.items():
        times = existing.count(column)
        if times > 1:
            raise InputError(
                f"{name}: column {shown(column)} is there {times} times; rename one, or choose "
                f"another with `{_PARAMETERS[role]}`"
            )


def label_like(columns: Iterable[str]) -> list[str]:
    """Give the columns that look like labels."""
    return [name for name in columns if any(part in _folded(name) for part in _LABEL_LIKE)]


def _folded(name: str) -> str:
    return _IGNORED.sub("", name).casefold()
