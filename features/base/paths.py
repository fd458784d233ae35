"""Refuse paths that may not be read or replaced, before any work is done.

An input must be a regular file: a device or a pipe with a name may never end, or never begin. An
output is made beside its name and renamed, so it must be a name that can be taken: no folder, no
device, no symbolic link (it would be a file of that name, not the one it points to) and no input.
Of a URL the server is asked; a copy that a path stands for is brought. Nothing is opened here.
"""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from features.base.remote import objects
from features.base.remote.copies import check_place, here
from features.base.remote.urls import is_url
from features.errors import CannotContinue, InputError, system_reason

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# The files of a store that is made in pieces (`features/store/joined/layout.py`).
_IN_PIECES = ("order.json", "store.json", "receipts/*.json", "piece-*/*.h5")


def journal_path(output: Path) -> Path:
    """Give the name of an output's journal, beside it."""
    return output.with_name(f".{output.name}.journal")


def check_input(path: str | Path) -> None:
    """Refuse an input that is not there or not a regular file; links are followed.

    Raises
    ------
    InputError, CannotContinue
    """
    if is_url(path):
        objects.known(str(path))
        return
    try:
        mode = here(path).stat().st_mode
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = system_reason(error)
        raise InputError(f"{path} cannot be read: {reason}") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder: give the files in it")
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise InputError(f"{path} is {kind}, not a file; only regular files are read by name")


def check_replaceable(
    output: Path, inputs: Collection[str | Path | None], *, of_folder: bool = False
) -> None:
    """Refuse an output that can't take its name, or that would replace one of the inputs.

    That of a folder may be there: another job may have made it just now.

    Raises
    ------
    InputError
        It is a folder, a link, a device or an input, or its folder is not there.
    CannotContinue
        The file system does not take the name.
    """
    url = check_place(output)
    if url is not None and not of_folder and objects.is_folder(url):
        raise InputError(f"{url} is a folder with files in it; give the name of a new one")
    if url is not None and url in [str(path).rstrip("/") for path in inputs]:
        raise InputError(f"{url} is an input too, and would be replaced; give another name")
    try:
        if output.is_symlink():
            raise InputError(
                f"{output} is a symbolic link to {output.readlink()}; outputs are not written "
                "through links: give the name of the file itself"
            )
        if output.is_dir():
            if of_folder:
                return
            raise InputError(f"{output} is a folder; give the name of a file in it")
        if not output.parent.is_dir():
            raise InputError(f"{output}: the folder {output.parent} does not exist; make it first")
        if not output.exists():
            return
        if not output.is_file():
            raise InputError(f"{output} is not a file that can be replaced; give another name")
        for path in inputs:
            if path not in (None, "-") and any(map(output.samefile, _files_of(Path(path)))):
                raise InputError(
                    f"{output} is an input too, and would be replaced; give another name"
                )
    except OSError as error:
        raise CannotContinue(f"{output} cannot be written: {system_reason(error)}") from error


def _files_of(path: Path) -> Iterator[Path]:
    """Give what is read where a path is given: itself, or the files of a store or head in it.

    Of a data set in a folder, `hf:./folder:train`, that may be any file in the folder.
    """
    if str(path).startswith("hf:"):
        name = str(path).removeprefix("hf:")
        ends = [n for n, character in enumerate(name + ":") if n and character == ":"]
        for folder in (Path(name[:end]) for end in ends):
            yield from (file for file in folder.rglob("*") if file.is_file())
    elif path.is_dir():
        for pattern in ("*.h5", "config.json", "*.safetensors", *_IN_PIECES):
            yield from (file for file in path.glob(pattern) if file.exists())
    elif path.exists():
        yield path
