"""What a disk may hold after the power failed: cut a trace anywhere, and lose what was not synced.

A trace is the list of operations that `tests/robustness/crash_runner.py` recorded. POSIX promises
the content of a file that was synced, and the names in a folder that was synced; of the rest
nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

SCRATCH = ".partial/"
BLOCK = 512  # what a disk writes at once
MODES = ("kept", "lost", "prefix", "torn", "zeros")


@dataclass
class _File:
    durable: bytes = b""
    pending: list[tuple[Any, ...]] = field(default_factory=list)


class Disk:
    """Files and names, each with what is durable and what is on its way there.

    Parameters
    ----------
    before : mapping of str to bytes
        What was there, synced, by path.
    """

    def __init__(self, before: Mapping[str, bytes]) -> None:
        self._files = [_File(content) for content in before.values()]
        self._durable = dict(zip(before, range(len(before)), strict=True))
        self._live = dict(self._durable)  # what the running system sees
        self._names: list[tuple[Any, ...]] = []  # changes of names on their way
        self._inodes: dict[int, int] = {}

    def do(self, kind: str, *arguments: Any) -> None:
        """Go on by an operation of the trace."""
        if kind in ("write", "truncate", "sync"):
            file = self._files[self._number(*arguments[0])]
            if kind == "sync":
                file.durable, file.pending = _applied(file.durable, file.pending), []
            else:
                file.pending.append((kind, *arguments[1:]))
        elif kind == "sync_folder":
            mine = [name for name in self._names if _folder(name[1]) == arguments[0]]
            self._names = [name for name in self._names if name not in mine]
            _rename(self._durable, mine)
        elif kind == "rename":
            source, target = arguments
            self._change("link", target, self._live[source], source)
        elif kind == "unlink":
            if arguments[0] in self._live:
                number = self._live[arguments[0]]
                self._inodes = {i: n for i, n in self._inodes.items() if n != number}
            self._change("drop", arguments[0])
        # A folder is there with the first file in it.

    def running(self) -> dict[str, bytes]:
        """What a kill leaves: the system goes on."""
        return {path: self._content(number, "kept") for path, number in self._live.items()}

    def synced(self) -> dict[str, bytes]:
        """What is there whatever happens."""
        return {path: self._content(number, "lost") for path, number in self._durable.items()}

    def after_power_loss(self, rng: random.Random) -> dict[str, bytes]:
        """One of the many states in which the machine may come up again."""
        if rng.random() < 0.5:  # a file system that keeps the order of names
            changes = self._names[: rng.randint(0, len(self._names))]
        else:
            changes = [change for change in self._names if rng.random() < 0.5]
        names = dict(self._durable)
        _rename(names, changes)
        contents = {n: self._content(n, rng.choice(MODES), rng) for n in sorted({*names.values()})}
        return {path: contents[number] for path, number in names.items()}

    def _number(self, inode: int, path: str) -> int:
        if inode not in self._inodes:
            if path not in self._live:
                self._files.append(_File())
                self._change("link", path, len(self._files) - 1)
            self._inodes[inode] = self._live[path]
        return self._inodes[inode]

    def _change(self, *change: Any) -> None:
        self._names.append(change)
        _rename(self._live, [change])

    def _content(self, number: int, mode: str, rng: random.Random | None = None) -> bytes:
        file = self._files[number]
        if mode == "lost":
            return file.durable
        if mode == "zeros":  # blocks that were given to the file and never written
            size = len(_applied(file.durable, file.pending))
            return file.durable[:size].ljust(size, b"\0")
        if rng is None or mode == "kept":
            return _applied(file.durable, file.pending)
        if mode == "torn":
            return _applied(file.durable, file.pending, lambda: rng.random() < 0.5)
        pending = file.pending[: rng.randint(0, len(file.pending))]
        if pending and pending[-1][0] == "write":
            _, offset, data = pending[-1]
            pending[-1] = ("write", offset, data[: rng.randint(0, len(data))])
        return _applied(file.durable, pending)


def states(
    before: Mapping[str, bytes], trace: Sequence[tuple[Any, ...]], n: int, seed: int
) -> list[tuple[str, dict[str, bytes], dict[str, bytes]]]:
    """Give up to `n` different states: the name of each, what was synced, the state."""
    found: dict[tuple[Any, ...], tuple[str, dict[str, bytes], dict[str, bytes]]] = {}
    cuts = _telling(trace)
    appended = [
        position
        for position, (kind, *arguments) in enumerate(trace)
        if kind == "write" and "journal" in arguments[0][1]
    ]
    for number in range(20 * n):
        rng = random.Random(f"{seed} {number}")
        cut = cuts[number % len(cuts)]
        # The thread that syncs the journal may have done so at any time; the recorded run was
        # short.
        synced = rng.choice(appended) if rng.random() < 0.7 else None
        disk = Disk(before)
        for position, operation in enumerate(trace[:cut]):
            disk.do(*operation)
            if position == synced:
                disk.do("sync", operation[1])
        state = disk.after_power_loss(rng)
        # What is in scratch makes no other state: it is thrown away.
        # What was synced does: it says what must not be lost.
        known_by = tuple(
            tuple(sorted(item for item in files.items() if SCRATCH not in item[0]))
            for files in (disk.synced(), state)
        )
        found.setdefault(known_by, (f"seed {seed}, state {number}", disk.synced(), state))
        if len(found) == n:
            break
    return list(found.values())


def _telling(trace: Sequence[tuple[Any, ...]]) -> list[int]:
    """Choose where to cut: once in scratch, where cuts are alike; often where names change."""
    cuts = [len(trace) // 2]
    for position, (kind, *arguments) in enumerate(trace):
        if kind in ("rename", "sync_folder", "unlink"):
            cuts += [position + 1] * 4
        elif kind == "sync" or SCRATCH not in arguments[0][1]:
            cuts.append(position + 1)
    return cuts


def _folder(path: str) -> str:
    return str(PurePath(path).parent)


def _rename(names: dict[str, int], changes: Sequence[tuple[Any, ...]]) -> None:
    for kind, path, *more in changes:
        if kind == "drop":
            names.pop(path, None)
            continue
        number, *source = more
        names[path] = number
        for old in source:  # a rename is whole, or did not happen
            names.pop(old, None)


def _applied(content: bytes, operations: Sequence[tuple[Any, ...]], keep: Any = None) -> bytes:
    """Change a content by writes and truncations; with `keep`, by some blocks of each write."""
    file = bytearray(content)
    for kind, *arguments in operations:
        if kind == "truncate":
            (size,) = arguments
            file = file[:size].ljust(size, b"\0")
            continue
        start, data = arguments
        end = start + len(data)
        file = file.ljust(end, b"\0")
        position = start
        while position < end:
            border = min(end, (position // BLOCK + 1) * BLOCK)
            if keep is None or keep():
                file[position:border] = data[position - start : border - start]
            position = border
    return bytes(file)
