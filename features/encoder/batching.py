"""Group texts into batches by a token budget.

Pure: lengths in, indices out. No tensors, no model. The plan depends on the lengths and the budget
alone, so the same input always makes the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


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
