"""Give the rows of a store one by one or by batches, as torch's `DataLoader` asks for them.

In come row numbers, out come vectors and labels in NumPy, which `DataLoader` makes tensors of.
torch is not imported: a data set of torch is what has a length and gives items by number.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base import storage
from features.base.remote.urls import is_url
from features.base.storage import Target
from features.errors import FileRefused
from features.store import admission
from features.store.joined.layout import store_path
from features.store.reader import FeatureStore


class VectorDataset:
    """Vectors and labels of a store by row number; made by `FeatureStore.to_torch`.

    It opens the files itself, again in each process that it is copied to, so that workers of a
    `DataLoader` share no handle, and the store that it was made from may be closed. A file that was
    replaced since then is refused.

    Parameters
    ----------
    sources : sequence of paths or URLs
        Files and joined stores in the order of their rows.
    views : sequence of str
        Canonical names; their vectors stand side by side.
    rows : int array (N,)
        Numbers of rows in the store.
    labels : int array (N,)
        Codes of their labels, -1 where there is none.
    width : int
        Of the vectors, D.
    """

    def __init__(
        self,
        sources: Sequence[Target],
        views: Sequence[str],
        rows: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64],
        width: int,
    ) -> None:
        self.views, self.labels, self.width = list(views), labels, width
        self._sources, self._rows = list(map(_from_anywhere, sources)), rows
        self._identities = list(map(_identity, self._sources))
        self._store: FeatureStore | None = None
        self._process = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> tuple[npt.NDArray[np.float32], int]:
        """Give a vector, float32 (D,), and the code of its label."""
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[tuple[npt.NDArray[np.float32], int]]:
        """Give some of them, in the order that was asked for; each chunk is read once."""
        places = np.asarray(numbers, np.int64)
        size = len(self)
        if places.size and not -size <= places.min() <= places.max() < size:
            raise IndexError(f"row {numbers} of a data set of {size} rows")
        places = places % size if size else places
        vectors = self._vectors(self._rows[places])
        return list(zip(vectors, self.labels[places].tolist(), strict=True))

    def _vectors(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        store = self._opened()
        ordered, back = np.unique(rows, return_inverse=True)
        parts = [store.take(view, ordered).astype(np.float32, copy=False) for view in self.views]
        return np.hstack(parts)[back]

    def _opened(self) -> FeatureStore:
        """Give the store of this process, which a process that was forked has not."""
        if self._store is not None and self._process != os.getpid():
            self.close()
        if self._store is None:
            store = FeatureStore(self._sources)
            if list(map(_identity, self._sources)) != self._identities:
                store.close()
                raise FileRefused(
                    f"{store} has changed since the data set was made of it; make it again"
                )
            self._store, self._process = store, os.getpid()
        return self._store

    def close(self) -> None:
        """Close the files; they are opened again when a row is asked for."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_store": None}

    def __repr__(self) -> str:
        return f"VectorDataset({len(self):,} rows of {', '.join(self.views)}, {self.width} wide)"


def _from_anywhere(source: Target) -> Target:
    """Name a source so that it is found from any folder."""
    return source if is_url(source) else storage.local_path(source).absolute()


def _identity(source: Target) -> object:
    """Identify a file, or a joined store by its index, which says the seals of all its shards."""
    if is_url(source):
        return storage.info(store_path(source))
    path = storage.local_path(source)
    return admission.identity(store_path(path) if path.is_dir() else path)
