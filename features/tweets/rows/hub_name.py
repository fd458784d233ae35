"""The grammar of names of data sets: `hf:` and a repository of the hub, or a folder.

It is ``hf:ID[/CONFIG][:SPLIT][@REVISION]``:

========  ==========================================================================================
ID        ``name`` or ``owner/name`` on the hub; or a folder, with ``./``, ``../``, ``/`` or ``~``
          in front. A folder of such a name that is there comes before the hub.
CONFIG    the configuration; default: that of the data set. ``a/b`` is the data set ``a/b`` where
          there is one, else the configuration ``b`` of ``a``; ``owner/name/config`` is clear.
SPLIT     ``train``, a slice such as ``train[:1000]`` or ``test[10%:20%]``, several as
          ``train+test``, or ``all``; default: the only one
REVISION  a branch, tag or commit of the hub
========  ==========================================================================================

Of folders it is looked whether they are there; nothing else is read or fetched here.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from features.base.shown import shown
from features.errors import InputError

PREFIX = "hf:"
_GRAMMAR = (
    "hf:ID[/CONFIG][:SPLIT][@REVISION], such as hf:tweet_eval/sentiment:train, or hf:./folder"
)
_PART = re.compile(r"[A-Za-z0-9][\w.-]{0,95}")
_CONFIG = re.compile(r"[^/:@\s]+")
_ONE_SPLIT = r"\w+(?:[.-]\w+)*(?:\[[\d%:-]*\](?:\((?:closest|pct1_dropremainder)\))?)?"
_SPLIT = re.compile(rf"{_ONE_SPLIT}(?:\+{_ONE_SPLIT})*")
_REVISION = re.compile(r"[\w~./-]+")


@dataclass(frozen=True)
class HubName:
    """What is named after `hf:`.

    Attributes
    ----------
    path : str
        Parts between slashes, or the path of a folder.
    config, split, revision : str, optional
    is_folder : bool
    is_cached : bool
        Whether the hub was not reached, and the rows are those that the cache has.
    """

    path: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    is_folder: bool = False
    is_cached: bool = False

    @property
    def place(self) -> Path:
        """The folder."""
        return _place(self.path)

    @property
    def id(self) -> str:
        """Data set and configuration, as they are written."""
        return self.path + (f"/{self.config}" if self.config else "")

    def __str__(self) -> str:
        split = f":{self.split}" if self.split else ""
        return PREFIX + self.id + split + (f"@{self.revision}" if self.revision else "")


def parse_hub_name(text: str) -> HubName:
    """Take the name of a data set apart.

    Raises
    ------
    InputError

    Examples
    --------
    >>> parse_hub_name("hf:tweet_eval/sentiment:train[:100]@main")
    HubName(path='tweet_eval/sentiment', config=None, split='train[:100]', revision='main', \
is_folder=False, is_cached=False)
    """
    rest = text.removeprefix(PREFIX)
    if "\0" in rest:
        raise _unreadable(text, "its id must be a name or a folder")
    if rest.startswith("//"):
        raise _unreadable(text, "that is the address of a file; name the data set")
    if folder := _folder(rest):
        return folder
    rest, at, revision = rest.partition("@")
    path, colon, split = rest.partition(":")
    if (at and not _REVISION.fullmatch(revision)) or (colon and not _SPLIT.fullmatch(split)):
        raise _unreadable(text, "its split or its revision can't be meant")
    parts = path.split("/")
    config = parts[2] if len(parts) == 3 else None
    if len(parts) > 3 or not all(map(_PART.fullmatch, parts[:2])):
        raise _unreadable(text, "its id must be name or owner/name")
    if config is not None and not _CONFIG.fullmatch(config):
        raise _unreadable(text, "its configuration can't be meant")
    return HubName("/".join(parts[:2]), config, split or None, revision or None)


def _unreadable(text: str, why: str) -> InputError:
    return InputError(f"{shown(text)} cannot be read: {why}; the grammar is {_GRAMMAR}")


def _folder(text: str) -> HubName | None:
    """Take a name as that of a folder; None where it is none that is there and none by its form."""
    colons = [n for n, character in enumerate(text) if character == ":"]
    for end in (len(text), *colons):
        path, split = text[:end], text[end + 1 :]
        if split and not _SPLIT.fullmatch(split):
            continue
        parent, _, last = path.rpartition("/")
        for folder, config in ((path, None), (parent, last)):
            # Of `./a`, a folder that is not there, `a` is not a configuration of the folder `.`.
            may_be = folder if config is None else folder.strip("./~") and _CONFIG.fullmatch(config)
            if may_be and _place(folder).is_dir():
                return HubName(folder, config, split or None, is_folder=True)
    if text.startswith((".", "/", "~")):
        raise InputError(
            f"{PREFIX}{text}: no such folder; give one that holds a data set, or the id of one on "
            "the hub"
        )
    return None


def _place(folder: str) -> Path:
    with suppress(RuntimeError):  # a user who is unknown
        return Path(folder).expanduser().resolve()
    return Path(folder).resolve()
