"""Show how far long work is, with its rate and the time left: on a terminal, and not in a pipe.

Nothing is shown of work that is done within a second, nor if it is quiet; rich, which draws, is
imported only then.
"""

from __future__ import annotations

import datetime
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from features.extraction.summary import Progress
from pipeline.terminal.streams import look_of
from pipeline.terminal.volume import volume

if TYPE_CHECKING:
    import rich.progress

# Seconds without anything to see.
_PATIENCE = 1.0


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """Show the tweets that are encoded; loading the model has no rate."""
    with _bar("loading the model") as bar:

        def show(now: Progress) -> None:
            bar.begin(now.doing)
            bar.advance(now.fraction, _rate(now.rows, bar.seconds) if now.rows else "")

        yield show


@contextmanager
def share(what: str) -> Iterator[Callable[[float], None]]:
    """Show the share that is done."""
    with _bar(what) as bar:
        yield lambda share: bar.advance(share)


@contextmanager
def lines() -> Iterator[Callable[[float, int], None]]:
    """Show which view of how many is being measured."""
    with _bar("comparing") as bar:

        def show(done: float, of: int) -> None:
            bar.advance(done / of, f"view {min(of, int(done) + 1):,} of {of:,}")

        yield show


@contextmanager
def models() -> Iterator[Callable[[float, int], None]]:
    """Show how many models of how many are fitted; what comes before has no rate."""
    with _bar("preparing") as bar:

        def show(done: float, of: int) -> None:
            bar.begin("fitting")
            bar.advance(done / of, f"{int(done):,} of {of:,} models")

        yield show


@contextmanager
def counter(*, quiet: bool = False) -> Iterator[Callable[[float | None, int], None]]:
    """Show the rows that are scored; nothing where they are written to the same terminal."""
    with _bar("scoring", hidden=quiet) as bar:
        yield lambda share, rows: bar.advance(share, _rate(rows, bar.seconds))


def _rate(tweets: int, seconds: float) -> str:
    return f"{tweets:,} tweets, {tweets / max(1.0, seconds):,.0f}/s"


class _Bar:
    """A line at the end of a terminal that is drawn anew as work goes on.

    A timer draws it first, from a thread of its own, so that work which says nothing at its
    beginning is seen to go on.
    """

    def __init__(self, what: str, *, hidden: bool) -> None:
        self._what, self._note = what, ""
        self._share: float | None = None
        self._started = time.monotonic()
        self._drawn: rich.progress.Progress | None = None
        self._lock = threading.Lock()
        self._timer = None if hidden else threading.Timer(_PATIENCE, self._draw)
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    @property
    def seconds(self) -> float:
        """Of the work that is at hand."""
        return time.monotonic() - self._started

    def begin(self, what: str) -> None:
        """Say that other work begins, whose clock starts now."""
        with self._lock:
            if what != self._what:
                self._what, self._share, self._note = what, None, ""
                self._started = time.monotonic()
                if self._drawn is not None:
                    self._drawn.reset(self._drawn.task_ids[0], description=what)
                    self._update(self._drawn)

    def advance(self, share: float | None, note: str = "") -> None:
        """Say what share is done, None if that is not known, and more in words."""
        with self._lock:
            self._share, self._note = share, note
            if self._drawn is not None:
                self._update(self._drawn)

    def close(self) -> None:
        """Take the line away."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._drawn is not None:
                self._drawn.stop()
            self._timer = self._drawn = None

    def _draw(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        look = look_of(sys.stderr)
        with self._lock:
            if self._timer is None or look is None:  # the work is done
                return
            drawn = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(10),
                TaskProgressColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=Console(
                    stderr=True,
                    width=look.columns,
                    color_system="auto" if look.colours else None,
                ),
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,  # results are no part of what is drawn
            )
            drawn.add_task(self._what, total=None, note="", left="")
            self._update(drawn)
            drawn.start()
            self._drawn = drawn

    def _update(self, drawn: rich.progress.Progress) -> None:
        """Bring what is drawn up to date; rich takes no total for one that it does not know yet."""
        left = ""
        if self._share is not None and 0 < self._share < 1:
            seconds = round(self.seconds * (1 - self._share) / self._share)
            left = f"{datetime.timedelta(seconds=seconds)} left"
        drawn.update(
            drawn.task_ids[0],
            total=None if self._share is None else 1.0,
            completed=self._share or 0.0,
            note=self._note,
            left=left,
        )


@contextmanager
def _bar(what: str, *, hidden: bool = False) -> Iterator[_Bar]:
    bar = _Bar(what, hidden=hidden or volume().quiet or look_of(sys.stderr) is None)
    try:
        yield bar
    finally:
        bar.close()
