"""Rows that could not be used, counted and written to `<output>.rejects.jsonl` or a stream."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from features.base import disk
from features.base.remote import copies
from features.base.shown import printable
from features.errors import InputError, judged_rejects
from features.tweets.reader import Reject, TweetReader


def rejects_path(output: Path) -> Path:
    """Where the rejects of an output go."""
    return output.with_name(output.name + ".rejects.jsonl")


class RejectLog:
    """Keeps rejects beside the output; use it as a context manager.

    Parameters
    ----------
    output : Path or None
        The file that the rejects belong to. One JSON object a line goes to
        `<output>.rejects.jsonl`: source, line, reason, start of the content. Without rejects there
        is no such file. None, for output that is no file: they go to standard error.
    strict : bool
        Raise at the first one instead.
    allowed : bool
        Whether more than a fifth of the rows may be rejected.
    """

    def __init__(self, output: Path | None, *, strict: bool = False, allowed: bool = False) -> None:
        self.path = None if output is None else rejects_path(output)
        self.count = 0
        self._strict, self._allowed = strict, allowed
        self._handle: int | None = None
        self._first: Reject | None = None

    def __enter__(self) -> RejectLog:
        if self.path is not None:
            disk.unlink(self.path)  # those of an earlier run
            copies.remove(self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def add(self, rejects: Iterable[Reject]) -> None:
        """Write them down.

        Raises
        ------
        InputError
            If `strict`, for the first one.
        """
        rejects = list(rejects)
        if not rejects:
            return
        if self._first is None:
            self._first = rejects[0]
        if self._strict:
            first = rejects[0]
            raise InputError(f"{first.source}, line {first.line}: {first.reason} (`strict`)")
        lines = "".join(printable(json.dumps(dataclasses.asdict(one))) + "\n" for one in rejects)
        self.count += len(rejects)
        if self.path is None:
            sys.stderr.write(lines)
            return
        if self._handle is None:
            # O_EXCL: not through a link that somebody put there meanwhile
            self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        disk.write(self._handle, lines.encode())

    def settle(self) -> None:
        """Bring them to the disk; for the time before the output takes its name."""
        if self._handle is not None and self.path is not None:
            disk.sync(self._handle)
            disk.sync_folder(self.path.parent)
            copies.send(self.path)

    def closing_remarks(self, reader: TweetReader) -> Iterator[str]:
        """Give what there is to say of an input once all of it is read, a line each.

        Raises
        ------
        InputError
            Too many rows were rejected, see `judge`.
        """
        yield from reader.findings.remarks()
        warning = self.judge(reader.rows_read)
        if warning is not None:
            yield warning

    def judge(self, rows: int) -> str | None:
        """Judge how many of the rows of an input were rejected, see `judged_rejects`."""
        where = "above" if self.path is None else f"in {self.path}"
        return judged_rejects(self.count, rows, f"the reasons are {where}", allowed=self._allowed)

    def hint(self) -> str:
        """Say what was rejected, for the end of a message; empty if nothing was."""
        if self._first is None:
            return ""
        first = self._first
        cure = "; if it is a tweet a line, give `input_format=txt`" if _is_no_json(first) else ""
        return f"; {self.count} rejected, the first in line {first.line}: {first.reason}{cure}"


def _is_no_json(reject: Reject) -> bool:
    """Say whether a line was read as JSON and is none, as plain text on standard input is."""
    return reject.reason.startswith("not JSON")
