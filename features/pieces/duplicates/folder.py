"""Name the files of duplicates in a store, and tell which of them are there.

    store/.duplicates/
    ├── digests-00012     the different texts of piece 12 (`digests`)
    ├── ranges.json       the borders that all jobs cut them at (`ranges`)
    ├── shared-00003      of range 3, what each owner gives to others (`owners`)
    ├── takes-00003       of range 3, what each piece takes; there once the range is done
    └── vectors-00012     the vectors that others take of piece 12 (`vectors`)

Each appears whole and has the same bytes whoever writes it, so a name that is there is a step that
is done, and two jobs that do the same step do no harm. Nothing is computed here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from features.base import disk
from features.base.remote.urls import is_url
from features.base.storage import Target, child, exists, listed, local_path, put_new, read_bytes
from features.errors import CannotContinue, FileRefused, first_line, system_reason
from features.pieces.duplicates.digests import BITS
from features.pieces.duplicates.ranges import MEMORY, Range, cut_ranges
from features.store.joined.fields import check_names, content_of

NAME = ".duplicates"
FORMAT, VERSION = "frostline-ranges", 1
_RANGES = "ranges.json"
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
        folder = local_path(self.store) / NAME
        try:
            if not folder.is_dir():
                disk.mkdir(folder)
                disk.sync_folder(folder.parent)
        except OSError as error:
            raise CannotContinue(f"{folder} cannot be written: {system_reason(error)}") from error

    def remove(self) -> None:
        """Remove it from the disk, once the store is whole; in object storage it stays."""
        if not is_url(self.store):
            with suppress(OSError):
                shutil.rmtree(local_path(self.store) / NAME)

    def without(self, step: str, numbers: Iterable[int]) -> list[int]:
        """Give those of the numbers whose file of a step (`digests`, `takes`, `vectors`) lacks."""
        there = listed(child(self.store, NAME))
        return [number for number in numbers if f"{step}-{number:05d}" not in there]

    def ranges(self, memory: int = MEMORY) -> list[Range]:
        """Read the ranges, or cut them if nobody has; the digests of all pieces must be there.

        Parameters
        ----------
        memory : int
            Bytes that work on a range may take, where they are cut.

        Raises
        ------
        InputError, FileRefused, CannotContinue
        """
        target = self._target(_RANGES)
        if not exists(target):
            files = [self.digests(piece) for piece in range(self.pieces)]
            cut = cut_ranges(files, memory)
            content = {
                "format": FORMAT,
                "version": VERSION,
                "lows": [f"{one.low:0{BITS // 4}x}" for one in cut],
            }
            put_new(target, (json.dumps(content, indent=1) + "\n").encode())
        return _read_ranges(target)

    def _target(self, name: str) -> Target:
        return child(self.store, NAME, name)


def _read_ranges(target: Target) -> list[Range]:
    content = content_of(read_bytes(target), str(target), FORMAT, VERSION, _CURE)
    try:
        check_names(content, {"format", "version", "lows"}, "it")
        lows = [int(low, 16) for low in content["lows"]]
        if lows[:1] != [0] or sorted(set(lows)) != lows or lows[-1] >= 2**BITS:
            raise ValueError("its ranges do not ascend from 0")
    except (ValueError, TypeError) as error:
        raise FileRefused(f"{target} is damaged: {first_line(error)}; {_CURE}") from error
    return [Range(low, high) for low, high in zip(lows, [*lows[1:], 2**BITS], strict=True)]
