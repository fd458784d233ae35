"""Give a folder to make a piece in, locked, and remove what killed processes left of such folders.

The folder of piece 12 is `00012` in the store's `.work`, or in a folder of this machine where the
store is in object storage. What a killed process left in it is gone on with. A second process that
makes the same piece at the same time gets `00012.2`; where the file system has no locks, each one
gets a folder of its own. Only who has the lock of a folder changes or removes it, so nobody's work
is taken away. Small files that are made once are begun there too. It does not know what is made in
it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from features.base import disk
from features.base.cache import is_ours
from features.base.remote.urls import is_url
from features.base.storage import Target, local_path, name_of, put, put_new
from features.errors import CannotContinue
from features.store.joined.layout import WORK

_FOLDER = re.compile(r"([0-9]{5,9}|new)(\.[A-Za-z0-9.-]+)?")
_LOCK, _NEW = "lock", "new"
# What `flock` says where a file system has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def work_folder(store: Target) -> Path:
    """Give the folder in which pieces are made: on the store's disk, or on this machine's.

    Raises
    ------
    CannotContinue
        Another user has a folder of that name.
    """
    if not is_url(store):
        return local_path(store) / WORK
    mine = Path(tempfile.gettempdir()) / f"frostline-{os.geteuid()}"
    mine.mkdir(mode=0o700, exist_ok=True)
    if not is_ours(mine) or stat.S_IMODE(mine.stat().st_mode) & 0o077:
        raise CannotContinue(
            f"{mine} is not a folder of this user's alone: remove it, or say with TMPDIR where "
            "pieces can be made"
        )
    return mine / hashlib.sha256(str(store).encode()).hexdigest()[:16]


@contextmanager
def scratch(work: Path, piece: int, order: str) -> Iterator[Path]:
    """Give a folder to make a piece in, with what a killed process left; it goes at the end.

    If making the piece fails it stays, for the next one who makes it.

    Parameters
    ----------
    work : Path
        From `work_folder`.
    piece : int
    order : str
        The digest of the order; what was made for another one is thrown away.
    """
    with _taken(work, f"{piece:05d}") as (folder, handle):
        if os.pread(handle, len(order), 0) != order.encode():
            _empty(folder)
            os.ftruncate(handle, 0)
            os.pwrite(handle, order.encode(), 0)
        yield folder


def put_once(store: Target, target: Target, data: bytes) -> bool:
    """Write a small file of a store only where there is none, see `put_new`; leave nothing beside.

    Of a process that is killed meanwhile, the rest is where `sweep` finds it.
    """
    if is_url(store):
        return put_new(target, data)
    with _place_for_new(store) as folder:
        return put_new(target, data, aside=folder)


def put_over(store: Target, target: Target, data: bytes) -> None:
    """Write a small file of a store in place of what is there; leave nothing beside, as above."""
    if is_url(store):
        put(target, data)
        return
    with _place_for_new(store) as folder:
        aside = folder / name_of(target)
        put(aside, data)
        disk.rename(aside, local_path(target))
        disk.sync_folder(local_path(target).parent)


def is_being_made(work: Path, piece: int) -> bool:
    """Tell whether a process that lives is at the first folder of a piece."""
    folder = work / f"{piece:05d}"
    if not folder.is_dir():
        return False
    with suppress(OSError):
        handle = _locked(folder)
        if handle is None:
            return True
        os.close(handle)
    return False


def sweep(work: Path, done: Container[int]) -> None:
    """Remove what killed processes left, but for pieces that are not finished.

    The folder of all goes once it is empty.
    """
    with suppress(OSError):  # it is in nobody's way
        for folder in sorted(work.iterdir()):
            found = _FOLDER.fullmatch(folder.name)
            if found is None or (found[1] != _NEW and int(found[1]) not in done):
                continue
            handle = _locked(folder)
            if handle is not None:
                _remove(folder)
                os.close(handle)
        work.rmdir()


@contextmanager
def _place_for_new(store: Target) -> Iterator[Path]:
    """Give a folder to begin a small file in, which goes at the end."""
    work = work_folder(store)
    with _taken(work, _NEW) as (folder, _):
        yield folder
    with suppress(OSError):  # others are there
        work.rmdir()


@contextmanager
def _taken(work: Path, name: str) -> Iterator[tuple[Path, int]]:
    """Take the first folder of a name that nobody has, with its lock; it goes if all goes well."""
    folder, handle = _first_free(work, name)
    try:
        yield folder, handle
        _remove(folder)
    finally:
        os.close(handle)


def _first_free(work: Path, name: str) -> tuple[Path, int]:
    for number in count(1):
        folder = work / (name if number == 1 else f"{name}.{number}")
        try:
            handle = _locked(folder)
        except PermissionError:
            if not folder.exists():
                raise
            continue  # another user's
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            # Whoever is there can't be told from who was killed there.
            folder = work / f"{name}.{socket.gethostname()}-{os.getpid()}"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return folder, _opened(folder)
        if handle is not None:
            return folder, handle
    raise AssertionError("numbers have no end")


def _locked(folder: Path) -> int | None:
    """Lock a folder, which is made if it is not there; None where another process has it."""
    while True:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = _opened(folder)
        except FileNotFoundError:  # another process has just removed it, or the one above
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who had the lock before may have removed the folder since the file was opened.
            with suppress(FileNotFoundError):
                if os.path.samestat((folder / _LOCK).lstat(), os.fstat(handle)):
                    return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _opened(folder: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(folder / _LOCK, flags, 0o600)


def _remove(folder: Path) -> None:
    """Remove a folder whose lock this process has: the lock last, as whoever takes it may begin."""
    with suppress(OSError):  # it is in nobody's way
        _empty(folder)
        disk.unlink(folder / _LOCK)
        folder.rmdir()


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            disk.unlink(path)
