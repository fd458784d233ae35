"""Give the fsspec file system of a URL, and say in one line why it can't be reached.

In comes a URL such as `s3://bucket/tweets.csv`, out come fsspec's file system and its own path.
Credentials and the address of the server are those of the environment and of fsspec's
configuration (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `FSSPEC_S3_KEY`, ...); a URL that holds a
password is refused, since names are written into stores and messages. What a server does not answer
is asked again a few times; then the work stops. Libraries are imported where a URL is used alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from features.base.remote.urls import protocol_of
from features.errors import CannotContinue, FrostlineError, InputError, first_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# The extra that brings the library of a protocol.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
# Protocols under which a file appears whole or not at all, and can be made only where there is
# none. The memory of this process has one writer.
_ATOMIC = ("s3", "s3a", "gs", "gcs", "memory")
# Seconds, and tries after the first one: botocore makes 3 in each of s3fs's 5. So a server that
# can't be reached is given up in 150 seconds, and one that takes requests and is silent in 450.
_S3_LIMITS = {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 2}}
_CREDENTIALS = {
    "s3": "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, in the environment "
    "(FSSPEC_S3_ANON=true for a public bucket)",
    "gcs": "run `gcloud auth application-default login`, or give GOOGLE_APPLICATION_CREDENTIALS "
    "(FSSPEC_GCS_TOKEN=anon for a public bucket)",
}
_LIBRARIES = ("aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "google", "s3fs")
_NO_CREDENTIALS = ("NoCredentials", "PartialCredentials", "DefaultCredentials", "RefreshError")


def opened(url: str) -> tuple[AbstractFileSystem, str]:
    """Give the file system of a URL, and the path in it; nothing is asked of a server yet.

    Raises
    ------
    InputError
        There is no such protocol, its library is not installed, or the URL holds a password.
    """
    protocol = protocol_of(url)
    if "::" in url:
        raise InputError(f"{url}: one protocol at a time; unpack the file, and give its own URL")
    if re.match(r"[^/@]*:[^/@]*@", url[len(protocol) + 3 :]):
        hidden = f"{protocol}://...@{url.partition('@')[2]}"
        raise InputError(
            f"{hidden}: a password in a name would be kept in files: {_cure(protocol)}"
        )
    try:
        from fsspec.config import conf
        from fsspec.core import url_to_fs

        options: dict[str, Any] = {}
        if is_of_s3(url):
            options["config_kwargs"] = _S3_LIMITS | conf.get("s3", {}).get("config_kwargs", {})
        fs, path = url_to_fs(url, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        cure = f"pip install 'frostline[{extra}]'" if extra else first_line(error)
        raise InputError(f"{url}: files of {protocol}:// need another package: {cure}") from error
    except ValueError as error:
        raise InputError(
            f"{url}: {protocol}:// is not known: give the path of a file, or a URL of s3://, gs:// "
            f"or another protocol of fsspec ({first_line(error)})"
        ) from error
    fs.invalidate_cache()  # others write there too
    return fs, str(path)


def writable(url: str) -> tuple[AbstractFileSystem, str]:
    """Give the same of a URL to be written to.

    Raises
    ------
    InputError
        The protocol does not promise that a file appears whole.
    """
    fs, path = opened(url)
    if protocol_of(url) not in _ATOMIC:
        raise InputError(
            f"{url}: {protocol_of(url)}:// does not promise that a file appears whole; write to "
            "s3://, gs:// or a folder (files can be read from there)"
        )
    return fs, path


@contextmanager
def asking(url: str, doing: str) -> Iterator[None]:
    """Turn what a server or its library says into one line with a cure.

    Parameters
    ----------
    url : str
    doing : str
        `read`, `written` or `removed`.

    Raises
    ------
    InputError
        There is no such file or bucket, or no permission.
    CannotContinue
        The server can't be reached, or fails.
    """
    try:
        yield
    except FrostlineError:
        raise
    except FileNotFoundError as error:
        if code_of(error) == "NoSuchBucket":
            raise InputError(f"{url}: {_no_bucket(url)}") from error
        raise InputError(f"{url}: no such file") from error
    except PermissionError as error:
        raise InputError(
            f"{url} cannot be {doing}: {first_line(error)}: check that these credentials may do "
            f"that, or {_cure(protocol_of(url))}"
        ) from error
    except Exception as error:
        names = {type(one).__name__ for one in (error, error.__cause__)}
        if any(name.startswith(_NO_CREDENTIALS) for name in names):
            raise InputError(
                f"{url} cannot be {doing}: no credentials: {_cure(protocol_of(url))}"
            ) from error
        if code_of(error) == "NoSuchBucket":
            raise InputError(f"{url}: {_no_bucket(url)}") from error
        raise CannotContinue(
            f"{url} cannot be {doing}: {first_line(error)}; when the server can be reached, run "
            "the same command again"
        ) from error


def code_of(error: BaseException) -> str:
    """Give the code of an answer of S3, such as `NoSuchBucket`; empty where there is none."""
    for one in (error, error.__cause__, error.__context__):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def is_of_s3(url: str) -> bool:
    """Whether a URL is one of S3."""
    return _EXTRAS.get(protocol_of(url)) == "s3"


def is_of_library(error: Exception) -> bool:
    """Whether an error is of the kind that the libraries of a protocol raise alone."""
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def _no_bucket(url: str) -> str:
    bucket = url[len(protocol_of(url)) + 3 :].partition("/")[0]
    return f"there is no bucket {bucket!r}: make it, or correct the name"


def _cure(protocol: str) -> str:
    return _CREDENTIALS.get(
        _EXTRAS.get(protocol, ""), "give the credentials in fsspec's configuration"
    )
