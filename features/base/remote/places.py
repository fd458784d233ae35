"""Give a URL a place on this machine, and tell from a path which URL it stands for.

Most of frostline reads and writes files by their paths. A file in object storage is brought to a
path first, and an output is sent from one (`copies`). The path holds the whole URL, so it is turned
back for messages: people see `s3://bucket/tweets.csv`. Copies of inputs go when the process ends;
what is to be sent lies in the user's cache, where the next run finds it if this one is stopped.
Nothing is asked of a server here.
"""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

from features.base.cache import cache_folder, is_ours
from features.base.remote.urls import BUCKETS, protocol_of
from features.errors import REWORDINGS, CannotContinue, InputError, system_reason


def place_of(url: str, *, output: bool = False) -> Path:
    """Give the path that stands for a URL; the folders above it are there then.

    Parameters
    ----------
    url : str
    output : bool
        Whether it is one to be sent, and not a copy of what is there.

    Raises
    ------
    InputError
        The URL can't be the name of a file.
    CannotContinue
        There is no room for a folder, or another user has it.
    """
    protocol = protocol_of(url)
    parts = url[len(protocol) + 3 :].rstrip("/").split("/")
    if not parts[0]:
        raise InputError(f"{url} names no bucket: give {protocol}://BUCKET/NAME")
    if output and len(parts) == 1 and protocol in BUCKETS:
        raise InputError(f"{url} names no file in its bucket: give {url.rstrip('/')}/NAME")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise InputError(f"{url}: it has an empty part, . or .. in it; give the plain name")
    if by_url not in REWORDINGS:
        REWORDINGS.append(by_url)
    try:
        root = _outputs() if output else _copies()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_ours(root):
            raise CannotContinue(
                f"{root} is another user's: say with FROSTLINE_CACHE where outputs can be made"
            )
        path = root.joinpath(protocol, *parts)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotContinue(f"{url} has no place here: {system_reason(error)}") from error
    return path


def url_of_copy(path: Path) -> str | None:
    """Give the URL of which a path is, or will be, a copy; None for other paths."""
    return _url_under(_copies(), path) if _copies.cache_info().currsize else None


def url_of_output(path: Path) -> str | None:
    """Give the URL to which what is made at a path is sent; None for other paths."""
    return _url_under(_outputs(), path) if by_url in REWORDINGS else None


def by_url(text: str) -> str:
    """Give a text with URLs in place of the paths that stand for them."""
    if by_url in REWORDINGS:  # otherwise no URL has a place yet
        for root in _roots():
            text = re.sub(re.escape(f"{root}/") + r"([a-z][a-z0-9+.-]+)/", r"\1://", text)
    return text


def as_path(path: Path) -> str:
    """Write the path that stands for a URL so that messages keep it."""
    root = _outputs()
    return f"{root}/./{path.relative_to(root)}" if path.is_relative_to(root) else str(path)


def _url_under(root: Path, path: Path) -> str | None:
    if not path.is_relative_to(root):
        return None
    protocol, *parts = path.relative_to(root).parts or ("",)
    return f"{protocol}://{'/'.join(parts)}" if parts else None


@cache
def _copies() -> Path:
    """Make the folder of copies of this process."""
    folder = Path(tempfile.mkdtemp(prefix="frostline-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _outputs() -> Path:
    return cache_folder().absolute() / "outputs"


def _roots() -> list[Path]:
    # Those that nobody asked for are not made for a look.
    return [*([_copies()] if _copies.cache_info().currsize else []), _outputs()]
