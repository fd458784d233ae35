"""Run batches of a model in several threads, each on one core.

In come a function and its arguments, out come results as they are done. It does not know what a
batch is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class RunAll(Protocol):
    """A `map` whose results come in the order in which they are done."""

    def __call__(self, call: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        """Apply a function to items."""


@contextmanager
def streams(n: int, *, one_core: bool = False) -> Iterator[RunAll]:
    """Give a `map` that runs n calls at a time, each in a thread of one core, or a plain one.

    With several, results come in the order in which they are done. A plain one computes each call
    on all cores, unless `one_core` is asked for.
    """
    if n < 2 and not one_core:
        yield map
        return
    pool = ThreadPoolExecutor(n, "forward", initializer=_use_one_core)

    def run_all(call: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        for done in as_completed([pool.submit(call, item) for item in items]):
            yield done.result()

    with _threads_kept():
        try:
            yield run_all
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def one_core() -> Iterator[None]:
    """Let this thread, and those that it starts, compute on one core."""
    with _threads_kept():
        _use_one_core()
        yield


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Set the number of threads again: what is set in one counts for those that come after it."""
    torch = sys.modules.get("torch")  # exported models run without it, and keep to their threads
    threads = torch.get_num_threads() if torch else 0
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(threads)


def _use_one_core() -> None:
    torch = sys.modules.get("torch")
    if torch:
        torch.set_num_threads(1)
        # Without this torch would set the number again at the first product, to what another thread
        # has set meanwhile.
        torch.get_num_threads()
