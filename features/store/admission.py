"""Open feature files in a child process first, before they are opened in this one.

HDF5 is a large C library, and a file from elsewhere can make it crash, loop or fill the memory. So
whatever this process has not written itself is first opened, checked and walked through by the same
code (`features/store/format.py`, `features/store/structure.py`) in a child with limits of time and
memory; what ends badly there is refused here. One child does for all shards of a store, once a
process.

There is no receipt in the file or beside it that would spare a file the child: a stranger could
write the same, and a secret one would have to cover every byte, where the child reads the structure
alone. A file is known by device, inode, size and time, so one that changes meanwhile is checked
again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from errno import ENOENT
from pathlib import Path

import h5py

from features.base import child as children
from features.errors import CannotContinue, FileRefused, system_reason
from features.store.format import open_file, read_shard
from features.store.structure import check_storage


@dataclass(frozen=True)
class Limits:
    """The limits of a child.

    An honest file of 150 MB takes 0.2 s, nearly all of it the start of Python.
    """

    cpu_seconds: int = 20
    wall_seconds: float = 60
    memory_bytes: int = 2**30


LIMITS = Limits()
# How often a file is opened again that was replaced at the very moment.
TRIES = 20

Identity = tuple[int, int, int, int]
_known: set[Identity] = set()

# What the child says of a file that was removed meanwhile.
_GONE = "gone"
# HDF5 shall load no plugins.
_ENVIRONMENT = children.ONE_THREAD | {"HDF5_PLUGIN_PRELOAD": "::"}


def identity(file: Path | int) -> Identity:
    """Identify the content of a path or an open file, as unlike an earlier or a later one."""
    status = os.fstat(file) if isinstance(file, int) else file.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def vouch(path: Path) -> None:
    """Admit a file that this process has just written itself, without a child."""
    _known.add(identity(path))


def admit(
    paths: Sequence[Path], *, limits: Limits = LIMITS, program: str | None = None
) -> list[Identity]:
    """Give the identities of these files, once a child has come through them.

    Parameters
    ----------
    paths : sequence of Path
    limits : Limits
    program : str, optional
        What the child runs; default: `child`.

    Raises
    ------
    FileRefused
        One of them is not a feature file, or a child could not open it within its limits.
    CannotContinue
        No child could be started.
    FileNotFoundError
        One was removed meanwhile.
    """
    found = [identity(path) for path in paths]
    strange = [path for path, known in zip(paths, found, strict=True) if known not in _known]
    if strange:
        _rehearse(strange, limits, program or children.code(__name__))
        _known.update(found)
    return found


def open_admitted(path: Path) -> h5py.File:
    """Open a file that a child has come through; a writer may replace it meanwhile.

    Raises
    ------
    FileRefused
        It is not a feature file, or it changes all the time.
    FileNotFoundError
    """
    for _ in range(TRIES):
        admitted = admit([path])
        file = open_file(path)
        if [identity(file.id.get_vfd_handle())] == admitted:
            return file
        file.close()
    raise FileRefused(f"{path} changes again and again while it is opened")


def _rehearse(paths: Sequence[Path], limits: Limits, program: str) -> None:
    order = json.dumps({"paths": [os.fspath(path) for path in paths], "limits": asdict(limits)})
    named = f"{paths[0]}" if len(paths) == 1 else f"{paths[0]} or one of {len(paths) - 1} beside it"
    try:
        done = subprocess.run(
            children.command(program),
            input=order,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=os.environ | _ENVIRONMENT,
            timeout=limits.wall_seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise FileRefused(
            f"{named} could not be opened in {limits.wall_seconds} s; it is not read further"
        ) from error
    except OSError as error:
        raise CannotContinue(
            f"{named}: no process could be started to check it: {system_reason(error)}"
        ) from error
    if done.returncode == FileRefused.exit_code:
        raise FileRefused(json.loads(done.stdout))
    if done.returncode == 0 and done.stdout == _GONE:
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), named)
    if done.returncode != 0 or done.stdout != "ok":
        raise FileRefused(
            f"{named} could not be opened within {limits.cpu_seconds} s and "
            f"{limits.memory_bytes >> 20} MiB: the process that tried it ended with "
            f"{children.ending(done.returncode, done.stderr)}"
        )


def child() -> None:
    """Run in the child: take the order from standard input, answer on standard output."""
    order = json.loads(sys.stdin.read())
    limits = Limits(**order["limits"])
    children.set_limits(
        memory_bytes=limits.memory_bytes, cpu_seconds=limits.cpu_seconds, written_bytes=0
    )
    try:
        for path in map(Path, order["paths"]):
            if not path.exists():
                sys.stdout.write(_GONE)
                return
            with open_file(path) as file:
                check_storage(file, read_shard(file).datasets)
    except FileRefused as error:
        sys.stdout.write(json.dumps(str(error)))  # in ASCII, whatever the name of the file
        sys.exit(FileRefused.exit_code)
    sys.stdout.write("ok")
