"""Open the shards of a joined store when they are needed, a few at a time.

In come the index of a store and numbers of shards, out come HDF5 files. A shard is looked at before
each time that it is opened: it has the size and the seal that its receipt promised, or is refused
by name. A child process opens it first, once (`features/store/admission.py`), and those behind it
with it, since a child takes longer to start than to look at a shard.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from features.base.storage import Target
from features.errors import FileRefused, InputError, system_reason
from features.store import admission
from features.store.checksum import sealed_digest
from features.store.format import Shard, ShardRows, check_same_vectors, read_shard
from features.store.joined import place
from features.store.joined.index import Index
from features.store.joined.layout import piece_folder, receipt_path, store_path
from features.store.joined.receipt import MAX_BYTES, Receipt

# Files that are open at a time, besides those that are being read.
OPEN_FILES = 8
# Shards that one child looks at: few at first, as maybe no more are needed, then more and more.
FIRST_BATCH, LARGEST_BATCH = 16, 256


class ShardFiles:
    """The shards of a joined store as files; the files are closed by `close`.

    Parameters
    ----------
    store : path or URL
        The folder of the store.
    index : Index
        What `store.json` says of its shards.
    open_files : int
        Files that stay open at most.
    """

    def __init__(self, store: Target, index: Index, *, open_files: int = OPEN_FILES) -> None:
        self.store, self.index = store, index
        self.vectors, self.provenance = index.vectors, [index.provenance]
        self.rows = ShardRows(index.rows, index.label_lists, index.label_list)
        self.label_rows: tuple[int, ...] | None = index.label_rows
        self.n_pieces: int | None = index.pieces
        self.sources: list[Target] = [store]
        self._most, self._batch = open_files, FIRST_BATCH
        self._open: OrderedDict[int, h5py.File] = OrderedDict()
        self._in_use: Counter[int] = Counter()
        self._admitted: set[int] = set()
        self._like_the_others: dict[int, admission.Identity] = {}
        self._lock = threading.RLock()
        self.is_closed = False

    def __len__(self) -> int:
        return len(self.index.rows)

    def __str__(self) -> str:
        return str(self.store)

    @property
    def paths(self) -> list[Path]:
        """The paths of all shards on this machine."""
        return [self.path(shard) for shard in range(len(self))]

    def path(self, shard: int) -> Path:
        """Give the path of a shard on this machine."""
        index = self.index
        return place.shard_here(self.store, int(index.piece[shard]), index.number(shard))

    @contextmanager
    def opened(self, shard: int) -> Iterator[h5py.File]:
        """Give a shard as an open file, which stays open inside.

        Raises
        ------
        FileRefused
            It is missing, damaged, or not the one that its receipt promised.
        InputError
            The store is closed.
        """
        with self._lock:
            if self.is_closed:
                raise InputError(f"{self.store} is closed: read it while it is open")
            file = self._open.pop(shard, None) or self._opened_anew(shard)
            self._open[shard] = file  # the last one that was used
            self._in_use[shard] += 1
        try:
            yield file
        finally:
            with self._lock:
                self._in_use[shard] -= 1
                self._close_surplus()

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            self.is_closed = True
            for file in self._open.values():
                file.close()
            self._open.clear()

    def _close_surplus(self) -> None:
        for shard in [one for one in self._open if not self._in_use[one]]:
            if len(self._open) <= self._most:
                break
            self._open.pop(shard).close()
            del self._in_use[shard]

    def _opened_anew(self, shard: int) -> h5py.File:
        index = self.index
        piece, number = int(index.piece[shard]), index.number(shard)
        path = place.bring_shard(self.store, piece, number)
        size, seal = int(index.sizes[shard]), index.seals[shard]
        try:
            check_as_promised(self.store, piece, path, size, seal)
        except FileRefused as error:
            if _has_other_receipt(self.store, piece, number, seal):
                raise FileRefused(
                    f"{store_path(self.store)} is older than {receipt_path(self.store, piece)}: "
                    f"`frostline verify {self.store}` joins the pieces again"
                ) from error
            raise
        self._admit(shard)
        try:
            file = admission.open_admitted(path)
        except FileNotFoundError as error:
            raise FileRefused(remade(self.store, piece, f"{path} was removed")) from error
        try:
            identity = admission.identity(file.id.get_vfd_handle())
            if self._like_the_others.get(shard) != identity:
                self._check_like_the_others(shard, path, file)
                self._like_the_others[shard] = identity
        except BaseException:
            file.close()
            raise
        return file

    def _admit(self, shard: int) -> None:
        """Have a child look at a shard, and at those behind it that are there."""
        if shard in self._admitted:
            return
        batch = [
            one
            for one in range(shard, min(shard + self._batch, len(self)))
            if one not in self._admitted and _has_size(self.path(one), int(self.index.sizes[one]))
        ]
        try:
            admission.admit([self.path(one) for one in batch])
        except FileNotFoundError:  # removed since; said where it is opened
            return
        self._admitted.update(batch)
        self._batch = min(2 * self._batch, LARGEST_BATCH)

    def _check_like_the_others(self, shard: int, path: Path, file: h5py.File) -> None:
        """Refuse a shard that does not say of itself what the index says of it."""
        found, index = read_shard(file), self.index
        check_same_vectors(path, found.vectors, store_path(self.store), index.vectors)
        rows = len(file["label"])
        expected = index.label_lists[index.label_list[shard]]
        if rows != index.rows[shard] or tuple(found.label_names) != expected:
            raise FileRefused(
                remade(
                    self.store,
                    int(index.piece[shard]),
                    f"{path} has other rows or classes than its receipt promises",
                )
            )

    def describe(self, shard: int) -> Shard:
        """Read what a shard says of itself."""
        with self.opened(shard) as file:
            return read_shard(file)


def check_as_promised(store: Target, piece: int, path: Path, size: int, seal: str) -> None:
    """Refuse a shard of another size or with another seal than its receipt promised.

    Raises
    ------
    FileRefused
    """
    check_size(store, piece, path, size)
    if sealed_digest(path) != seal:
        reason = f"{path} is not the shard that its receipt promises"
        raise FileRefused(remade(store, piece, reason))


def check_size(store: Target, piece: int, path: Path, size: int) -> None:
    """Refuse a shard that is not there, or of another size than its receipt promised.

    Raises
    ------
    FileRefused
    """
    try:
        found = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileRefused(remade(store, piece, f"{path} is missing")) from error
    except OSError as error:
        raise FileRefused(f"{path} cannot be read: {system_reason(error)}") from error
    if found != size:
        reason = f"{path} has {found:,} bytes, its receipt promises {size:,}"
        raise FileRefused(remade(store, piece, reason))


def remade(store: Target, piece: int, reason: str) -> str:
    """Say what is wrong with a shard, and how its piece is made anew."""
    return (
        f"{reason}: remove {piece_folder(store, piece)} and {receipt_path(store, piece)}, and run "
        f"the same `frostline extract` again, which makes piece {piece} anew"
    )


def _has_other_receipt(store: Target, piece: int, number: int, seal: str) -> bool:
    """Tell whether a piece was made again since the pieces were joined, and has other shards."""
    path = receipt_path(store, piece)
    try:
        shards = Receipt.from_json(place.read(path, MAX_BYTES), str(path)).shards
    except (FileRefused, InputError):
        return False
    return number >= len(shards) or shards[number].seal != seal


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False
