"""Name the files of duplicates in a store, and tell which of them are there.

    store/.duplicates/
    ├── at-digests-00012  the claim of a job that is, or was, at that file (`claims`)
    ├── digests-00012     the different texts of piece 12 (`digests`)
    ├── ranges.json       the borders that all jobs cut them at (`ranges`)
    ├── shared-00003      of range 3, what each owner gives to others (`owners`)
    ├── takes-00003       of range 3, what each piece takes; there once the range is done
    └── vectors-00012     the vectors that others take of piece 12 (`vectors`)

Each appears whole, is never changed and has the same bytes whoever writes it, on machines of one
kind. So a name that is there is a task that is done, and two jobs that do the same one do no harm.
Nothing is computed here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from features.base import disk
from features.base.remote import uploads
from features.base.remote.urls import is_url
from features.base.storage import Target, child, exists, listed, local_path, put_new, read_bytes
from features.errors import (
    CannotContinue,
    FileRefused,
    FrostlineError,
    InputError,
    first_line,
    system_reason,
)
from features.pieces.duplicates.digests import BITS
from features.pieces.duplicates.ranges import Range, cut_ranges
from features.store.joined.fields import check_names, content_of, count
from features.store.joined.layout import DUPLICATES

FORMAT, VERSION = "frostline-ranges", 1
_RANGES = "ranges.json"
# Files that a server is asked to remove at the same time.
_TOGETHER = 16
_CURE = "remove it, and run the same command again"


@dataclass(frozen=True)
class Folder:
    """The files of duplicates of a store.

    Attributes
    ----------
    store : path or URL
    pieces : int
        Of the store.
    """

    store: Target
    pieces: int

    def digests(self, piece: int) -> Target:
        """Give where the digests of a piece lie."""
        return self._target(f"digests-{piece:05d}")

    def shared(self, number: int) -> Target:
        """Give where the texts that owners give to others lie, of a range."""
        return self._target(f"shared-{number:05d}")

    def takes(self, number: int) -> Target:
        """Give where the texts that pieces take lie, of a range."""
        return self._target(f"takes-{number:05d}")

    def vectors(self, piece: int) -> Target:
        """Give where the vectors that others take of a piece lie."""
        return self._target(f"vectors-{piece:05d}")

    def make(self) -> None:
        """Make the folder, if it is not there; in object storage there are none."""
        if is_url(self.store):
            return
        folder = local_path(self.store) / DUPLICATES
        try:
            if not folder.is_dir():
                disk.mkdir(folder)
                disk.sync_folder(folder.parent)
        except OSError as error:
            raise CannotContinue(f"{folder} cannot be written: {system_reason(error)}") from error

    @property
    def borders(self) -> Target:
        """Where the borders of the ranges lie."""
        return self._target(_RANGES)

    @property
    def place(self) -> Target:
        """Where it is."""
        return child(self.store, DUPLICATES)

    def remove(self, say: Callable[[str], None]) -> None:
        """Remove it with all that is in it, once the store is whole; say so where it stays."""
        if not is_url(self.store):
            shutil.rmtree(local_path(self.place), ignore_errors=True)
            return
        try:
            # All of them are in one folder, and nothing else is in it.
            with ThreadPoolExecutor(_TOGETHER) as together:
                names = map(self._target, listed(self.place))
                list(together.map(uploads.remove, map(str, names)))
        except FrostlineError as error:  # who may write may not remove everywhere
            say(f"{self.place} is needed no more, and stays: {error}")

    def without(self, step: str, numbers: Iterable[int]) -> list[int]:
        """Give those of the numbers whose file of a step (`digests`, `takes`, `vectors`) lacks."""
        there = listed(self.place)
        return [number for number in numbers if f"{step}-{number:05d}" not in there]

    def cut(self, memory: int) -> None:
        """Cut the ranges, unless somebody has; the digests of all pieces must be there.

        Parameters
        ----------
        memory : int
            Bytes that work on a range may take.

        Raises
        ------
        InputError
            It is too little.
        FileRefused, CannotContinue
        """
        target = self.borders
        if exists(target):
            return
        cut = cut_ranges([self.digests(piece) for piece in range(self.pieces)], memory)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "memory": memory,
            "lows": [f"{one.low:0{BITS // 4}x}" for one in cut],
        }
        put_new(target, (json.dumps(content, indent=1) + "\n").encode())

    def ranges(self, memory: int | None = None) -> list[Range]:
        """Read the ranges, which are cut.

        Parameters
        ----------
        memory : int, optional
            Bytes that work on a range may take here.

        Raises
        ------
        InputError
            They were cut for more memory.
        FileRefused, CannotContinue
        """
        cut_for, found = _read_ranges(self.borders)
        if memory is not None and memory < cut_for:
            raise InputError(
                f"`memory` is {memory:,} bytes, and the job that was first at {self.store} was "
                f"given {cut_for:,}, which this takes now: give all jobs the same"
            )
        return found

    def _target(self, name: str) -> Target:
        return child(self.store, DUPLICATES, name)


def _read_ranges(target: Target) -> tuple[int, list[Range]]:
    """Read the ranges, and the memory that they were cut for."""
    content = content_of(read_bytes(target), str(target), FORMAT, VERSION, _CURE)
    try:
        check_names(content, {"format", "version", "memory", "lows"}, "it")
        memory = count(content["memory"], "memory")
        lows = [int(low, 16) for low in content["lows"]]
        if lows[:1] != [0] or sorted(set(lows)) != lows or lows[-1] >= 2**BITS:
            raise ValueError("its ranges do not ascend from 0")
    except (ValueError, TypeError) as error:
        raise FileRefused(f"{target} is damaged: {first_line(error)}; {_CURE}") from error
    highs = [*lows[1:], 2**BITS]
    return memory, [Range(low, high) for low, high in zip(lows, highs, strict=True)]
