"""Bring files of object storage to this machine, and send outputs there.

In come URLs and the paths that stand for them (`places`). A file is brought once while it stays the
same, into a folder of this process, and goes with it. An output is made at its path as any other is
and is sent whole; where that fails it stays there, and is named.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from features.base.remote import objects
from features.base.remote.places import place_of, url_of
from features.base.remote.urls import child_of, is_url
from features.errors import CannotContinue, FileRefused

# Of a folder that is brought, the files that belong to a store or a head.
_SUFFIXES = (".h5", ".json", ".safetensors")
_brought: dict[Path, objects.Info] = {}


def here(target: str | Path, *, most: int | None = None) -> Path:
    """Give the path of a file or folder on this machine, brought from where it is if need be.

    What is not there has a path where there is nothing. Of a folder come the files of a store or a
    head that lie in it directly.

    Parameters
    ----------
    target : str or Path
    most : int, optional
        Bytes that a file may have.

    Raises
    ------
    FileRefused
        It has more.
    InputError, CannotContinue
        The server says no, or nothing.
    """
    if not is_url(target):
        return Path(str(target).removeprefix("file://"))
    url = str(target).rstrip("/")
    path = place_of(url)
    found = objects.info(url)
    if found is not None:
        _bring(url, path, found, most)
        return path
    for name in objects.listed(url):
        if name.endswith(_SUFFIXES):
            path.mkdir(exist_ok=True)
            one = child_of(url, name)
            _bring(one, path / name, objects.known(one), most)
    return path


def bring(path: Path) -> None:
    """Bring the file that a path stands for, unless it is here; nothing for other paths."""
    url = url_of(path)
    if url is not None and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        objects.fetch(url, path, objects.known(url))


def send(path: Path) -> None:
    """Send the file or folder at a path to the URL that it stands for; nothing for other paths.

    Raises
    ------
    InputError, CannotContinue
        The server does not take it; what was made stays at the path, which is named.
    """
    url = url_of(path)
    if url is None:
        return
    try:
        if path.is_dir():
            objects.put_folder(path, url)
            shutil.rmtree(path)
        else:
            objects.put_file(path, url)
            path.unlink()
    except (CannotContinue, OSError) as error:
        raise CannotContinue(
            f"{error}; what was made is kept as {path.parent}/{path.name}"
        ) from error


def _bring(url: str, path: Path, found: objects.Info, most: int | None) -> None:
    if most is not None and found.size > most:
        raise FileRefused(f"{url} has {found.size:,} bytes; at most {most:,} are read")
    if _brought.get(path) != found or not path.exists():
        objects.fetch(url, path, found)
        _brought[path] = found
