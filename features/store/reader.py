"""Read shards as one store: a file, a list of files or a folder of them. No torch.

In come paths, out come vectors, labels and the other columns of all rows, in order. The layout of a
shard is in `features/store/format.py`. A file that this process has not written is opened by a
child process first (`features/store/admission.py`), and a writer may replace it meanwhile. Writes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from features.base.arrays import Array
from features.errors import FileRefused, InputError
from features.spec.pooling import parse_pooling
from features.store import admission
from features.store.format import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    check_same_vectors,
    label_recoding,
    open_file,
    read_rows,
    read_shard,
    row_slices,
    sort_labels,
)
from features.store.shard_folder import check_whole, in_order

if TYPE_CHECKING:
    from features.store.vector_dataset import VectorDataset

# How often a file is opened again that was replaced at the very moment.
_TRIES = 20


class FeatureStore:
    """Cached vectors and what belongs to their rows, read from one shard or several.

    Parameters
    ----------
    path : path, or a sequence of paths
        A file, a folder (its `*.h5`, in order of their names), or files in the order of their rows.

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
    paths, shards : lists
        The files, and what each says about itself.

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
        self._files: list[h5py.File] = []
        with ExitStack() as undo:
            undo.callback(self.close)
            self.paths = self._open_all(path)
            shards = [read_shard(file) for file in self._files]
            first = shards[0]
            for shard_path, shard in zip(self.paths[1:], shards[1:], strict=True):
                check_same_vectors(shard_path, shard, self.paths[0], first)
            rows = [len(file["label"]) for file in self._files]
            if isinstance(path, str | Path) and Path(path).is_dir():
                check_whole(Path(path), self.paths, [shard.part for shard in shards], rows)
            undo.pop_all()
        self.shards = shards
        self.vectors = first.vectors
        self.spec = first.vectors.spec
        self.views = dict(first.vectors.views)
        self.precision = str(first.vectors.precision)
        self.store_dtype = first.vectors.store_dtype
        self.provenance = [shard.provenance for shard in shards]
        names = {name for shard in shards for name in shard.label_names}
        # Shards that agree keep the order of their names, which a mapping may have given.
        agree = all(shard.label_names == first.label_names for shard in shards)
        self.label_names = list(first.label_names) if agree else sort_labels(names)
        self._codes = [label_recoding(shard.label_names, self.label_names) for shard in shards]
        self._starts = np.cumsum([0, *rows])
        self.n_rows = int(self._starts[-1])

    def _open_all(self, path: str | Path | Sequence[str | Path]) -> list[Path]:
        """Open the files as they were at one moment, whatever a writer does meanwhile."""
        for _ in range(_TRIES):
            paths = _shard_paths(path)
            try:
                admission.admit(paths)  # one child for all of them
                for shard_path in paths:
                    self._files.append(_open(shard_path))
                if len(paths) == 1 or (
                    _shard_paths(path) == paths
                    and [admission.identity(shard_path) for shard_path in paths]
                    == [admission.identity(file.id.get_vfd_handle()) for file in self._files]
                ):
                    return paths
            except FileNotFoundError:  # replaced or removed since it was listed
                pass
            self.close()
            self._files.clear()
        raise FileRefused(f"{path} changes again and again while it is opened")

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
            "files": f"{len(self.paths):,}",
            "precision": f"{self.precision}, stored as {self.store_dtype}",
            "model": self.spec.model,
            "fingerprint": self.fingerprint,
        }
        return facts_html(f"Cached vectors: {self}", facts)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    @property
    def is_closed(self) -> bool:
        """Whether its files are closed."""
        return not all(self._files)

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
        for offset, file in zip(self._starts[:-1], self._files, strict=True):
            n_rows = len(file["label"])
            first = max(0, start - int(offset))
            if first >= n_rows:
                continue
            for rows in row_slices(n_rows, row_bytes, block_bytes, chunk_bytes, first):
                parts = [read_rows(file, name, rows).astype(dtype, copy=False) for name in names]
                yield int(offset) + rows.start, parts[0] if len(parts) == 1 else np.hstack(parts)

    def take(self, view: str, rows: npt.NDArray[np.int64]) -> Array:
        """Read vectors of single rows as they are stored, each chunk once; `rows` ascend."""
        vectors = np.empty((len(rows), self.views[view]), self.store_dtype)
        for offset, end, file in zip(self._starts[:-1], self._starts[1:], self._files, strict=True):
            low, high = np.searchsorted(rows, [offset, end])
            wanted = rows[low:high] - offset
            chunks = wanted // file[view].chunks[0]
            for start, stop in pairwise([0, *np.flatnonzero(np.diff(chunks)) + 1, len(wanted)]):
                if start < stop:
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
        return VectorDataset(self.paths, names, chosen, labels, width)

    def _named(self, views: str | Sequence[str] | None) -> list[str]:
        return self.choose_views([views] if isinstance(views, str) else views)

    def labels(self) -> npt.NDArray[np.int32]:
        """Read the codes into `label_names`, (N,); -1 where there is no label."""
        parts = []
        for path, file, codes in zip(self.paths, self._files, self._codes, strict=True):
            part = read_rows(file, "label")
            if part.size and not -1 <= part.min() <= part.max() < len(codes) - 1:
                raise FileRefused(f"{path}: it has labels that are not among its label names")
            parts.append(codes[part])
        return np.concatenate(parts)

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
        for offset, file in zip(self._starts[:-1], self._files, strict=True):
            low, high = max(start - offset, 0), min(stop - offset, len(file["label"]))
            if low < high or not parts:
                parts.append(read_rows(file, name, slice(low, max(low, high))))
        return np.concatenate(parts)

    def __str__(self) -> str:
        return str(self.paths[0]) if len(self.paths) == 1 else f"{self.paths[0].parent} (shards)"


def _shard_paths(path: str | Path | Sequence[str | Path]) -> list[Path]:
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(p) for p in path]
    if len(paths) == 1 and paths[0].is_dir():
        folder = paths[0]
        paths = in_order(list(folder.glob("*.h5")))
        if not paths:
            raise InputError(f"{folder} is a folder without feature files (*.h5)")
    if not paths:
        raise InputError("no feature file was given")
    for shard_path in paths:
        if not shard_path.is_file():
            raise InputError(
                f"{shard_path}: no such feature file; make it with `frostline extract`"
            )
    return paths


def _open(path: Path) -> h5py.File:
    """Open a file that a child has come through; a writer may replace it meanwhile."""
    for _ in range(_TRIES):
        admitted = admission.admit([path])
        file = open_file(path)
        if [admission.identity(file.id.get_vfd_handle())] == admitted:
            return file
        file.close()
    raise FileRefused(f"{path} changes again and again while it is opened")
