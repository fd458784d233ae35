"""Build shards of the rows of a run: rows and texts in, finished shards out.

Rows and distinct texts go to scratch files in a hidden folder beside the output, so that memory
does not grow with the input. Vectors are not copied: they are in the journal
(`features/extraction/journal.py`) or in shards that are finished
(`features/extraction/finished_rows.py`) until `commit` builds a shard in scratch, syncs it, reads
it back and renames it, so that a finished file appears at once or not at all. Every run makes its
scratch files again from the input, and throws away those of a killed run. It does not encode, and
does not decide where a shard ends.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from features.base import disk
from features.base.records import Records, slices
from features.extraction.finished_rows import FinishedRows
from features.extraction.journal import PLACE, Journal, Places
from features.store.format import (
    DIGEST_BYTES,
    EMPTY,
    REPAIRED,
    TRUNCATED,
    Shard,
    label_recoding,
    sort_labels,
)
from features.store.reader import FeatureStore
from features.store.writer import write_shard

# Below the number of parameters that every sqlite takes.
_ASKED_TOGETHER = 500
# Where a text's vectors are: `row`, counted over all shards, or, where that is -1, its place in the
# journal.
_TEXT = np.dtype(
    [
        ("digest", "u1", DIGEST_BYTES),
        ("n_tokens", "<i4"),
        ("truncated", "?"),
        ("row", "<i8"),
        ("place", PLACE),
    ]
)
_TABLE = "CREATE TABLE {} (digest BLOB PRIMARY KEY, slot INTEGER) WITHOUT ROWID"
_ROW = np.dtype(
    [("slot", "<i8"), ("label", "<i4"), ("flags", "u1"), ("id_start", "<i8"), ("id_bytes", "<i4")]
)


class ShardBuilder:
    """Scratch files of one run of `extract`; use it as a context manager.

    A distinct text has a slot. Those of the shards before come first (`known`); those that the
    shard at work has brought, from the shard that it replaces or newly encoded, are numbered behind
    them (`fresh`).

    Parameters
    ----------
    output : Path
        The final name, of a file or a folder; its folder must exist.
    journal : Journal
        Of this output, so that nobody else is at these files; holds the vectors of new texts.

    Attributes
    ----------
    first_row, n_rows : int
        Rows of the shards before, and of the shard at work.
    """

    def __init__(self, output: Path, journal: Journal) -> None:
        self._journal = journal
        self._finished = FinishedRows()
        self._folder = output.with_name(f".{output.name}.partial")
        self._files: dict[str, BinaryIO] = {}
        self._label_codes: dict[str, int] = {}
        self._id_position = self._longest_id = 0
        self.first_row = self.n_rows = 0
        self._n_known = self._n_fresh = 0
        if self._folder.exists():  # a killed run's
            shutil.rmtree(self._folder)
        self._folder.mkdir(mode=0o700)
        with ExitStack() as undo:
            undo.callback(self._throw_away)
            # No journal of its own and no syncs: it is scratch, and a dead run's is thrown away.
            self._index = sqlite3.connect(self._folder / "texts.sqlite", isolation_level=None)
            undo.callback(self._index.close)
            self._index.execute("PRAGMA journal_mode = OFF")
            self._index.execute("PRAGMA synchronous = OFF")
            self._index.execute(_TABLE.format("known"))
            self._index.execute(_TABLE.format("fresh"))
            undo.pop_all()

    def __enter__(self) -> ShardBuilder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finished.close()
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
        found: dict[bytes, int] = {}
        # A text of the shards before is read from there, whatever the shard at work has had.
        for table in ("fresh", "known"):
            for start in range(0, len(digests), _ASKED_TOGETHER):
                some = digests[start : start + _ASKED_TOGETHER]
                marks = ",".join("?" * len(some))
                found.update(
                    self._index.execute(
                        f"SELECT digest, slot FROM {table} WHERE digest IN ({marks})", some
                    )
                )
        return found

    def add_texts(
        self,
        digests: Sequence[bytes],
        n_tokens: Sequence[int],
        truncated: Sequence[bool],
        places: Places,
    ) -> None:
        """Add new texts.

        Parameters
        ----------
        digests, n_tokens, truncated : sequences
            One of each a text.
        places : array of `PLACE`
            Where the journal has their vectors.
        """
        texts = np.zeros(len(digests), _TEXT)
        texts["digest"] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
        texts["n_tokens"], texts["truncated"], texts["place"] = n_tokens, truncated, places
        texts["row"] = -1
        self._add_fresh(texts)

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
        """Tell whether the rows are those of `store`: ids, labels, texts and order."""
        names = self._names(label_names)
        if self.n_rows != store.n_rows or names != list(store.label_names):
            return False
        rows = self._records("rows", _ROW)
        codes = label_recoding(list(self._label_codes), names)
        labels = store.labels()
        return all(
            np.array_equal(codes[some["label"]], labels[part])
            and np.array_equal(self._texts(some["slot"])["digest"], store.digests(part))
            and [name.decode() for name in self._ids(some)] == store.ids(part)
            for part in slices(self.n_rows)
            for some in (rows.read(part),)
        )

    def n_unique(self) -> int:
        """Count the different texts of the rows, those of the shards before and of this one."""
        return self._n_known + int(np.count_nonzero(self._first_rows() >= 0))

    def commit(
        self,
        path: Path,
        shard: Shard,
        label_names: Sequence[str] | None,
        write: Callable[..., None] = write_shard,
    ) -> None:
        """Build the shard at work, and rename it to its name.

        Parameters
        ----------
        path : Path
            Its name, on the file system of the output.
        shard : Shard
            Its attributes; `label_names` is filled in here.
        label_names : sequence of str, optional
            The order of the classes, where the input says one.
        write : callable
            Writes the file, see `write_shard`.
        """
        names = self._names(label_names)
        shard = replace(shard, label_names=names)
        rows = self._records("rows", _ROW)
        codes = label_recoding(list(self._label_codes), names)

        def vectors_of(view: str, texts: npt.NDArray[Any]) -> npt.NDArray[Any]:
            is_new = texts["row"] < 0
            vectors = np.empty((len(texts), shard.vectors.views[view]), shard.vectors.store_dtype)
            if is_new.any():
                vectors[is_new] = self._journal.read(view, texts["place"][is_new])
            if not is_new.all():
                vectors[~is_new] = self._finished.take(view, texts["row"][~is_new])
            return vectors

        def rows_of(name: str, part: slice) -> npt.NDArray[Any]:
            some = rows.read(part)
            if name == "id":
                return np.array(self._ids(some), dtype=f"S{max(1, self._longest_id)}")
            if name == "label":
                return np.asarray(codes[some["label"]])
            texts = self._texts(some["slot"])
            if name == "flags":
                return np.asarray(some["flags"] | texts["truncated"] * TRUNCATED)
            if name in ("digest", "n_tokens"):
                return np.asarray(texts[name])
            return vectors_of(name, texts)

        aside = self._folder / "shard.h5"
        write(aside, shard, n_rows=self.n_rows, id_bytes=self._longest_id, rows_of=rows_of)
        self._finished.close()  # it may be what is replaced
        disk.rename(aside, path)
        disk.sync_folder(path.parent)

    def take_over(self, store: FeatureStore) -> None:
        """Take in the texts of the shard that is at the place of the one at work."""
        self._finished.put(self.first_row, store.paths[0])
        for rows in slices(store.n_rows):
            texts = np.zeros(rows.stop - rows.start, _TEXT)
            texts["digest"], texts["n_tokens"] = store.digests(rows), store.n_tokens(rows)
            texts["truncated"] = (store.flags(rows) & TRUNCATED) != 0
            texts["row"] = np.arange(rows.start, rows.stop) + self.first_row
            self._add_fresh(texts)

    def settle(self, path: Path) -> None:
        """Begin the next shard: the one at work is finished, and its texts are read from there.

        A text that it did not use, of a shard that it has replaced, is forgotten.
        """
        first_rows, fresh = self._first_rows(), self._records("fresh", _TEXT)
        for part in slices(self._n_fresh):
            used = first_rows[part] >= 0
            texts = fresh.read(part)[used]
            texts["row"] = first_rows[part][used] + self.first_row
            self._append("known", texts)
            self._remember("known", texts, self._n_known)
            self._n_known += len(texts)
        self._finished.put(self.first_row, path)
        for name in ("fresh", "rows", "ids"):
            self._file(name).truncate(0)
        self._index.execute("DROP TABLE fresh")
        self._index.execute(_TABLE.format("fresh"))
        self.first_row += self.n_rows
        self.n_rows = self._n_fresh = self._id_position = self._longest_id = 0
        self._label_codes = {}

    def _first_rows(self) -> npt.NDArray[np.int64]:
        """Find the row of the shard at work that uses a fresh text first; -1 where none does."""
        first_rows = np.full(self._n_fresh, -1, np.int64)
        rows = self._records("rows", _ROW)
        for part in slices(self.n_rows):
            slots, places = np.unique(rows.read(part)["slot"], return_index=True)
            fresh = slots >= self._n_known
            slots, places = slots[fresh] - self._n_known, places[fresh] + part.start
            new = first_rows[slots] < 0
            first_rows[slots[new]] = places[new]
        return first_rows

    def _texts(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        texts = np.empty(len(slots), _TEXT)
        known = slots < self._n_known
        texts[known] = self._records("known", _TEXT).take(slots[known])
        texts[~known] = self._records("fresh", _TEXT).take(slots[~known] - self._n_known)
        return texts

    def _add_fresh(self, texts: npt.NDArray[Any]) -> None:
        self._append("fresh", texts)
        self._remember("fresh", texts, self._n_known + self._n_fresh)
        self._n_fresh += len(texts)

    def _remember(self, table: str, texts: npt.NDArray[Any], first: int) -> None:
        digests = texts["digest"].tobytes()
        keys = (digests[i : i + DIGEST_BYTES] for i in range(0, len(digests), DIGEST_BYTES))
        self._index.execute("BEGIN")
        # A shard has rows with the same text: the first one stands for them.
        self._index.executemany(
            f"INSERT OR IGNORE INTO {table} VALUES (?, ?)",
            ((key, slot) for slot, key in enumerate(keys, start=first)),
        )
        self._index.execute("COMMIT")

    def _names(self, label_names: Sequence[str] | None) -> list[str]:
        return sort_labels(set(self._label_codes)) if label_names is None else list(label_names)

    def _ids(self, rows: npt.NDArray[Any]) -> list[bytes]:
        starts, sizes = rows["id_start"].tolist(), rows["id_bytes"].tolist()
        if not starts:
            return []
        ids = self._records("ids", np.dtype(np.uint8))
        data = ids.read(slice(starts[0], starts[-1] + sizes[-1])).tobytes()
        return [data[s - starts[0] : s - starts[0] + n] for s, n in zip(starts, sizes, strict=True)]

    def _append(self, name: str, values: npt.NDArray[Any]) -> None:
        self._file(name).write(np.ascontiguousarray(values).data)

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            # Appending, so that what was read in between does not move where the next write goes.
            self._files[name] = (self._folder / name).open("a+b")
        return self._files[name]

    def _records(self, name: str, dtype: np.dtype[Any]) -> Records:
        """Give the records that were appended under a name; maybe none."""
        return Records(self._file(name), dtype)
