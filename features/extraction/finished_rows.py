"""Read the vectors of rows that are in finished shards already.

In come paths of shards with the number of their first row, and then numbers of rows; out come
vectors as they are stored. It writes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.store.reader import FeatureStore


class FinishedRows:
    """A reader of vectors by the number of their row, over all shards, one of them open at a time.

    Use `put` for each shard, in their order, and `close` at the end.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._paths: list[Path] = []
        self._open: tuple[Path, FeatureStore] | None = None

    def put(self, first_row: int, path: Path) -> None:
        """Note the shard that holds the rows from `first_row` on; no other holds them then."""
        while self._starts and self._starts[-1] >= first_row:
            self._starts.pop()
            self._paths.pop()
        self._starts.append(first_row)
        self._paths.append(path)
        self.close()

    def close(self) -> None:
        """Close the shard that is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def take(self, view: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Read vectors as they are stored, (N, D), in the order of `rows`; at least one.

        Raises
        ------
        FileRefused
            A shard is damaged.
        """
        ordered, places = np.unique(rows, return_inverse=True)
        shards = np.searchsorted(self._starts, ordered, "right") - 1
        parts = []
        for shard in np.unique(shards).tolist():
            store = self._store(self._paths[shard])
            parts.append(store.take(view, ordered[shards == shard] - self._starts[shard]))
        return np.asarray(np.concatenate(parts)[places])

    def _store(self, path: Path) -> FeatureStore:
        if self._open is None or self._open[0] != path:
            self.close()
            self._open = path, FeatureStore(path)
        return self._open[1]
