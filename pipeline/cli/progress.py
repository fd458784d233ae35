"""Show how far long work is: on a terminal, and nothing in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from features.extraction.summary import Progress


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """Show rate and time left on a terminal; nothing in a pipe."""
    from tqdm import tqdm

    form = "{percentage:3.0f}% |{bar:24}| {postfix} [{elapsed}<{remaining}]"
    started: list[float] = []
    with tqdm(total=1.0, bar_format=form, disable=not sys.stderr.isatty(), leave=False) as bar:

        def show(progress: Progress) -> None:
            if not started:  # the clock starts with the first batch: loading the model has no rate
                started.append(time.monotonic())
                bar.reset()
            rate = progress.rows / max(1.0, time.monotonic() - started[0])
            bar.set_postfix_str(f"{progress.rows:,} tweets, {rate:,.0f}/s", refresh=False)
            bar.update((progress.fraction or 0.0) - bar.n)

        yield show


@contextmanager
def share() -> Iterator[Callable[[float], None]]:
    """Show the share that is done on a terminal; nothing in a pipe."""
    from tqdm import tqdm

    form = "{percentage:3.0f}% |{bar:24}| [{elapsed}<{remaining}]"
    with tqdm(total=1.0, bar_format=form, disable=not sys.stderr.isatty(), leave=False) as bar:
        yield lambda share: bar.update(share - bar.n)


@contextmanager
def lines() -> Iterator[Callable[[int, int], None]]:
    """Show which line of a table is being made on a terminal; nothing in a pipe."""
    from tqdm import tqdm

    with tqdm(unit=" views", disable=not sys.stderr.isatty(), leave=False) as bar:

        def show(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield show


@contextmanager
def counter(*, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show the rows and their rate on a terminal; nothing in a pipe or into one."""
    from tqdm import tqdm

    with tqdm(unit=" tweets", disable=quiet or not sys.stderr.isatty(), leave=False) as bar:
        yield lambda rows: bar.update(rows - bar.n)
