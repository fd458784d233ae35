"""Write files in object storage by their URLs; what is written appears whole.

In come URLs and bytes or files of this machine. `put_new` and `put_file_new` write only where there
is nothing, however many write there at once. `features/base/storage.py` gives the same names for
paths too. Nothing is read here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

from features.base.remote.filesystem import asking, code_of, patient, server_of, writable
from features.base.remote.objects import info, known
from features.base.remote.urls import child_of
from features.errors import CannotContinue

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# Answers of S3 to a write that found something, and to one that met another in the middle.
_THERE, _MEETING = "PreconditionFailed", "ConditionalRequestConflict"
_TRIES = 5
# Bytes that S3 takes in one request. A file that must be new goes in one if it can: of parts that
# are put together on the condition, SeaweedFS lets two of those who write at once pass.
_ONE_REQUEST = 5 * 2**30
# Of a file that goes in parts: bytes of one at least, how many there may be, and how many at once.
_PART_BYTES, _MOST_PARTS, _PARTS_AT_ONCE = 16 * 2**20, 10_000, 4
# Buckets of which it is known that they keep to the condition.
_keep_to_it: set[str] = set()


@patient
def put(url: str, data: bytes) -> None:
    """Write a small file, in place of what is there."""
    with asking(url, "written"):
        fs, path = writable(url)
        fs.pipe_file(path, data)


@patient
def put_new(url: str, data: bytes) -> bool:
    """Write a small file where there is none; see `features.base.storage.put_new`."""
    write = partial(_write_new, data=data)
    with asking(url, "written"):
        made = _is_first(url, write)
        bucket = "/".join(url.split("/")[:3])
        if made and bucket not in _keep_to_it and _is_first(url, write):
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
    _send(file, url)
    _check_size(url, file)


def put_file_new(file: Path, url: str) -> bool:
    """Upload a file where there is none; see `features.base.storage.put_file_new`."""
    if info(url) is not None:
        return False
    made = _send_new(file, url)
    if made:
        _check_size(url, file)
    return made


def put_folder(folder: Path, url: str) -> None:
    """Upload the files of a folder and of those in it, by name; they appear one by one."""
    for name in _names_in(folder):
        put_file(folder / name, child_of(url, *name.parts))


def put_folder_new(folder: Path, url: str) -> list[Path]:
    """Upload those files of a folder that are not there; give the names of those that are."""
    return [
        name
        for name in _names_in(folder)
        if not put_file_new(folder / name, child_of(url, *name.parts))
    ]


@patient
def check_writable(url: str) -> None:
    """Refuse a URL that can't be written to before there is anything to write; none is made.

    An upload in parts is begun and given up, which is what a server refuses where it would refuse
    the file.

    Raises
    ------
    InputError
        There is no permission, or no such bucket.
    CannotContinue
        The server can't be reached, or fails.
    """
    with asking(url, "written"):
        fs, path = writable(url)
        server = server_of(url)
        if server == "s3":
            bucket, key, _ = fs.split_path(path)
            begun = fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
            with suppress(PermissionError):  # then it stays, unseen and empty
                upload = begun["UploadId"]
                fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)
        elif server == "gcs":
            bucket, key, _ = fs.split_path(path)
            uploads = fs.base.replace("/storage/v1/", "/upload/storage/v1/")
            begun, _ = fs.call(
                "POST", uploads + "b/{}/o", bucket, uploadType="resumable", name=key, json={}
            )
            fs.call("DELETE", begun["Location"])


@patient
def remove(url: str) -> None:
    """Remove a file."""
    with asking(url, "written"):
        fs, path = writable(url)
        fs.rm_file(path)


@patient
def _send(file: Path, url: str) -> None:
    with asking(url, "written"):
        fs, path = writable(url)
        fs.put_file(str(file), path, **_in_parts(url, file))


@patient
def _send_new(file: Path, url: str) -> bool:
    if server_of(url) == "s3" and file.stat().st_size <= _ONE_REQUEST:
        write = partial(_put_object_new, file=file)
    else:
        write = partial(_write_file_new, file=file, limits=_in_parts(url, file))
    with asking(url, "written"):
        return _is_first(url, write)
    raise AssertionError("asking lets no error pass")


def _names_in(folder: Path) -> list[Path]:
    return sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())


def _is_first(url: str, write: Callable[[AbstractFileSystem, str], None]) -> bool:
    """Write on the condition that nothing is there; whether nothing was."""
    for attempt in range(_TRIES):
        try:
            write(*writable(url))
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


def _write_new(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    fs.pipe_file(path, data, mode="create")


def _write_file_new(fs: AbstractFileSystem, path: str, file: Path, limits: dict[str, Any]) -> None:
    fs.put_file(str(file), path, mode="create", **limits)


def _put_object_new(fs: AbstractFileSystem, path: str, file: Path) -> None:
    """Send a file to S3 in one request, which reads it while it sends."""
    from fsspec.asyn import sync
    from s3fs.errors import translate_boto_error

    bucket, key, _ = fs.split_path(path)
    asked = {**fs.s3_additional_kwargs, **fs.req_kw, "Bucket": bucket, "Key": key}

    async def send() -> None:
        await fs.set_session()
        client = await fs.get_s3(bucket)
        known_to = client.meta.service_model.operation_model("PutObject").input_shape.members
        wanted = {name: value for name, value in asked.items() if name in known_to}
        with file.open("rb") as body:  # botocore begins it again where it tries again
            await client.put_object(**wanted, Body=body, IfNoneMatch="*")

    try:
        sync(fs.loop, send)
    except Exception as error:
        raise translate_boto_error(error) from error


def _in_parts(url: str, file: Path) -> dict[str, int]:
    """Bound the memory of an upload to S3, which sends several parts at once."""
    if server_of(url) != "s3":
        return {}
    least = -(-file.stat().st_size // _MOST_PARTS)
    return {"chunksize": max(_PART_BYTES, least), "max_concurrency": _PARTS_AT_ONCE}


def _check_size(url: str, file: Path) -> None:
    there = known(url).size
    if there != file.stat().st_size:
        raise CannotContinue(
            f"{url} has {there} bytes after the upload, not {file.stat().st_size}; run the same "
            "command again"
        )
