"""Rows in, a finished shard out: what a run of stage one collects beside its journal.

Which texts there are and the rows that use them go to scratch files in a hidden folder beside the
output, so that memory does not grow with the input; their vectors are in the journal
(`features/journal.py`). `commit` builds the shard there, syncs it, reads it back and renames it, so
that a finished file appears at once or not at all. Scratch is made again by every run, from the input,
and that of a killed one is thrown away.
"""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from features import disk
from features.journal import PLACE, Journal, Places
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

_TEXT = np.dtype(
    [("digest", "u1", DIGEST_BYTES), ("n_tokens", "<i4"), ("truncated", "?"), ("place", PLACE)]
)
_ROW = np.dtype(
    [("slot", "<i8"), ("label", "<i4"), ("flags", "u1"), ("id_start", "<i8"), ("id_bytes", "<i4")]
)


class ShardBuilder:
    """Scratch files of one run of `extract`; use it as a context manager.

    A distinct text has a slot. The texts of `previous`, the store that is extended, have the numbers
    of their rows there as slots; new texts are numbered behind them in the order of `add_texts`.

    Parameters
    ----------
    output : Path
        The final name; its folder must exist.
    journal : Journal
        Of this output, so that nobody else is at these files; holds the vectors of new texts.
    previous : FeatureStore, optional
        What is at that name already.
    """

    def __init__(
        self, output: Path, journal: Journal, previous: FeatureStore | None = None
    ) -> None:
        self._output = output
        self._journal = journal
        self._previous = previous
        self._n_previous = 0 if previous is None else previous.n_rows
        self._folder = output.with_name(f".{output.name}.partial")
        self._files: dict[str, BinaryIO] = {}
        self._label_codes: dict[str, int] = {}
        self._id_position = self._longest_id = 0
        self.n_rows = 0
        self.n_texts = 0  # slots
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
            self._index.execute(
                "CREATE TABLE text (digest BLOB PRIMARY KEY, slot INTEGER) WITHOUT ROWID"
            )
            if previous is not None:
                self._take_over(previous)
            undo.pop_all()

    def __enter__(self) -> ShardBuilder:
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
        places: Places,
    ) -> dict[bytes, int]:
        """Add new texts, and give the slots that they took.

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
        rows, texts = self._records("rows", _ROW), self._records("texts", _TEXT)
        codes = self._recoding(names)
        labels = store.labels()
        return all(
            np.array_equal(codes[some["label"]], labels[part])
            and np.array_equal(texts.take(some["slot"])["digest"], store.digests(part))
            and [name.decode() for name in self._ids(some)] == store.ids(part)
            for part in _slices(self.n_rows)
            for some in (rows.read(part),)
        )

    def n_unique(self) -> int:
        """How many different texts the rows have."""
        used = np.zeros(self.n_texts, np.bool_)
        rows = self._records("rows", _ROW)
        for part in _slices(self.n_rows):
            used[rows.read(part)["slot"]] = True
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
        shard = replace(shard, label_names=names)
        if self._previous is not None:
            for number, view in enumerate(shard.views):
                for _, block in self._previous.blocks(view):
                    self._append(f"previous-{number}", block.astype(shard.store_dtype))
        rows, texts = self._records("rows", _ROW), self._records("texts", _TEXT)
        codes = self._recoding(names)
        previous = {
            view: self._records(f"previous-{number}", np.dtype(shard.store_dtype), width)
            for number, (view, width) in enumerate(shard.views.items())
        }

        def vectors_of(view: str, slots: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
            is_new = slots >= self._n_previous
            vectors = np.empty((len(slots), shard.views[view]), shard.store_dtype)
            if is_new.any():
                vectors[is_new] = self._journal.read(view, texts.take(slots[is_new])["place"])
            if not is_new.all():
                vectors[~is_new] = previous[view].take(slots[~is_new])
            return vectors

        def rows_of(name: str, part: slice) -> npt.NDArray[Any]:
            some = rows.read(part)
            if name == "id":
                return np.array(self._ids(some), dtype=f"S{max(1, self._longest_id)}")
            if name == "label":
                return np.asarray(codes[some["label"]])
            if name == "flags":
                return np.asarray(some["flags"] | texts.take(some["slot"])["truncated"] * TRUNCATED)
            if name in ("digest", "n_tokens"):
                return np.asarray(texts.take(some["slot"])[name])
            return vectors_of(name, some["slot"])

        aside = self._folder / "shard.h5"
        write_shard(aside, shard, n_rows=self.n_rows, id_bytes=self._longest_id, rows_of=rows_of)
        disk.rename(aside, self._output)
        disk.sync_folder(self._output.parent)

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

    def _records(self, name: str, dtype: np.dtype[Any], *shape: int) -> _Records:
        """What was appended under a name, as records of a dtype and shape; maybe none."""
        return _Records(self._file(name), dtype, shape)


class _Records:
    """Equally long records in a scratch file, by number.

    They are read, not mapped: mapped pages count as memory of the process for as long as the map
    lives, and with a million tweets that is most of the file.
    """

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._file, self._dtype, self._shape = file, dtype, shape
        self._bytes = dtype.itemsize * math.prod(shape)
        self._n = file.seek(0, os.SEEK_END) // self._bytes

    def __len__(self) -> int:
        return self._n

    def read(self, part: slice) -> npt.NDArray[Any]:
        """Records from `part.start` to `part.stop`, which must both be there."""
        records = np.empty((part.stop - part.start, *self._shape), self._dtype)
        self._file.seek(part.start * self._bytes)
        self._file.readinto(records)  # type: ignore[attr-defined]  # typeshed's BinaryIO lacks it
        return records

    def take(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Records by number, in any order; neighbours in the file are read in one go."""
        ordered, places = np.unique(numbers, return_inverse=True)
        records = np.empty((len(ordered), *self._shape), self._dtype)
        ends = [*(np.flatnonzero(np.diff(ordered) != 1) + 1).tolist(), len(ordered)]
        start = 0
        for end in ends if len(ordered) else []:
            self._file.seek(int(ordered[start]) * self._bytes)
            self._file.readinto(records[start:end])  # type: ignore[attr-defined]
            start = end
        return np.asarray(records[places])


def _slices(n_rows: int) -> Iterator[slice]:
    """Cut rows into blocks, so that memory does not grow with them."""
    for start in range(0, n_rows, 65_536):
        yield slice(start, min(start + 65_536, n_rows))
