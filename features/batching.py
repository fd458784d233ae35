"""How texts are grouped: windows of a stream, and batches of a window by a token budget.

Pure: lengths in, indices out. No tensors, no model. The plan depends on the lengths and the budget
alone, so the same input always makes the same batches.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

# Characters of the texts that are held together. Thousands of tweets have a quarter of it, so that it is
# for what else may stand in a file: a megabyte a row.
HEAVIEST = 2**22


def token_batches(
    lengths: Sequence[int], max_batch_tokens: int, *, one_length: bool = False
) -> list[npt.NDArray[np.intp]]:
    """Group texts of similar length so that a batch, padded, holds at most `max_batch_tokens`.

    Parameters
    ----------
    lengths : sequence of int, (N,)
        Tokens of each text.
    max_batch_tokens : int
        Budget: texts in a batch times the longest of them. A single text over the budget is a
        batch of its own.
    one_length : bool
        Whether a batch may hold texts of one length only, so that nothing is padded.

    Returns
    -------
    list of int arrays
        Indices into `lengths`; each index once, shortest texts first.

    Examples
    --------
    >>> [batch.tolist() for batch in token_batches([9, 2, 3, 2, 8], max_batch_tokens=9)]
    [[1, 3, 2], [4], [0]]
    """
    order = np.argsort(np.asarray(lengths), kind="stable")
    batches = []
    start = 0
    for end in range(1, len(order) + 1):
        # Sorted, so the text at `end` would be the longest of its batch.
        full = end < len(order) and (
            (end + 1 - start) * lengths[order[end]] > max_batch_tokens
            or (one_length and lengths[order[end]] != lengths[order[start]])
        )
        if full or end == len(order):
            batches.append(order[start:end])
            start = end
    return batches


def pad(
    ids: Sequence[npt.NDArray[np.int32]], padding_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Put texts of different lengths into one array.

    Returns
    -------
    ids, attended : int64 arrays (B, T)
        Token ids, padded at the end to the longest; 1 where there is a token, 0 where there is padding.

    Examples
    --------
    >>> ids, attended = pad([np.array([7, 8, 9]), np.array([5])], padding_id=0)
    >>> ids.tolist(), attended.tolist()
    ([[7, 8, 9], [5, 0, 0]], [[1, 1, 1], [1, 0, 0]])
    """
    lengths = np.array([len(text) for text in ids])
    attended = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    padded = np.full(attended.shape, padding_id, np.int64)
    for row, text in zip(padded, ids, strict=True):
        row[: len(text)] = text
    return padded, attended


def no_weight(item: object) -> int:
    """For streams whose items are of bounded size."""
    return 0


def read_ahead(items: Iterable[T], size: int) -> Generator[T]:
    """Iterate in a thread of its own, up to `size` items ahead of whoever takes them.

    Errors arrive where the item would have. Ends the thread when it is closed.
    """
    with _in_thread(items, _Ready(size, no_weight, HEAVIEST)) as (ready, failure):
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

    Items that are not there yet are not waited for. For a stream that pauses (`tail -f`): a window is handed out once it is full or nothing came
    for `patience` seconds. A thread reads ahead by at most a window.
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
def _in_thread(items: Iterable[T], ready: _Ready) -> Iterator[tuple[_Ready, list[BaseException]]]:
    """Iterate in a thread: a queue of items with `_DONE` behind them, and the error."""
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
    threading.Thread(target=read, name="read-ahead", daemon=True).start()
    try:
        yield ready, failure
    finally:
        left.set()
