"""Give the fsspec file system of a URL, and say in one line why it can't be reached.

In comes a URL such as `s3://bucket/tweets.csv`, out come fsspec's file system and its own path.
Credentials and the address of the server are those of the environment and of fsspec's
configuration (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `FSSPEC_S3_KEY`, ...); a URL that holds a
password is refused, since names are written into stores and messages. What a server does not answer
is asked again a few times; then the work stops. Libraries are imported where a URL is used alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from time import sleep
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from features.base.remote.urls import BUCKETS, protocol_of
from features.errors import CannotContinue, FrostlineError, InputError, first_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

P = ParamSpec("P")
T = TypeVar("T")
# Protocols under which a file appears whole or not at all, and can be made only where there is
# none. The memory of this process has one writer.
_ATOMIC = (*BUCKETS, "memory")
# Seconds, and tries after the first one: botocore makes 3 in each of s3fs's 5. So a server that
# can't be reached is given up in 150 seconds, and one that takes requests and is silent in 450.
_S3_LIMITS = {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 2}}
# Seconds before a busy server is asked again.
_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
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
    if server_of(url) and not url[len(protocol) + 3 :].partition("/")[0]:
        raise InputError(f"{url} names no bucket: give {protocol}://BUCKET/NAME")
    try:
        from fsspec.config import conf
        from fsspec.core import url_to_fs

        options: dict[str, Any] = {}
        if server_of(url) == "s3":
            options["config_kwargs"] = _S3_LIMITS | conf.get("s3", {}).get("config_kwargs", {})
        fs, path = url_to_fs(url, **options)
    except ImportError as error:
        extra = BUCKETS.get(protocol)
        cure = f"pip install 'frostline[{extra}]'" if extra else first_line(error)
        raise InputError(f"{url}: files of {protocol}:// need another package: {cure}") from error
    except ValueError as error:
        raise InputError(
            f"{url}: {protocol}:// is not known: give the path of a file, or a URL of s3://, gs:// "
            f"or another protocol of fsspec ({first_line(error)})"
        ) from error
    # Without a handler, Python prints what gcsfs logs of requests that failed, with its lines.
    logging.getLogger("gcsfs").addHandler(logging.NullHandler())
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
        # What is written needs nothing there but its bucket; Google says no more than that.
        if code_of(error) == "NoSuchBucket" or doing == "written":
            raise InputError(f"{url}: {_no_bucket(url)}") from error
        raise InputError(f"{url}: no such file") from error
    except Exception as error:
        if _is_forbidden(error):
            raise InputError(
                f"{url} cannot be {doing}: {first_line(error)}: check that these credentials may "
                f"do that, or {_cure(protocol_of(url))}"
            ) from error
        names = {type(one).__name__ for one in (error, error.__cause__)}
        if any(name.startswith(_NO_CREDENTIALS) for name in names):
            raise InputError(
                f"{url} cannot be {doing}: no credentials: {_cure(protocol_of(url))}"
            ) from error
        if code_of(error) == "NoSuchBucket":
            raise InputError(f"{url}: {_no_bucket(url)}") from error
        if _is_wrong_name(error):
            raise InputError(
                f"{url} cannot be {doing}: {' '.join(str(error).split())}: correct the name, or "
                "AWS_ENDPOINT_URL, such as https://minio.example.org"
            ) from error
        raise CannotContinue(
            f"{url} cannot be {doing}: {first_line(error)}; when the server can be reached, run "
            "the same command again"
        ) from error


def patient(ask: Callable[P, T]) -> Callable[P, T]:
    """Ask a server again, for a minute, that says it is too busy or fails for now.

    What is asked must be what can be asked twice.
    """

    @wraps(ask)
    def again(*args: P.args, **kwargs: P.kwargs) -> T:
        for pause in _PAUSES:
            try:
                return ask(*args, **kwargs)
            except CannotContinue as error:
                if error.__cause__ is None or not _is_busy(error.__cause__):
                    raise
            sleep(pause)
        return ask(*args, **kwargs)

    return again


def code_of(error: BaseException) -> str:
    """Give the code of an answer of S3, such as `NoSuchBucket`; empty where there is none."""
    return str(_answer_of(error).get("Error", {}).get("Code", ""))


def _answer_of(error: BaseException) -> dict[str, Any]:
    """Give the answer of S3 that an error of a library came of; empty where there is none."""
    for one in (error, error.__cause__, error.__context__):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return response
    return {}


def server_of(url: str) -> str:
    """Give `s3` or `gcs`, the kind of the server of a URL; empty for others."""
    return BUCKETS.get(protocol_of(url), "")


def is_of_library(error: Exception) -> bool:
    """Whether an error is of the kind that the libraries of a protocol raise alone."""
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def _is_busy(error: BaseException) -> bool:
    """Whether S3 answers by a number that says to come again; gcsfs comes again by itself."""
    status = int(_answer_of(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return status == 429 or 500 <= status < 600


def _is_forbidden(error: Exception) -> bool:
    """Whether a server says no to these credentials; gcsfs says so in words, or by a number."""
    return (
        isinstance(error, PermissionError)
        or (isinstance(error, OSError) and str(error).startswith("Forbidden:"))
        or getattr(error, "code", None) in (401, 403)
    )


def _is_wrong_name(error: Exception) -> bool:
    """Whether no bucket or no server can have such a name."""
    return (
        type(error).__name__ == "ParamValidationError"
        or (isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"))
        or code_of(error) == "InvalidBucketName"
    )


def _no_bucket(url: str) -> str:
    bucket = url[len(protocol_of(url)) + 3 :].partition("/")[0]
    return f"there is no bucket {bucket!r}: make it, or correct the name"


def _cure(protocol: str) -> str:
    return _CREDENTIALS.get(
        BUCKETS.get(protocol, ""), "give the credentials in fsspec's configuration"
    )
