"""Take URLs apart: no server, no library, no file."""

from __future__ import annotations

import re

# By protocol, the server that keeps files in buckets, which is also the extra of its library.
BUCKETS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://", re.ASCII)


def protocol_of(url: str) -> str:
    """Give the protocol of a URL.

    Examples
    --------
    >>> protocol_of("s3://bucket/key")
    's3'
    """
    match = URL.match(url)
    assert match is not None, url
    return match[1].lower()


def is_url(target: object) -> bool:
    """Whether a target is no path of this machine; `file://` is one.

    Examples
    --------
    >>> is_url("s3://bucket/tweets.csv"), is_url("tweets.csv"), is_url("file:///tweets.csv")
    (True, False, False)
    """
    match = URL.match(target) if isinstance(target, str) else None
    return match is not None and match[1].lower() not in ("file", "local")


def child_of(url: str, *names: str) -> str:
    """Give the URL of a name in a folder."""
    return "/".join([url.rstrip("/"), *names])
