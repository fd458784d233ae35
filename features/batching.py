"""How texts are grouped: windows of a stream, and batches of a window by a token budget.

Pure: lengths in, indices out. No tensors, no model. The plan depends on the lengths and the budget
alone, so the same input always makes the same batches.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


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


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


def live_windows(items: Iterable[T], size: int, patience: float) -> Iterator[list[T]]:
    """Cut a stream into lists of at most `size`, without waiting for items that are not there yet.

    For a stream that pauses (`tail -f`): a window is handed out once it is full or nothing came
    for `patience` seconds. A thread reads ahead by at most `size` items.
    """
    done = object()
    ready: queue.Queue[object] = queue.Queue(maxsize=size)
    failure: list[BaseException] = []

    def read() -> None:
        try:
            for item in items:
                ready.put(item)
        except BaseException as error:  # handed to the consumer below
            failure.append(error)
        ready.put(done)

    threading.Thread(target=read, name="read-ahead", daemon=True).start()
    more = True
    while more:
        window: list[T] = []
        item = ready.get()
        while item is not done:
            window.append(item)  # type: ignore[arg-type]  # everything but `done` is a T
            if len(window) == size:
                break
            try:
                item = ready.get(timeout=patience)
            except queue.Empty:
                break
        more = item is not done
        if window:
            yield window
    if failure:
        raise failure[0]
