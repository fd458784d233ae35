"""Rows that could not be used, counted and written to `<output>.rejects.jsonl` or a stream."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TextIO

from features.errors import InputError
from features.formats import printable
from features.tweets import Reject


def rejects_path(output: Path) -> Path:
    """Where the rejects of an output go."""
    return output.with_name(output.name + ".rejects.jsonl")


class RejectLog:
    """Keeps rejects beside the output; use it as a context manager.

    Parameters
    ----------
    output : Path or None
        The file that the rejects belong to. One JSON object a line goes to `<output>.rejects.jsonl`:
        source, line, reason, start of the content. Without rejects there is no such file. None, for
        output that is no file: they go to standard error.
    strict : bool
        Raise at the first one instead.
    """

    def __init__(self, output: Path | None, *, strict: bool = False) -> None:
        self.path = None if output is None else rejects_path(output)
        self.count = 0
        self._strict = strict
        self._file: TextIO | None = None
        self._first: Reject | None = None

    def __enter__(self) -> RejectLog:
        if self.path is not None:
            self.path.unlink(missing_ok=True)  # those of an earlier run
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None and self.path is not None:
            self._file.close()

    def add(self, rejects: Iterable[Reject]) -> None:
        """Write them down.

        Raises
        ------
        InputError
            If `strict`, for the first one.
        """
        for reject in rejects:
            if self._strict:
                raise InputError(f"{reject.source}, line {reject.line}: {reject.reason} (--strict)")
            if self._file is None:
                self._first = reject
                # "x": not through a link that somebody put there meanwhile
                self._file = sys.stderr if self.path is None else self.path.open("x")
            self._file.write(printable(json.dumps(dataclasses.asdict(reject))) + "\n")
            self.count += 1

    def hint(self) -> str:
        """Say what was rejected, for the end of a message; empty if nothing was."""
        if self._first is None:
            return ""
        first = self._first
        return f"; {self.count} rejected, the first in line {first.line}: {first.reason}"
