"""Time the parts of a run: what a block takes, what an iterator takes.

Seconds are added to a dict that the caller owns; nothing is printed or decided here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

PARTS = ("load", "read", "tokenise", "forward", "write")


def no_seconds() -> dict[str, float]:
    """Give the parts of a run that are timed, each with no time yet."""
    return dict.fromkeys(PARTS, 0.0)


@contextmanager
def clock(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add the seconds that a block takes to a part."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[part] += time.perf_counter() - start


def timed(items: Iterable[T], seconds: dict[str, float], part: str) -> Iterator[T]:
    """Iterate, and count the time that the iterator itself takes."""
    iterator = iter(items)
    while True:
        with clock(seconds, part):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
