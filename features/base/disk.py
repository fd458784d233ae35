"""Change what is on the disk under a name: every such operation, one function each.

Files that stay are changed through these alone, so that tests can stop, fail or kill a run before
and after each one. What they raise is the system's `OSError`. Scratch files, which no later run
reads, are written directly.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def write(handle: int, data: bytes | memoryview) -> None:
    """Write all of some data where the file stands."""
    left = memoryview(data).cast("B")
    while left:
        left = left[os.write(handle, left) :]


def truncate(handle: int, size: int) -> None:
    """Cut a file, or fill it up with zeros."""
    os.ftruncate(handle, size)


def sync(handle: int) -> None:
    """Bring a file's content to the disk."""
    os.fsync(handle)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(path: Path, to: Path) -> None:
    """Give a file another name, in place of what has it."""
    path.replace(to)


def link(path: Path, to: Path) -> None:
    """Give a file a second name, which nobody may have; FileExistsError where somebody does."""
    to.hardlink_to(path)


def unlink(path: Path) -> None:
    """Remove a name, if it is there."""
    path.unlink(missing_ok=True)


def mkdir(path: Path) -> None:
    """Make a folder, if it is not there."""
    path.mkdir(exist_ok=True)


def free(folder: Path) -> int:
    """Count the bytes that this user can still write there."""
    return shutil.disk_usage(folder).free
