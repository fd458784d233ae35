"""Iterate ahead in a thread: items in, the same items out, while the next ones are made.

`read_ahead` keeps some items ready; `live_windows` cuts a stream that pauses into lists. Errors
arrive where the item would have. Nothing here knows what the items are.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")

# Characters of the texts that are held together. Thousands of tweets have a quarter of it, so that
# it is for what else may stand in a file: a megabyte a row.
HEAVIEST = 2**22


def no_weight(item: object) -> int:
    """Weigh nothing: for streams whose items are of bounded size."""
    return 0


def read_ahead(items: Iterable[T], size: int, *, finite: bool = False) -> Generator[T]:
    """Iterate in a thread of its own, up to `size` items ahead of whoever takes them.

    Errors arrive where the item would have. Ends the thread when it is closed, and waits for its
    end where the items are `finite`: who closes this may then close what they are read from.
    """
    with _in_thread(items, _Ready(size, no_weight, HEAVIEST), wait=finite) as (ready, failure):
        while (item := ready.get()) is not _DONE:
            yield item  # type: ignore[misc]  # everything but `_DONE` is a T
    if failure:
        raise failure[0]


def live_windows(
    items: Iterable[T],
    size: int,
    patience: float,
    weight: Callable[[T], int] = no_weight,
    heaviest: int = HEAVIEST,
) -> Iterator[list[T]]:
    """Cut a stream into lists of `size`, shorter where their weight comes to `heaviest`.

    Items that are not there yet are not waited for. For a stream that pauses (`tail -f`): a window
    is handed out once it is full or nothing came for `patience` seconds. A thread reads ahead by at
    most a window.
    """
    with _in_thread(items, _Ready(size, weight, heaviest)) as (ready, failure):
        more = True
        while more:
            window: list[T] = []
            held = 0
            item = ready.get()
            while item is not _DONE:
                window.append(item)  # type: ignore[arg-type]  # everything but `_DONE` is a T
                held += weight(window[-1])
                if len(window) == size or held >= heaviest:
                    break
                try:
                    item = ready.get(timeout=patience)
                except queue.Empty:
                    break
            more = item is not _DONE
            if window:
                yield window
    if failure:
        raise failure[0]


_DONE = object()


class _Ready(queue.Queue[object]):
    """A queue that is full by the number of its items, or by their weight."""

    def __init__(self, size: int, weight: Callable[[Any], int], heaviest: int) -> None:
        super().__init__(size)
        self._weight, self._heaviest, self._held = weight, heaviest, 0

    def _put(self, item: object) -> None:
        super()._put(item)
        self._held += 0 if item is _DONE else self._weight(item)

    def _get(self) -> object:
        item = super()._get()
        self._held -= 0 if item is _DONE else self._weight(item)
        return item

    def _qsize(self) -> int:
        return self.maxsize if self._held >= self._heaviest else super()._qsize()


@contextmanager
def _in_thread(
    items: Iterable[T], ready: _Ready, *, wait: bool = False
) -> Iterator[tuple[_Ready, list[BaseException]]]:
    """Iterate in a thread; give a queue of items with `_DONE` behind them, and the error."""
    failure: list[BaseException] = []
    left = threading.Event()

    def put(item: object) -> None:
        while not left.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def read() -> None:
        try:
            for item in items:
                put(item)
                if left.is_set():
                    return
        except BaseException as error:  # handed to the consumer
            failure.append(error)
        put(_DONE)

    # A daemon: a stream that gives nothing more can't be woken.
    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield ready, failure
    finally:
        left.set()
        if wait:
            thread.join()
