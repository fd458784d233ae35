"""Seal the bytes of a head, so that a bit that has changed since is told, whichever it is.

In come the bytes of a joblib file, out come those and, behind them, a line with their SHA-256, or
the other way round. joblib reads no further than its own end, so it reads the head as ever. Heads
of before, and those that were dumped again, have no seal and are taken as they are. It shows
damage, not who made a file.
"""

from __future__ import annotations

import re
from hashlib import sha256

from features.errors import FileRefused

_SEAL = re.compile(rb"\nsha256 ([0-9a-f]{64})\n\Z")
_BYTES = len("\nsha256 \n") + 64


def seal_of(data: bytes) -> bytes:
    r"""Give what goes behind the bytes of a head.

    Examples
    --------
    >>> seal_of(b"a head")[:20]
    b'\nsha256 4ebc204abb3a'
    """
    return f"\nsha256 {sha256(data).hexdigest()}\n".encode()


def unsealed(data: bytes) -> bytes:
    """Take the seal away, where there is one.

    Raises
    ------
    FileRefused
        The bytes are not those that were sealed.
    """
    found = _SEAL.search(data, max(0, len(data) - _BYTES))
    if found is None:
        return data
    if seal_of(data[: found.start()]) != found[0]:
        raise FileRefused("bits of it have changed since it was written: fit or copy it again")
    return data[: found.start()]
