"""Write output files and folders that appear complete, by rename, or not at all."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.base import disk
from features.base.remote.copies import check_new, send
from features.errors import CannotContinue, InputError, system_reason


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; what is there at the end is synced and takes its name.

    Where the path stands for a URL, it is sent there then.

    Nobody else can look into the folder where it is made. A file that replaces another is as
    private as that one was; a new one is what the umask says.

    Raises
    ------
    CannotContinue
        The disk refused; what was at `path` is as it was.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            aside = Path(folder) / path.name
            yield aside
            if path.exists():
                aside.chmod(stat.S_IMODE(path.stat().st_mode) & 0o777)
            with aside.open("rb") as file:
                disk.sync(file.fileno())
            disk.rename(aside, path)
            disk.sync_folder(path.parent)
        send(path)
    except OSError as error:
        raise CannotContinue(f"{path} cannot be written: {system_reason(error)}") from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` to write into; it takes its name at the end, synced.

    Where the path stands for a URL, it is sent there then.

    Raises
    ------
    InputError
        Something is there already, or the folder above is not.
    CannotContinue
        The disk refused; nothing is at `path`.
    """
    check_new(path)
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} is there already; give the name of a new folder")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as above:
            aside = Path(above) / path.name
            aside.mkdir()
            yield aside
            for file in sorted(aside.rglob("*")):
                if file.is_dir():
                    disk.sync_folder(file)
                else:
                    with file.open("rb") as opened:
                        disk.sync(opened.fileno())
            disk.sync_folder(aside)
            disk.rename(aside, path)
            disk.sync_folder(path.parent)
        send(path)
    except OSError as error:
        raise CannotContinue(f"{path} cannot be written: {system_reason(error)}") from error
