"""Read and write files by name, whether on a disk or in object storage.

A target is a path, or a URL that fsspec knows: `s3://bucket/store/order.json`, `gs://...`,
`memory://...`; `file://` is a path. What is written appears whole or not at all, and `put_new`
writes only where there is nothing: by a hard link on a disk, by a condition of the request in
object storage, which is checked to be kept. Where a protocol can't promise that, nothing is
written. A folder has no such promise: its files appear one by one, so what says that it is complete
is put last. Local files need no package.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from features.base import disk
from features.base.atomic import replacing
from features.base.remote import objects, uploads, urls
from features.base.remote.objects import Info
from features.base.remote.places import place_of
from features.errors import CannotContinue, InputError, system_reason

Target = str | Path
# What the system says where a file can't have two names.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def is_url(target: Target) -> bool:
    """Whether a target is no path of this machine; `file://` is one.

    Examples
    --------
    >>> is_url("s3://bucket/tweets.csv"), is_url("tweets.csv"), is_url("file:///tweets.csv")
    (True, False, False)
    """
    return urls.is_url(target)


def local_path(target: Target) -> Path:
    """Give the path of a target that is no URL, or of a `file://`."""
    text = str(target)
    match = urls.URL.match(text)
    return Path(text[match.end() :]) if match is not None else Path(text)


def local_name(target: Target) -> Path:
    """Give the path at which a target is, or would be if it were brought here."""
    return place_of(str(target)) if is_url(target) else local_path(target)


def child(folder: Target, *names: str) -> Target:
    """Give the target of a name in a folder.

    Examples
    --------
    >>> child("s3://bucket/store/", "receipts", "00012.json")
    's3://bucket/store/receipts/00012.json'
    """
    if is_url(folder):
        return urls.child_of(str(folder), *names)
    return local_path(folder).joinpath(*names)


def name_of(target: Target) -> str:
    """Give the last part of a target: the name of the file or folder."""
    return str(target).rstrip("/").rpartition("/")[2] if is_url(target) else local_path(target).name


def info(target: Target) -> Info | None:
    """Give what is known of a file without reading it; None where there is no such file.

    Raises
    ------
    InputError, CannotContinue
        The server says no, or nothing.
    """
    if is_url(target):
        return objects.info(str(target))
    path = local_path(target)
    if not path.is_file():
        return None
    found = path.stat()
    return Info(found.st_size, str(found.st_mtime_ns))


@contextmanager
def asked_together(targets: Iterable[Target]) -> Iterator[None]:
    """Ask a server of many files at once, and answer by that what is asked of them in here.

    Raises
    ------
    InputError, CannotContinue
        The server says no, or nothing.
    """
    there = [str(target) for target in targets if is_url(target)]
    if not there:
        yield
        return
    with objects.asked_together(there):
        yield


def exists(target: Target) -> bool:
    """Whether there is such a file."""
    return info(target) is not None


def size(target: Target) -> int:
    """Give the bytes of a file.

    Raises
    ------
    InputError
        There is none.
    """
    return known(target).size


def known(target: Target) -> Info:
    """Give what is known of a file that must be there.

    Raises
    ------
    InputError
        There is none.
    """
    found = info(target)
    if found is None:
        raise InputError(f"{target}: no such file")
    return found


def read_bytes(target: Target) -> bytes:
    """Read a small file.

    Raises
    ------
    InputError, CannotContinue
    """
    return next(read_each([target]))


def read_each(targets: Sequence[Target]) -> Iterator[bytes]:
    """Read many small files of one folder, in order; of a server many at a time.

    Raises
    ------
    InputError, CannotContinue
        One of them is not there or can't be read; it is named.
    """
    if targets and is_url(targets[0]):
        yield from objects.read_each([str(target) for target in targets])
    else:
        yield from map(_read_path, map(local_path, targets))


@contextmanager
def reading(target: Target) -> Iterator[BinaryIO]:
    """Open a file to be read from any place; of a server, what is read is fetched by ranges."""
    if is_url(target):
        with objects.reading(str(target)) as there:
            yield there
        return
    with local_path(target).open("rb") as file:
        yield file


def listed(folder: Target) -> dict[str, int]:
    """Give names and bytes of the files in a folder, by name; empty where there is none."""
    if is_url(folder):
        return objects.listed(str(folder))
    path = local_path(folder)
    found = [one for one in path.iterdir() if one.is_file()] if path.is_dir() else []
    return {one.name: one.stat().st_size for one in sorted(found)}


def matching(pattern: str) -> list[str]:
    """Give the URLs of all files that match one with `*` in it, by name.

    Raises
    ------
    InputError
        There is none.
    """
    found = objects.matching(pattern)
    if not found:
        raise InputError(f"{pattern}: no file matches; `*` stands for any part of a name")
    return found


def put_new(target: Target, data: bytes, *, aside: Path | None = None) -> bool:
    """Write a small file only where there is none; whether it was written.

    Of several who write at once, one is told True. Where an answer was lost and the request made
    again, nobody may be: who is told False reads what is there, and may find its own content.

    Parameters
    ----------
    target : path or URL
    data : bytes
    aside : Path, optional
        A folder of the same disk where the file is written first, and stays if this process is
        killed; default: a hidden one beside it.

    Raises
    ------
    InputError
        The protocol can't promise it.
    CannotContinue
        The server does not keep to the condition, though the protocol has it.
    """
    if is_url(target):
        return uploads.put_new(str(target), data)
    path = local_path(target)
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{path.name}.", dir=path.parent if aside is None else aside
        ) as folder:
            first = Path(folder) / path.name
            with first.open("wb") as file:
                disk.write(file.fileno(), data)
                disk.sync(file.fileno())
            made = _linked(first, path)
            disk.sync_folder(path.parent)
        return made
    except OSError as error:
        raise CannotContinue(f"{path} cannot be written: {system_reason(error)}") from error


def put(target: Target, data: bytes) -> None:
    """Write a small file, in place of what is there; it appears whole."""
    if is_url(target):
        uploads.put(str(target), data)
        return
    with replacing(local_path(target)) as aside:
        aside.write_bytes(data)


def put_file(file: Path, target: str) -> None:
    """Upload a file, in place of what is there; it appears whole, when all of it has arrived.

    Raises
    ------
    InputError, CannotContinue
        Then nothing has changed there. Parts of a large file that was being uploaded when the
        process was killed stay on the server unseen, until a rule of the bucket removes them.
    """
    uploads.put_file(file, target)


def put_file_new(file: Path, target: str) -> bool:
    """Upload a file only where there is none; whether it was uploaded.

    Of several who upload at once, one is told True, as with `put_new`.

    Raises
    ------
    InputError, CannotContinue
    """
    return uploads.put_file_new(file, target)


def put_folder_new(folder: Path, target: Target) -> list[Path]:
    """Upload the files of a folder, by name, or move the folder to its place on this disk.

    Of a server they appear one by one, and none replaces one that is there: write then what says
    that they are complete. On a disk all appear at once.

    Returns
    -------
    list of Path
        The names of those that were there before, whatever is in them.

    Raises
    ------
    OSError
        On a disk, the name is taken.
    InputError, CannotContinue
        The server says no, or nothing; some of them may be there.
    """
    if is_url(target):
        return uploads.put_folder_new(folder, str(target))
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with file.open("rb") as written:
                disk.sync(written.fileno())
        else:
            disk.sync_folder(file)
    disk.sync_folder(folder)
    disk.rename(folder, local_path(target))
    disk.sync_folder(local_path(target).parent)
    return []


def fetch(target: str, file: Path) -> None:
    """Download a file; it appears whole.

    Raises
    ------
    InputError
        It is not there.
    CannotContinue
        There is no room for it, it changed while it was read, or the server fails.
    """
    objects.fetch(target, file, objects.known(target))


def _linked(aside: Path, path: Path) -> bool:
    try:
        disk.link(aside, path)
    except FileExistsError:
        # A server of files may have done it and lost its answer: then there are two names of it.
        return aside.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise CannotContinue(
            f"{path}: its file system can't give a file a second name ({system_reason(error)}), "
            "by which jobs agree who was first: write to another one, or to the object storage "
            "behind it by its URL"
        ) from error
    return True


def _read_path(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {system_reason(error)}") from error
