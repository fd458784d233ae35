"""Read the name of a repository on the hub: `hf:owner/name` or `hf:owner/name@revision`.

Text in, an `Address` or None out. Whether there is such a repository is not looked at here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from features.errors import InputError

PREFIX = "hf:"
# As the hub allows names, and git names of branches and tags, or a commit.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./+-]{0,250}", re.ASCII)
_FORM = "give it as owner/name"


@dataclass(frozen=True)
class Address:
    """A repository of a model on the hub, at a branch, tag or commit; default the main branch."""

    repo_id: str
    revision: str | None = None

    @staticmethod
    def is_one(repo_id: str) -> bool:
        """Tell whether this is a repository's name with its owner."""
        return "/" in repo_id and _is_name(repo_id)

    def __post_init__(self) -> None:
        """Refuse what the hub has no repositories for, so that no name leads elsewhere."""
        repo_id, revision = self.repo_id, self.revision
        if not _is_name(repo_id):
            raise InputError(f"{repo_id!r} is no name of a repository on the hub; {_FORM}")
        if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
            raise InputError(
                f"revision {revision!r} of {repo_id}: give a branch, a tag or a commit"
            )

    def __str__(self) -> str:
        """Give it as the commands take it."""
        return PREFIX + self.repo_id + ("" if self.revision is None else f"@{self.revision}")


def _is_name(repo_id: str) -> bool:
    return bool(_NAME.fullmatch(repo_id)) and ".." not in repo_id and "--" not in repo_id


def parse_address(text: str | Path) -> Address | None:
    """Read an address; None for what is not one, such as the path of a file.

    Raises
    ------
    InputError
        It begins with `hf:`, and no name of a repository follows.

    Examples
    --------
    >>> parse_address("hf:jane/tweets@v1")
    Address(repo_id='jane/tweets', revision='v1')
    >>> parse_address("head.joblib") is None
    True
    """
    text = str(text)
    if not text.startswith(PREFIX):
        return None
    repo_id, at, revision = text.removeprefix(PREFIX).partition("@")
    return Address(repo_id, revision if at else None)
