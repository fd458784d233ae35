"""Bring files of object storage to this machine, and send outputs there.

In come URLs and the paths that stand for them (`places`). A file is brought once while it stays the
same, into a folder of this process, and goes with it. An output is made at its path as any other is
and is sent whole; where that fails it stays there, and is named.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from features.base.remote import objects, uploads
from features.base.remote.places import as_path, place_of, url_of_copy, url_of_output
from features.base.remote.urls import child_of, is_url
from features.errors import CannotContinue, FileRefused, InputError

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
    url = str(target).rstrip("/") if is_url(target) else url_of_copy(Path(target))
    if url is None:
        return Path(str(target).removeprefix("file://"))
    path = place_of(url)
    found = objects.info(url)
    if found is not None:
        _bring(url, path, found, most)
        return path
    names = objects.listed(url)
    if names or objects.is_folder(url):
        path.mkdir(exist_ok=True)  # also where none of them is brought
    for name in names:
        if name.endswith(_SUFFIXES):
            one = child_of(url, name)
            _bring(one, path / name, objects.known(one), most)
    return path


def output(target: str | Path) -> Path:
    """Give the path at which an output is made, to be sent when it is whole.

    Raises
    ------
    InputError, CannotContinue
        The URL can't be the name of a file, or no folder can be made for it.
    """
    if is_url(target):
        return place_of(str(target), output=True)
    url = url_of_copy(Path(target))
    if url is not None:  # a command did not know what it was given the path for
        return place_of(url, output=True)
    return Path(str(target).removeprefix("file://"))


def target_of(target: str | Path) -> str | Path:
    """Give a URL, also where the path of its copy is given, or else the path."""
    if isinstance(target, str) and is_url(target):
        return target
    path = Path(str(target).removeprefix("file://"))
    return url_of_copy(path) or path


def bring_output(path: Path) -> None:
    """Bring what an earlier run has sent from a path, unless it is here; nothing for other paths.

    Raises
    ------
    InputError
        It was a folder: files of two runs could not be told apart there.
    """
    url = url_of_output(path)
    if url is None or path.exists():
        return
    found = objects.info(url)
    if found is not None:
        objects.fetch(url, path, found)
    elif objects.listed(url):
        raise InputError(f"{url} is a folder with files in it; give the name of a new one")


def names_at(path: Path) -> list[str]:
    """Name the files in the folder at the URL that a path stands for; nothing for other paths."""
    url = url_of_output(path)
    return [] if url is None else list(objects.listed(url))


def check_place(path: Path) -> str | None:
    """Refuse a path that stands for a URL to which nothing can be sent; give the URL.

    Raises
    ------
    InputError, CannotContinue
        There is no such bucket, no permission, or no answer.
    """
    url = url_of_output(path)
    if url is not None:
        uploads.check_writable(url)
    return url


def check_new(path: Path) -> None:
    """Refuse a path that stands for a URL at which there is something, or to which none can write.

    Raises
    ------
    InputError, CannotContinue
    """
    url = check_place(path)
    if url is not None and (objects.info(url) is not None or objects.is_folder(url)):
        raise InputError(f"{url} is there already; give the name of a new folder")


def remove(path: Path) -> None:
    """Remove the file that a path stands for where it is; nothing for other paths."""
    url = url_of_output(path)
    if url is not None and objects.info(url) is not None:
        uploads.remove(url)


def send(path: Path) -> None:
    """Send the file or folder at a path to the URL that it stands for; nothing for other paths.

    Raises
    ------
    InputError, CannotContinue
        The server does not take it; what was made stays at the path, which is named.
    """
    url = url_of_output(path)
    if url is None:
        return
    try:
        if path.is_dir():
            uploads.put_folder(path, url)
            shutil.rmtree(path)
        else:
            uploads.put_file(path, url)
            path.unlink()
    except (CannotContinue, OSError) as error:
        raise CannotContinue(f"{error}; what was made is kept as {as_path(path)}") from error


def _bring(url: str, path: Path, found: objects.Info, most: int | None) -> None:
    if most is not None and found.size > most:
        raise FileRefused(f"{url} has {found.size:,} bytes; at most {most:,} are read")
    if _brought.get(path) != found or not path.exists():
        objects.fetch(url, path, found)
        _brought[path] = found
