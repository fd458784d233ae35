"""Read and write files in object storage by their URLs, one request each where that is possible.

In come URLs and bytes or files of this machine. What is written appears whole, and `put_new` writes
only where there is nothing. `features/base/storage.py` gives the same names for paths too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, BinaryIO, cast

from features.base import disk
from features.base.remote.filesystem import asking, code_of, is_of_library, opened, writable
from features.base.remote.urls import child_of, protocol_of
from features.errors import CannotContinue, InputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# Answers of S3 to a write that found something, and to one that met another in the middle.
_THERE, _MEETING = "PreconditionFailed", "ConditionalRequestConflict"
_TRIES = 5
_TOGETHER = 256
# Bytes that are fetched at least where a file is read by ranges.
_BLOCK = 4 * 2**20
# Buckets of which it is known that they keep to the condition.
_keep_to_it: set[str] = set()
# Requests at once, and what is known while `asked_together` lasts.
_AT_ONCE = 32
_asked: dict[str, Info | None] = {}


@dataclass(frozen=True)
class Info:
    """What a server or disk says of a file.

    Attributes
    ----------
    size : int
        In bytes.
    version : str
        Another one when the content is another: an ETag, a generation, or the time of the change.
    """

    size: int
    version: str


def info(url: str) -> Info | None:
    """Give what is known of a file; None where there is none."""
    if url in _asked:
        return _asked[url]
    return _info(url, *opened(url))


@contextmanager
def asked_together(urls: Iterable[str]) -> Iterator[None]:
    """Ask a server of many files at once, and answer `info` of them by that while it lasts."""
    new = [url for url in dict.fromkeys(urls) if url not in _asked]
    # A client belongs to the thread that made it, and may be used by others.
    clients = [opened(url) for url in new]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda url, client: _info(url, *client), new, clients)
        _asked.update(zip(new, found, strict=True))
    try:
        yield
    finally:
        for url in new:
            del _asked[url]


def _info(url: str, fs: AbstractFileSystem, path: str) -> Info | None:
    with asking(url, "read"):
        try:
            facts = fs.info(path)
        except FileNotFoundError as error:
            if code_of(error) == "NoSuchBucket":
                raise
            return None
        if facts["type"] != "file":
            return None
        return Info(int(facts["size"] or 0), _version(facts))
    raise AssertionError("asking lets no error pass")


def listed(url: str) -> dict[str, int]:
    """Give names and bytes of the files in a folder, by name; empty where there is none."""
    with asking(url, "read"):
        fs, path = opened(url.rstrip("/"))
        try:
            entries = fs.ls(path, detail=True)
        except FileNotFoundError as error:
            if code_of(error) == "NoSuchBucket":
                raise
            return {}
        names = [one["name"].rpartition("/")[2] for one in entries]
        found = {
            name: int(one["size"] or 0)
            for name, one in zip(names, entries, strict=True)
            if one["type"] == "file" and name and one["name"].rstrip("/") != path.rstrip("/")
        }
        return dict(sorted(found.items()))
    raise AssertionError("asking lets no error pass")


def matching(pattern: str) -> list[str]:
    """Give the URLs of files by a pattern, by name."""
    with asking(pattern, "read"):
        fs, path = opened(pattern)
        found = fs.glob(path, detail=True)
        return sorted(
            f"{protocol_of(pattern)}://{name.lstrip('/')}"
            for name, facts in found.items()
            if facts["type"] == "file"
        )
    raise AssertionError("asking lets no error pass")


def read_each(urls: Sequence[str]) -> Iterator[bytes]:
    """Read small files, in order, many at a time."""
    for start in range(0, len(urls), _TOGETHER):
        some = urls[start : start + _TOGETHER]
        with asking(some[0], "read"):
            fs, _ = opened(some[0])
            paths = [opened(url)[1] for url in some]
            # Whole files: `cat` would take names with * and [ for patterns.
            whole = [None] * len(paths)
            found = fs.cat_ranges(paths, whole, whole, on_error="return")
        for url, content in zip(some, found, strict=True):
            with asking(url, "read"):
                if isinstance(content, BaseException):
                    raise content
            yield bytes(content)


@contextmanager
def reading(url: str) -> Iterator[BinaryIO]:
    """Open a file to be read from any place; what is read is fetched by ranges."""
    with ExitStack() as stack:
        with asking(url, "read"):
            fs, path = opened(url)
            there = stack.enter_context(fs.open(path, "rb", block_size=_BLOCK))
        try:
            yield cast(BinaryIO, there)
        except Exception as error:
            if not is_of_library(error):
                raise
            with asking(url, "read"):
                raise


def put(url: str, data: bytes) -> None:
    """Write a small file, in place of what is there."""
    with asking(url, "written"):
        fs, path = writable(url)
        fs.pipe_file(path, data)


def put_new(url: str, data: bytes) -> bool:
    """Write a small file where there is none; see `features.base.storage.put_new`."""
    with asking(url, "written"):
        made = _created(url, data)
        bucket = "/".join(url.split("/")[:3])
        if made and bucket not in _keep_to_it:
            if _created(url, data):
                raise CannotContinue(
                    f"{bucket}: its server takes a file that must not be there yet (If-None-Match) "
                    "though it is there, so that two jobs could overwrite each other: use a server "
                    "that keeps to it, or write to a folder that the machines share"
                )
            _keep_to_it.add(bucket)
        return made
    raise AssertionError("asking lets no error pass")


def put_file(file: Path, url: str) -> None:
    """Upload a file, in place of what is there."""
    with asking(url, "written"):
        fs, path = writable(url)
        fs.put_file(str(file), path)
        there = int(fs.info(path)["size"] or 0)
        if there != file.stat().st_size:
            raise CannotContinue(
                f"{url} has {there} bytes after the upload, not {file.stat().st_size}; run the "
                "same command again"
            )


def put_folder(folder: Path, url: str) -> None:
    """Upload the files of a folder and of those in it, by name; they appear one by one."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            put_file(file, child_of(url, *file.relative_to(folder).parts))


def remove(url: str) -> None:
    """Remove a file."""
    with asking(url, "written"):
        fs, path = writable(url)
        fs.rm_file(path)


def fetch(url: str, file: Path, before: Info) -> None:
    """Download a file that is known to have been there; it appears whole.

    Raises
    ------
    InputError, CannotContinue
        See `features.base.storage.fetch`.
    """
    free = disk.free(file.parent)
    if before.size > free:
        raise CannotContinue(
            f"{url} has {before.size:,} bytes, and {file.parent} has {free:,} left: make room, or "
            "say with TMPDIR where there is more"
        )
    aside = file.with_name(f".{file.name}.part")
    try:
        with asking(url, "read"):
            fs, path = opened(url)
            fs.get_file(path, str(aside))
        if aside.stat().st_size != before.size or info(url) != before:
            raise CannotContinue(f"{url} changed while it was read; run the same command again")
        disk.rename(aside, file)
    finally:
        disk.unlink(aside)


def known(url: str) -> Info:
    """Give what is known of a file.

    Raises
    ------
    InputError
        There is none.
    """
    found = info(url)
    if found is None:
        raise InputError(f"{url}: no such file")
    return found


def _created(url: str, data: bytes) -> bool:
    for attempt in range(_TRIES):
        fs, path = writable(url)
        try:
            fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if code_of(error) == _THERE:
                return False
            if code_of(error) != _MEETING or attempt == _TRIES - 1:
                raise
            sleep(0.1 * 2**attempt)
        else:
            return True
    raise AssertionError("the last try returns or raises")


def _version(facts: dict[str, object]) -> str:
    for name in ("ETag", "etag", "generation", "mtime", "LastModified", "created"):
        if facts.get(name):
            return str(facts[name])
    return ""
