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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, BinaryIO, cast

from features.base import disk
from features.base.atomic import replacing
from features.base.remote.filesystem import URL, asking, code_of, is_atomic, opened, protocol_of
from features.base.shown import size as shown_size
from features.errors import CannotContinue, InputError, system_reason

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Target = str | Path
# Answers of S3 to a write that found something, and to one that met another in the middle.
_THERE, _MEETING = "PreconditionFailed", "ConditionalRequestConflict"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_TRIES = 5
_TOGETHER = 256
# Buckets of which it is known that they keep to the condition.
_keep_to_it: set[str] = set()


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


def is_url(target: Target) -> bool:
    """Whether a target is in object storage, or anywhere else that is no path of this machine.

    Examples
    --------
    >>> is_url("s3://bucket/tweets.csv"), is_url("tweets.csv"), is_url("file:///tweets.csv")
    (True, False, False)
    """
    if not isinstance(target, str):
        return False
    match = URL.match(target)
    return match is not None and match[1].lower() not in ("file", "local")


def local_path(target: Target) -> Path:
    """Give the path of a target that is no URL, or of a `file://`."""
    text = str(target)
    match = URL.match(text)
    return Path(text[match.end() :]) if match is not None else Path(text)


def child(folder: Target, *names: str) -> Target:
    """Give the target of a name in a folder.

    Examples
    --------
    >>> child("s3://bucket/store/", "receipts", "00012.json")
    's3://bucket/store/receipts/00012.json'
    """
    if is_url(folder):
        return "/".join([str(folder).rstrip("/"), *names])
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
    if not is_url(target):
        path = local_path(target)
        if not path.is_file():
            return None
        found = path.stat()
        return Info(found.st_size, str(found.st_mtime_ns))
    with asking(str(target), "read"):
        fs, path_there = opened(str(target))
        try:
            facts = fs.info(path_there)
        except FileNotFoundError as error:
            if code_of(error) == "NoSuchBucket":
                raise
            return None
        if facts["type"] != "file":
            return None
        return Info(int(facts["size"] or 0), _version(facts))
    raise AssertionError("asking lets no error pass")


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
    found = info(target)
    if found is None:
        raise InputError(f"{target}: no such file")
    return found.size


def read_bytes(target: Target) -> bytes:
    """Read a small file.

    Raises
    ------
    InputError, CannotContinue
    """
    return next(read_each([target]))


def read_each(targets: Sequence[Target]) -> Iterator[bytes]:
    """Read many small files, in order; of a server many at a time.

    Raises
    ------
    InputError, CannotContinue
        One of them is not there or can't be read; it is named.
    """
    for start in range(0, len(targets), _TOGETHER):
        some = targets[start : start + _TOGETHER]
        if is_url(some[0]):
            yield from _read_urls([str(target) for target in some])
        else:
            yield from map(_read_path, map(local_path, some))


@contextmanager
def reading(target: Target) -> Iterator[BinaryIO]:
    """Open a file to be read from any place; of a server, what is read is fetched by ranges."""
    if not is_url(target):
        with local_path(target).open("rb") as file:
            yield file
        return
    with asking(str(target), "read"):
        fs, path = opened(str(target))
        with fs.open(path, "rb") as there:
            yield cast(BinaryIO, there)


def listed(folder: Target) -> dict[str, int]:
    """Give names and bytes of the files in a folder, by name; empty where there is none."""
    if not is_url(folder):
        path = local_path(folder)
        found = [one for one in path.iterdir() if one.is_file()] if path.is_dir() else []
        return {one.name: one.stat().st_size for one in sorted(found)}
    with asking(str(folder), "read"):
        fs, path_there = opened(str(folder).rstrip("/"))
        try:
            entries = fs.ls(path_there, detail=True)
        except FileNotFoundError as error:
            if code_of(error) == "NoSuchBucket":
                raise
            return {}
        files = [one for one in entries if one["type"] == "file" and not one["name"].endswith("/")]
        names = {one["name"].rpartition("/")[2]: int(one["size"] or 0) for one in files}
        return dict(sorted(names.items()))
    raise AssertionError("asking lets no error pass")


def put_new(target: Target, data: bytes) -> bool:
    """Write a small file only where there is none; whether it was written.

    Of several who write at once, one is told True. Where an answer was lost and the request made
    again, nobody may be: who is told False reads what is there, and may find its own content.

    Raises
    ------
    InputError
        The protocol can't promise it.
    CannotContinue
        The server does not keep to the condition, though the protocol has it.
    """
    if not is_url(target):
        return _link_new(local_path(target), data)
    url = str(target)
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


def put(target: Target, data: bytes) -> None:
    """Write a small file, in place of what is there; it appears whole."""
    if not is_url(target):
        with replacing(local_path(target)) as aside:
            aside.write_bytes(data)
        return
    with asking(str(target), "written"):
        fs, path = _writable(str(target))
        fs.pipe_file(path, data)


def put_file(file: Path, target: str) -> None:
    """Upload a file, in place of what is there; it appears whole, when all of it has arrived.

    Raises
    ------
    InputError, CannotContinue
        Then nothing has changed there. Parts of a large file that was being uploaded when the
        process was killed stay on the server unseen, until a rule of the bucket removes them.
    """
    with asking(target, "written"):
        fs, path = _writable(target)
        fs.put_file(str(file), path)
        there = int(fs.info(path)["size"] or 0)
        if there != file.stat().st_size:
            raise CannotContinue(
                f"{target} has {there} bytes after the upload, not {file.stat().st_size}; run the "
                "same command again"
            )


def put_folder(folder: Path, target: Target) -> None:
    """Upload the files of a folder, by name, or move the folder to its place on this disk.

    Of a server they appear one by one: write then what says that they are complete.
    """
    if not is_url(target):
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                with file.open("rb") as written:
                    disk.sync(written.fileno())
            else:
                disk.sync_folder(file)
        disk.sync_folder(folder)
        disk.rename(folder, local_path(target))
        disk.sync_folder(local_path(target).parent)
        return
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            put_file(file, str(child(target, *file.relative_to(folder).parts)))


def fetch(target: str, file: Path) -> None:
    """Download a file; it appears whole.

    Raises
    ------
    InputError
        It is not there.
    CannotContinue
        There is no room for it, it changed while it was read, or the server fails.
    """
    before = info(target)
    if before is None:
        raise InputError(f"{target}: no such file")
    free = disk.free(file.parent)
    if before.size > free:
        raise CannotContinue(
            f"{target} has {shown_size(before.size)}, and {file.parent} has {shown_size(free)} "
            "left: make room, or say with TMPDIR or FROSTLINE_CACHE where there is more"
        )
    with replacing(file) as aside:
        with asking(target, "read"):
            fs, path = opened(target)
            fs.get_file(path, str(aside))
        if aside.stat().st_size != before.size or info(target) != before:
            raise CannotContinue(f"{target} changed while it was read; run the same command again")


def _created(url: str, data: bytes) -> bool:
    for attempt in range(_TRIES):
        fs, path = _writable(url)
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


def _link_new(path: Path, data: bytes) -> bool:
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            aside = Path(folder) / path.name
            with aside.open("wb") as file:
                disk.write(file.fileno(), data)
                disk.sync(file.fileno())
            made = _linked(aside, path)
            disk.sync_folder(path.parent)
        return made
    except OSError as error:
        raise CannotContinue(f"{path} cannot be written: {system_reason(error)}") from error


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


def _writable(url: str) -> tuple[AbstractFileSystem, str]:
    fs, path = opened(url)
    if not is_atomic(url):
        raise InputError(
            f"{url}: {protocol_of(url)}:// does not promise that a file appears whole; write to "
            "s3://, gs:// or a folder (files can be read from there)"
        )
    return fs, path


def _read_urls(urls: Sequence[str]) -> list[bytes]:
    with asking(urls[0], "read"):
        fs, _ = opened(urls[0])
        paths = [opened(url)[1] for url in urls]
        # Whole files, many at a time; its name is that of ranges, but it takes names as they are.
        found = fs.cat_ranges(paths, [None] * len(paths), [None] * len(paths), on_error="return")
    for url, content in zip(urls, found, strict=True):
        with asking(url, "read"):
            if isinstance(content, BaseException):
                raise content
    return [bytes(content) for content in found]


def _read_path(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {system_reason(error)}") from error


def _version(facts: dict[str, object]) -> str:
    for name in ("ETag", "etag", "generation", "mtime", "LastModified", "created"):
        if facts.get(name):
            return str(facts[name])
    return ""
