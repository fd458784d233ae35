"""The writer of stage one: collects texts and rows beside the output, then makes the shard whole.

Vectors of distinct texts and the rows that use them go to scratch files in a hidden folder beside
the output; `commit` builds the shard there and renames it, so that a finished file appears at once
or not at all. Which texts were seen is kept on disk as well, so that memory does not grow with the
input. It does not know what the vectors mean. A killed run leaves its hidden folder behind and
starts from the beginning.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from features.errors import CannotContinue
from features.store import (
    DIGEST_BYTES,
    EMPTY,
    REPAIRED,
    TRUNCATED,
    FeatureStore,
    Shard,
    sort_labels,
    write_shard,
)

_TEXT = np.dtype([("digest", "u1", DIGEST_BYTES), ("n_tokens", "<i4"), ("truncated", "u1")])
_ROW = np.dtype(
    [("slot", "<i8"), ("label", "<i4"), ("flags", "u1"), ("id_start", "<i8"), ("id_bytes", "<i4")]
)


class Journal:
    """Scratch files of one run of `extract`; use it as a context manager.

    A distinct text has a slot. The texts of `previous`, the store that is extended, have the numbers
    of their rows there as slots; new texts are numbered behind them in the order of `add_texts`.

    Parameters
    ----------
    output : Path
        The final name; its folder must exist.
    store_dtype : str
        `float16` or `float32`, for vectors on disk.
    previous : FeatureStore, optional
        What is at that name already.
    """

    def __init__(
        self, output: Path, store_dtype: str, previous: FeatureStore | None = None
    ) -> None:
        self._output = output
        self._dtype = np.dtype(store_dtype)
        self._previous = previous
        self._folder = Path(
            tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent)
        )
        self._files: dict[str, BinaryIO] = {}
        self._label_codes: dict[str, int] = {}
        self._id_position = self._longest_id = 0
        self.n_rows = 0
        self.n_texts = 0  # slots
        with ExitStack() as undo:
            undo.callback(self._throw_away)
            # No journal of its own and no syncs: it is scratch, and a dead run's is thrown away.
            self._index = sqlite3.connect(self._folder / "texts.sqlite", isolation_level=None)
            undo.callback(self._index.close)
            self._index.execute("PRAGMA journal_mode = OFF")
            self._index.execute("PRAGMA synchronous = OFF")
            self._index.execute(
                "CREATE TABLE text (digest BLOB PRIMARY KEY, slot INTEGER) WITHOUT ROWID"
            )
            if previous is not None:
                self._take_over(previous)
            undo.pop_all()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._index.close()
        self._throw_away()

    def _throw_away(self) -> None:
        """Remove the scratch files, whatever state they are in."""
        for file in self._files.values():
            # What could not be written is not needed any more.
            with suppress(OSError):
                file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def slots(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Give the slots of those texts that are known."""
        find = "SELECT slot FROM text WHERE digest = ?"
        found = ((digest, self._index.execute(find, (digest,)).fetchone()) for digest in digests)
        return {digest: row[0] for digest, row in found if row}

    def add_texts(
        self,
        digests: Sequence[bytes],
        n_tokens: Sequence[int],
        truncated: Sequence[bool],
        vectors: Mapping[str, npt.NDArray[np.float32]],
    ) -> dict[bytes, int]:
        """Add new texts, and give the slots that they took.

        Raises
        ------
        CannotContinue
            A value is too large for float16 on disk.
        """
        texts = np.zeros(len(digests), _TEXT)
        texts["digest"] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
        texts["n_tokens"], texts["truncated"] = n_tokens, truncated
        for number, (view, matrix) in enumerate(vectors.items()):
            with np.errstate(over="ignore"):
                stored = matrix.astype(self._dtype)
            if not np.isfinite(stored).all():
                raise CannotContinue(
                    f"view {view!r} has values up to {np.abs(matrix).max():.3g}, too large for "
                    f"{self._dtype.name}; store it with --store-dtype float32"
                )
            self._append(f"vectors-{number}", stored)
        self._append("texts", texts)
        first = self.n_texts
        self._remember(digests)
        return {digest: slot for slot, digest in enumerate(digests, start=first)}

    def add_rows(
        self,
        ids: Sequence[str],
        labels: Sequence[str | None],
        slots: Sequence[int],
        empty: Sequence[bool],
        repaired: Sequence[bool],
    ) -> None:
        """Add the next rows of the input, each with the slot of its text."""
        names = [identity.encode() for identity in ids]
        rows = np.zeros(len(names), _ROW)
        rows["slot"] = slots
        rows["label"] = [
            -1 if label is None else self._label_codes.setdefault(label, len(self._label_codes))
            for label in labels
        ]
        rows["flags"] = np.where(empty, EMPTY, 0) + np.where(repaired, REPAIRED, 0)
        rows["id_bytes"] = [len(name) for name in names]
        ends = self._id_position + np.cumsum(rows["id_bytes"], dtype=np.int64)
        rows["id_start"] = ends - rows["id_bytes"]
        self._append("ids", np.frombuffer(b"".join(names), np.uint8))
        self._append("rows", rows)
        self.n_rows += len(names)
        self._id_position = int(ends[-1])
        self._longest_id = max(self._longest_id, int(rows["id_bytes"].max()))

    def repeats(self, store: FeatureStore, label_names: Sequence[str] | None) -> bool:
        """Whether the rows are those of `store`: ids, labels, texts and order."""
        names = self._names(label_names)
        if self.n_rows != store.n_rows or names != list(store.label_names):
            return False
        rows = self._map("rows", _ROW)
        codes = self._recoding(names)
        texts = self._map("texts", _TEXT)
        labels = store.labels()
        return all(
            np.array_equal(codes[rows["label"][part]], labels[part])
            and np.array_equal(texts["digest"][rows["slot"][part]], store.digests(part))
            and [name.decode() for name in self._ids(rows[part])] == store.ids(part)
            for part in _slices(self.n_rows)
        )

    def n_unique(self) -> int:
        """How many different texts the rows have."""
        used = np.zeros(self.n_texts, np.bool_)
        rows = self._map("rows", _ROW)
        for part in _slices(self.n_rows):
            used[rows["slot"][part]] = True
        return int(np.count_nonzero(used))

    def commit(self, shard: Shard, label_names: Sequence[str] | None) -> None:
        """Build the shard, and rename it to the output.

        Parameters
        ----------
        shard : Shard
            Its attributes; `label_names` is filled in here.
        label_names : sequence of str, optional
            The order of the classes, where the input says one.
        """
        names = self._names(label_names)
        shard = Shard(
            shard.spec, shard.views, names, shard.precision, self._dtype.name, shard.provenance
        )
        if self._previous is not None:
            for number, view in enumerate(shard.views):
                for _, block in self._previous.blocks(view):
                    self._append(f"previous-{number}", block.astype(self._dtype))
        rows, texts, codes = (
            self._map("rows", _ROW),
            self._map("texts", _TEXT),
            self._recoding(names),
        )
        vectors = {
            view: [
                self._map(f"{origin}-{number}", np.dtype((self._dtype, (width,))))
                for origin in ("previous", "vectors")
            ]
            for number, (view, width) in enumerate(shard.views.items())
        }

        def rows_of(name: str, part: slice) -> npt.NDArray[Any]:
            some = rows[part]
            if name == "id":
                return np.array(self._ids(some), dtype=f"S{max(1, self._longest_id)}")
            if name == "label":
                return np.asarray(codes[some["label"]])
            if name == "flags":
                return np.asarray(some["flags"] | texts["truncated"][some["slot"]] * TRUNCATED)
            if name in ("digest", "n_tokens"):
                return np.asarray(texts[name][some["slot"]])
            return _gather(vectors[name], some["slot"])

        aside = self._folder / "shard.h5"
        write_shard(aside, shard, n_rows=self.n_rows, id_bytes=self._longest_id, rows_of=rows_of)
        _sync(aside)
        aside.replace(self._output)
        _sync(self._output.parent)

    def _take_over(self, previous: FeatureStore) -> None:
        """Know the texts of the previous store; its vectors are copied only if `commit` is called."""
        for rows in _slices(previous.n_rows):
            digests = previous.digests(rows)
            texts = np.zeros(len(digests), _TEXT)
            texts["digest"], texts["n_tokens"] = digests, previous.n_tokens(rows)
            texts["truncated"] = (previous.flags(rows) & TRUNCATED) != 0
            self._append("texts", texts)
            self._remember([digest.tobytes() for digest in digests])

    def _remember(self, digests: Sequence[bytes]) -> None:
        self._index.execute("BEGIN")
        # A previous store has rows with the same text: the first one stands for them.
        self._index.executemany(
            "INSERT OR IGNORE INTO text VALUES (?, ?)",
            ((digest, slot) for slot, digest in enumerate(digests, start=self.n_texts)),
        )
        self._index.execute("COMMIT")
        self.n_texts += len(digests)

    def _names(self, label_names: Sequence[str] | None) -> list[str]:
        return sort_labels(set(self._label_codes)) if label_names is None else list(label_names)

    def _recoding(self, names: Sequence[str]) -> npt.NDArray[np.int32]:
        """Codes in the order of `names` for codes in the order of appearance; -1 stays."""
        return np.array([*(names.index(label) for label in self._label_codes), -1], np.int32)

    def _ids(self, rows: npt.NDArray[Any]) -> list[bytes]:
        ids = self._map("ids", np.dtype(np.uint8))
        starts, sizes = rows["id_start"].tolist(), rows["id_bytes"].tolist()
        if not starts:
            return []
        data = ids[starts[0] : starts[-1] + sizes[-1]].tobytes()
        return [data[s - starts[0] : s - starts[0] + n] for s, n in zip(starts, sizes, strict=True)]

    def _append(self, name: str, values: npt.NDArray[Any]) -> None:
        if name not in self._files:
            self._files[name] = (self._folder / name).open("wb")
        self._files[name].write(np.ascontiguousarray(values).tobytes())

    def _map(self, name: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """What was appended under a name, mapped from disk; nothing, if nothing was."""
        base, tail = dtype.base, dtype.shape
        if name not in self._files:
            return np.empty((0, *tail), base)
        self._files[name].flush()
        path = self._folder / name
        n = path.stat().st_size // dtype.itemsize
        return np.memmap(path, base, "r", shape=(n, *tail)) if n else np.empty((0, *tail), base)


def _slices(n_rows: int) -> Iterator[slice]:
    """Cut rows into blocks, so that memory does not grow with them."""
    for start in range(0, n_rows, 65_536):
        yield slice(start, min(start + 65_536, n_rows))


def _gather(parts: Sequence[npt.NDArray[Any]], slots: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Vectors by slot: those of the previous store, and behind them the new ones."""
    previous, new = parts
    if not len(new):
        return np.asarray(previous[slots])
    is_new = slots >= len(previous)
    vectors = np.empty((len(slots), new.shape[1]), new.dtype)
    vectors[is_new] = new[slots[is_new] - len(previous)]
    vectors[~is_new] = previous[slots[~is_new]]
    return vectors


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
