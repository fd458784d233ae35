"""Count the rejects of a piece, and tell by a digest whether they are as they were written.

In comes the file of JSON Lines that lies beside the shards of a piece, out come two things that its
receipt says of it. Folders of the input are no part of the digest: machines have them elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePath

from features.base import storage
from features.base.storage import Target
from features.errors import FileRefused, first_line


def rejects_in(file: Target) -> tuple[int, str | None]:
    """Give how many rejects a file has, and the SHA-256 of what they say.

    Returns
    -------
    int
    str or None
        None where there is no file, as of a piece without rejects.

    Raises
    ------
    FileRefused
        A line of it is no reject.
    """
    if not storage.exists(file):
        return 0, None
    digest, rows = hashlib.sha256(), 0
    with storage.reading(file) as lines:
        for line in lines:
            try:
                reject = json.loads(line)
                reject["source"] = PurePath(reject["source"]).name
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise FileRefused(f"{file} is damaged: {first_line(error)}") from error
            digest.update(json.dumps(reject, sort_keys=True).encode() + b"\n")
            rows += 1
    return rows, digest.hexdigest()
