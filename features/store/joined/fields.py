"""Write a JSON file with its seal, and check the fields of one that a stranger may have written.

In comes what `json` has read, out comes the same with its type known, or a ValueError that names
the field. Each kind of file turns that into a refusal of its own. The seal is the last field: the
SHA-256 of all bytes before its digits, so a bit that has changed in the file is told, whatever it
says. The first files of this kind have none, and are read all the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from features.base.shown import shown
from features.errors import FileRefused, first_line

_SHA256 = re.compile("[0-9a-f]{64}")
_MOST = 2**63 - 1
_SEAL = "sha256"
_BEFORE_SEAL = f'"{_SEAL}": "'
_SEALED = re.compile(rb',\s*"sha256": "[0-9a-f]{64}"(?=\s*}\s*$)')


def sealed(content: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Write a JSON object as a line, or in lines that are indented, with its seal.

    Examples
    --------
    >>> sealed({"rows": 7})[:42]
    b'{"rows": 7, "sha256": "fbdb8ad683e532f7ef0'
    """
    text = json.dumps({**content, _SEAL: ""}, indent=indent)
    end = text.rindex(_BEFORE_SEAL) + len(_BEFORE_SEAL)
    digest = hashlib.sha256(text[:end].encode()).hexdigest()
    return f"{text[:end]}{digest}{text[end:]}\n".encode()


def without_seal(data: bytes) -> bytes:
    """Give what `sealed` wrote, as it was written before there were seals."""
    return _SEALED.sub(b"", data)


def unsealed(data: bytes) -> Any:
    """Read JSON, and take the seal away.

    Raises
    ------
    ValueError, RecursionError
        It is no JSON, or has changed since it was sealed.
    """
    content = json.loads(data)
    if isinstance(content, dict) and _SEAL in content:
        before, seal = _BEFORE_SEAL.encode(), content.pop(_SEAL)
        if hashlib.sha256(data[: data.rfind(before) + len(before)]).hexdigest() != seal:
            raise ValueError("bits of it have changed")
    return content


def content_of(data: bytes, name: str, format_name: str, version: int, cure: str) -> dict[str, Any]:
    """Read a JSON object that states its format and version.

    Raises
    ------
    FileRefused
        It is something else, or of a later version.
    """
    try:
        content = unsealed(data)
    except (ValueError, RecursionError) as error:
        raise FileRefused(f"{name} is damaged: {first_line(error)}; {cure}") from error
    if not isinstance(content, dict) or content.get("format") != format_name:
        raise FileRefused(f"{name} is not a {format_name} file; {cure}")
    if type(content.get("version")) is not int or content["version"] != version:
        raise FileRefused(
            f"{name} has version {shown(str(content.get('version')))}; this frostline reads "
            f"{version}; update it"
        )
    return content


def check_names(content: Any, names: Collection[str], what: str) -> Mapping[str, Any]:
    """Give an object that has these fields and no others."""
    if not isinstance(content, dict):
        raise ValueError(f"{what} is {shown(str(content))}")
    if content.keys() != set(names):
        odd = ", ".join(map(shown, sorted(content.keys() ^ set(names))))
        raise ValueError(f"{what} lacks or has in addition: {odd}")
    return content


def count(value: Any, name: str, least: int = 0, most: int = _MOST) -> int:
    """Give a whole number within its bounds."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is {shown(str(value))}")
    return value


def sha256(value: Any, name: str) -> str:
    """Give the 64 digits of a SHA-256."""
    if type(value) is not str or not _SHA256.fullmatch(value):
        raise ValueError(f"{name} is {shown(str(value))}, not a SHA-256")
    return value


def one_of(value: Any, name: str, allowed: Collection[str]) -> str:
    """Give one of some words."""
    if type(value) is not str or value not in allowed:
        raise ValueError(f"{name} is {shown(str(value))}")
    return value


def names(value: Any, name: str) -> tuple[str, ...]:
    """Give different texts."""
    if type(value) is not list or not all(type(one) is str for one in value):
        raise ValueError(f"{name} is {shown(str(value))}")
    if len(set(value)) < len(value):
        raise ValueError(f"{name} has a name twice")
    return tuple(value)


def counts(value: Any, name: str, length: int) -> tuple[int, ...]:
    """Give a known number of whole numbers."""
    if type(value) is not list or len(value) != length:
        raise ValueError(f"{name} is {shown(str(value))}")
    return tuple(count(one, name) for one in value)


def widths(value: Any, name: str) -> dict[str, int]:
    """Give the columns of each view, at least one view."""
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{name} is {shown(str(value))}")
    return {view: count(width, f"{name} {shown(view)}", 1) for view, width in value.items()}
