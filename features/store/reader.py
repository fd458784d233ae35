"""Read shards as one store: a file, a list of files or a folder of them. No torch.

In come paths, out come vectors, labels and the other columns of all rows, in order. The layout of a
shard is in `features/store/format.py`; `features/store/shards.py` opens them. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array
from features.base.storage import Target
from features.errors import FileRefused, InputError
from features.spec.pooling import parse_pooling
from features.store.format import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    Shard,
    label_recoding,
    labels_of_all,
    read_rows,
    row_slices,
)
from features.store.shards import open_shards

if TYPE_CHECKING:
    from features.store.vector_dataset import VectorDataset


class FeatureStore:
    """Cached vectors and what belongs to their rows, read from one shard or several.

    Parameters
    ----------
    path : path, or a sequence of paths
        A file, a folder (its `*.h5`, in order of their names, or a store that was made in pieces),
        or files and stores made in pieces in the order of their rows.

    Attributes
    ----------
    spec : EncoderSpec
        The encoder of the vectors; its fingerprint is that of every shard.
    views : dict of str to int
        Names and widths.
    label_names : list of str
        Names of the classes; `labels()` counts in it.
    n_rows : int
        Rows of all shards together, N.
    provenance : list of dict
        What each shard says about where its rows come from; of a joined store one for all.

    Raises
    ------
    InputError
        There is no such file.
    FileRefused
        A file is not a feature file, is damaged, or the shards don't belong together.

    Examples
    --------
    >>> from features import FeatureStore, extract
    >>> summary = extract("examples/tweets.csv", "tweets.h5", pooling="mean")
    >>> with FeatureStore("tweets.h5") as store:
    ...     X, y = store.read("mean"), store.labels()
    >>> X.shape, y.shape, store.label_names
    ((956, 384), (956,), ['negative', 'neutral', 'positive'])
    """

    def __init__(self, path: str | Path | Sequence[str | Path]) -> None:
        self._shards = open_shards(path)
        rows = self._shards.rows
        self.vectors = self._shards.vectors
        self.spec = self.vectors.spec
        self.views = dict(self.vectors.views)
        self.precision = str(self.vectors.precision)
        self.store_dtype = self.vectors.store_dtype
        self.provenance = self._shards.provenance
        self.label_names = labels_of_all(rows.label_lists)
        self._recodings = [label_recoding(names, self.label_names) for names in rows.label_lists]
        self._starts = np.cumsum([0, *rows.counts])
        self.n_rows = int(self._starts[-1])

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.n_rows

    def _repr_html_(self) -> str:
        """Show it in a notebook; of what is in memory, so that it may be closed."""
        from features.base.notebook import facts_html
        from features.base.shown import listed

        facts = {
            "rows": f"{self.n_rows:,}",
            "classes": listed(self.label_names),
            "views": ", ".join(f"{view} ({width:,})" for view, width in self.views.items()),
            "files": f"{self.n_shards:,}",
            "precision": f"{self.precision}, stored as {self.store_dtype}",
            "model": self.spec.model,
            "fingerprint": self.fingerprint,
        }
        return facts_html(f"Cached vectors: {self}", facts)

    def close(self) -> None:
        """Close the files."""
        self._shards.close()

    @property
    def is_closed(self) -> bool:
        """Whether its files are closed."""
        return self._shards.is_closed

    @property
    def paths(self) -> list[Path]:
        """The files of all shards, in the order of their rows."""
        return self._shards.paths

    @property
    def sources(self) -> list[Target]:
        """What opens the same rows again: files, and the folders or URLs of joined stores."""
        return self._shards.sources

    @property
    def n_shards(self) -> int:
        """How many shards there are."""
        return len(self._shards)

    @property
    def n_pieces(self) -> int | None:
        """How many pieces a joined store was made in; None for other stores."""
        return self._shards.n_pieces

    @property
    def shards(self) -> list[Shard]:
        """What each shard says of itself; to know that, a joined store opens all of them."""
        return [self._shards.describe(shard) for shard in range(len(self._shards))]

    @property
    def starts(self) -> list[int]:
        """Numbers of the first rows of the shards."""
        return [int(start) for start in self._starts[:-1]]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the encoder."""
        return self.spec.fingerprint

    def choose_views(self, asked: Sequence[str] | None) -> list[str]:
        """Give the canonical names of the views that were asked for; of none, the only view.

        Raises
        ------
        InputError
            A view is not there, or several are and none was named.
        """
        held = ", ".join(self.views)
        if not asked:
            if len(self.views) > 1:
                raise InputError(f"{self} holds several views: {held}; choose with `pooling`")
            return list(self.views)
        names = [parse_pooling(text).name for text in asked]
        for name in names:
            if name not in self.views:
                raise InputError(f"{self} holds no view {name!r}; it holds: {held}")
            if names.count(name) > 1:
                raise InputError(f"view {name!r} is named twice; name each view once")
        return names

    def read(
        self, views: str | Sequence[str], rows: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.float32]:
        """Read vectors, of several views side by side.

        Parameters
        ----------
        views : str or sequence of str
            Canonical names.
        rows : bool array (N,), optional
            Which rows; default all.

        Returns
        -------
        float32 array (rows, D)
        """
        wanted = self.n_rows if rows is None else int(rows.sum())
        names = [views] if isinstance(views, str) else list(views)
        matrix = np.empty((wanted, sum(self.views[name] for name in names)), np.float32)
        filled = 0
        for start, block in self.blocks(names):
            kept = block if rows is None else block[rows[start : start + len(block)]]
            matrix[filled : filled + len(kept)] = kept
            filled += len(kept)
        return matrix

    def blocks(
        self,
        views: str | Sequence[str],
        dtype: npt.DTypeLike = np.float32,
        block_bytes: int = BLOCK_BYTES,
        start: int = 0,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> Iterator[tuple[int, Array]]:
        """Iterate over (number of the first row, block of rows) in bounded memory, from a row on.

        `dtype` is that of the blocks; `store_dtype` leaves the vectors as they are. Blocks are of
        about 32 MiB as float32 unless `block_bytes` is given.
        """
        names = [views] if isinstance(views, str) else list(views)
        row_bytes = sum(self.views[name] for name in names) * 4
        for shard, offset, n_rows in self._from_row(start):
            first = max(0, start - offset)
            for rows in row_slices(n_rows, row_bytes, block_bytes, chunk_bytes, first):
                with self._shards.opened(shard) as file:
                    parts = [read_rows(file, one, rows).astype(dtype, copy=False) for one in names]
                yield offset + rows.start, parts[0] if len(parts) == 1 else np.hstack(parts)

    def _from_row(self, start: int, stop: int | None = None) -> Iterator[tuple[int, int, int]]:
        """Give the shards that have rows from `start` to `stop`: number, first row and rows."""
        stop = self.n_rows if stop is None else stop
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        for shard in range(first, len(self._shards)):
            offset, end = int(self._starts[shard]), int(self._starts[shard + 1])
            if offset >= stop:
                break
            yield shard, offset, end - offset

    def take(self, view: str, rows: npt.NDArray[np.int64]) -> Array:
        """Read vectors of single rows as they are stored, each chunk once; `rows` ascend."""
        vectors = np.empty((len(rows), self.views[view]), self.store_dtype)
        of_shard = np.searchsorted(self._starts, rows, "right") - 1
        for low, high in _runs(of_shard):
            shard = int(of_shard[low])
            wanted = rows[low:high] - self._starts[shard]
            with self._shards.opened(shard) as file:
                for start, stop in _runs(wanted // file[view].chunks[0]):
                    some = wanted[start:stop]
                    block = read_rows(file, view, slice(int(some[0]), int(some[-1]) + 1))
                    vectors[low + start : low + stop] = block[some - some[0]]
        return vectors

    def to_arrow(
        self, views: str | Sequence[str] | None = None, block_bytes: int = BLOCK_BYTES
    ) -> Any:
        """Give all rows as a stream of Arrow, one block in memory at a time.

        Parameters
        ----------
        views : str or sequence of str, optional
            Default: the only view.
        block_bytes : int
            Of the vectors of a record batch, about.

        Returns
        -------
        pyarrow.RecordBatchReader
            `id`, `label` (a dictionary; null without one), `n_tokens`, `flags`, and each view as
            lists of D float32. It is read while the store is open; `read_all` gives a table, which
            polars and pandas take.
        """
        from features.store.arrow import record_batches

        return record_batches(self, self._named(views), block_bytes)

    def to_torch(
        self,
        views: str | Sequence[str] | None = None,
        rows: npt.NDArray[np.bool_] | None = None,
    ) -> VectorDataset:
        """Give a map-style data set for torch's `DataLoader`, also one of several workers.

        Parameters
        ----------
        views : str or sequence of str, optional
            Whose vectors stand side by side; default: the only view.
        rows : bool array (N,), optional
            Which rows, such as `store.labels() >= 0`; default all.

        Returns
        -------
        VectorDataset
            Of pairs: a vector, float32 (D,), and the code of a label, -1 where there is none.
        """
        from features.store.vector_dataset import VectorDataset

        names = self._named(views)
        chosen = np.arange(self.n_rows) if rows is None else np.flatnonzero(rows)
        labels = self.labels()[chosen].astype(np.int64)
        width = sum(self.views[name] for name in names)
        return VectorDataset(self.sources, names, chosen, labels, width)

    def _named(self, views: str | Sequence[str] | None) -> list[str]:
        return self.choose_views([views] if isinstance(views, str) else views)

    def labels(self) -> npt.NDArray[np.int32]:
        """Read the codes into `label_names`, (N,); -1 where there is no label."""
        labels = np.empty(self.n_rows, np.int32)
        for shard, offset, n_rows in self._from_row(0):
            codes = self._recodings[self._shards.rows.label_list[shard]]
            with self._shards.opened(shard) as file:
                part = read_rows(file, "label")
            if part.size and not -1 <= part.min() <= part.max() < len(codes) - 1:
                raise FileRefused(
                    f"{self._shards.path(shard)}: it has labels that are not among its label names"
                )
            labels[offset : offset + n_rows] = codes[part]
        return labels

    def label_counts(self) -> dict[str, int]:
        """Count the rows of each class; a joined store knows them without reading any."""
        rows = self._shards.label_rows
        if rows is None:
            codes = self.labels()
            rows = tuple(np.bincount(codes[codes >= 0], minlength=len(self.label_names)).tolist())
        return dict(zip(self.label_names, rows, strict=True))

    def ids(self, rows: slice = slice(None)) -> list[str]:
        """Read the ids, as in the input."""
        return [bytes(value).decode("utf-8", "replace") for value in self.column("id", rows)]

    def digests(self, rows: slice = slice(None)) -> npt.NDArray[np.uint8]:
        """Read the BLAKE2b-128 of the normalised texts, (N, 16)."""
        return self.column("digest", rows)

    def n_tokens(self, rows: slice = slice(None)) -> npt.NDArray[np.int32]:
        """Read the numbers of tokens, (N,)."""
        return self.column("n_tokens", rows)

    def flags(self, rows: slice = slice(None)) -> npt.NDArray[np.uint8]:
        """Read the flags, sums of `TRUNCATED`, `EMPTY` and `REPAIRED`, (N,)."""
        return self.column("flags", rows)

    def column(self, name: str, rows: slice = slice(None)) -> Array:
        """Read one of `COLUMNS` as it is stored."""
        start, stop, _ = rows.indices(self.n_rows)
        parts: list[Array] = []
        for shard, offset, n_rows in self._from_row(start, max(start, stop)):
            low, high = max(start - offset, 0), min(stop - offset, n_rows)
            with self._shards.opened(shard) as file:
                parts.append(read_rows(file, name, slice(low, high)))
        if not parts:  # of the type of the others
            with self._shards.opened(0) as file:
                return read_rows(file, name, slice(0, 0))
        return np.concatenate(parts)

    def __str__(self) -> str:
        return str(self._shards)


def _runs(numbers: npt.NDArray[np.integer[Any]]) -> Iterator[tuple[int, int]]:
    """Give where runs of equal numbers begin and end."""
    breaks = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    return ((start, stop) for start, stop in pairwise(breaks) if start < stop)
