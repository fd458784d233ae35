"""Read files in object storage by their URLs, one request each where that is possible.

In come URLs, out come bytes, and what a server knows of files. `features/base/storage.py` gives the
same names for paths too. Nothing is written there (`features/base/remote/uploads.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from features.base import disk
from features.base.remote.filesystem import (
    asking,
    code_of,
    is_of_library,
    opened,
    patient,
    server_of,
)
from features.base.remote.urls import protocol_of
from features.errors import CannotContinue, InputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_TOGETHER = 256
# Bytes that are fetched at least where a file is read by ranges.
_BLOCK = 4 * 2**20
# Of a download from S3, which is held in memory part by part.
_PARTS = {"chunksize": 16 * 2**20, "max_concurrency": 4}
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


@patient
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


@patient
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


@patient
def is_folder(url: str) -> bool:
    """Whether there is anything in a folder, or in those in it."""
    with asking(url, "read"):
        fs, path = opened(url)
        return bool(fs.isdir(path))
    raise AssertionError("asking lets no error pass")


@patient
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
        yield from _read_some(urls[start : start + _TOGETHER])


@patient
def _read_some(urls: Sequence[str]) -> list[bytes]:
    with asking(urls[0], "read"):
        fs, _ = opened(urls[0])
        paths = [opened(url)[1] for url in urls]
        # Whole files: `cat` would take names with * and [ for patterns.
        whole = [None] * len(paths)
        found = fs.cat_ranges(paths, whole, whole, on_error="return")
    for url, content in zip(urls, found, strict=True):
        with asking(url, "read"):
            if isinstance(content, BaseException):
                raise content
    return [bytes(content) for content in found]


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
        _get(url, aside)
        if aside.stat().st_size != before.size or info(url) != before:
            raise CannotContinue(f"{url} changed while it was read; run the same command again")
        disk.rename(aside, file)
    finally:
        disk.unlink(aside)


@patient
def _get(url: str, file: Path) -> None:
    with asking(url, "read"):
        fs, path = opened(url)
        limits = _PARTS if server_of(url) == "s3" else {}
        fs.get_file(path, str(file), **limits)


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


def _version(facts: dict[str, object]) -> str:
    for name in ("ETag", "etag", "generation", "mtime", "LastModified", "created"):
        if facts.get(name):
            return str(facts[name])
    return ""
