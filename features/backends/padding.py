"""Put texts of different lengths into one array, as stock models and other runtimes want them.

In come token ids of each text, out come a padded array and its mask. Packed batches are not padded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def pad(
    ids: Sequence[npt.NDArray[np.int32]], padding_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Put texts of different lengths into one array.

    Returns
    -------
    ids, attended : int64 arrays (B, T)
        Token ids, padded at the end to the longest; 1 where there is a token, 0 where there is
        padding.

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
