"""Open the shards of a store: those of files and plain folders all at once, others when needed.

In come paths, out come `Shards`: what all shards say together, and each one as an open HDF5 file.
A plain folder of shards is open as it was at one moment, whatever a writer does meanwhile. The
shards of a joined store (`features/store/joined/`) can be too many for that; its index says what is
in them. Writes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, Protocol

import h5py

from features.base import storage
from features.base.remote.copies import here
from features.base.storage import Target
from features.errors import FileRefused, InputError
from features.spec.vector_spec import VectorSpec
from features.store import admission
from features.store.format import Shard, ShardRows, check_same_vectors, read_shard
from features.store.joined import place
from features.store.joined.index import MAX_BYTES, Index
from features.store.joined.join import survey
from features.store.joined.layout import order_path, store_path
from features.store.joined.order import read_order
from features.store.joined.shard_files import ShardFiles
from features.store.shard_folder import check_whole, in_order


class Shards(Protocol):
    """The shards of a store, in the order of their rows.

    Attributes
    ----------
    sources : list of path or URL
        What opens the same shards again: files, and the folders or URLs of joined stores.
    vectors : VectorSpec
        Of all of them.
    provenance : list of mappings
        Where the rows come from, one for each shard, or one for all of a joined store.
    rows : ShardRows
    label_rows : tuple of int or None
        Rows of each class, where that is known without reading them.
    n_pieces : int or None
        Of a joined store.
    """

    sources: list[Target]
    vectors: VectorSpec
    provenance: list[Mapping[str, Any]]
    rows: ShardRows
    label_rows: tuple[int, ...] | None
    n_pieces: int | None

    @property
    def paths(self) -> list[Path]:
        """The files of all shards."""

    @property
    def is_closed(self) -> bool:
        """Whether files are closed."""

    def __len__(self) -> int: ...

    def opened(self, shard: int) -> AbstractContextManager[h5py.File]:
        """Give a shard as an open file, which stays open inside."""

    def path(self, shard: int) -> Path:
        """Give the path of a shard."""

    def describe(self, shard: int) -> Shard:
        """Give what a shard says of itself."""

    def close(self) -> None:
        """Close all files."""


def open_shards(path: str | Path | Sequence[str | Path]) -> Shards:
    """Open a file, a folder, or files and joined stores one behind the other.

    Raises
    ------
    InputError
        There is no such file.
    FileRefused
        A file is not a feature file or is damaged, a store is not whole, or the shards don't belong
        together.
    """
    paths = list(map(place.whole_name, [path] if isinstance(path, str | Path) else path))
    if not any(map(place.is_in_pieces, paths)):
        return OpenShards(here(path) if isinstance(path, str | Path) else list(map(here, paths)))
    with ExitStack() as undo:
        parts: list[Shards] = []
        for in_pieces, some in groupby(paths, place.is_in_pieces):
            group = list(some)
            files = [] if in_pieces else [OpenShards(list(map(here, group)))]
            for part in map(_open_joined, group) if in_pieces else files:
                undo.callback(part.close)
                parts.append(part)
        shards = parts[0] if len(parts) == 1 else OneBehindTheOther(parts)
        undo.pop_all()
    return shards


def _open_joined(folder: Target) -> ShardFiles:
    """Open a store that is made in pieces, by its index."""
    path = store_path(folder)
    if not storage.exists(path):
        found = survey(folder)
        if found.missing:
            raise FileRefused(found.lacking(folder))
        raise FileRefused(
            f"{folder} has all of its {found.order.pieces:,} pieces, but they are not joined yet: "
            f"`frostline verify {folder}` joins them"
        )
    index = Index.from_json(place.read(path, MAX_BYTES), str(path))
    if storage.exists(order_path(folder)) and read_order(folder).digest != index.order:
        raise FileRefused(
            f"{path} is of another order than {order_path(folder)}: `frostline verify {folder}` "
            "makes it again"
        )
    return ShardFiles(folder, index)


class OpenShards:
    """Shards in files that are all open, from the first moment to `close`; see `Shards`."""

    label_rows: tuple[int, ...] | None = None
    n_pieces: int | None = None

    def __init__(self, path: str | Path | Sequence[str | Path]) -> None:
        self._files: list[h5py.File] = []
        with ExitStack() as undo:
            undo.callback(self.close)
            self.paths = self._open_all(path)
            self._described = [read_shard(file) for file in self._files]
            first = self._described[0]
            for shard_path, shard in zip(self.paths[1:], self._described[1:], strict=True):
                check_same_vectors(shard_path, shard.vectors, self.paths[0], first.vectors)
            rows = [len(file["label"]) for file in self._files]
            if isinstance(path, str | Path) and Path(path).is_dir():
                check_whole(Path(path), self.paths, [one.part for one in self._described], rows)
            undo.pop_all()
        self.sources: list[Target] = list(self.paths)
        self.vectors = first.vectors
        self.provenance = [shard.provenance for shard in self._described]
        self.rows = ShardRows.of(rows, [shard.label_names for shard in self._described])

    def _open_all(self, path: str | Path | Sequence[str | Path]) -> list[Path]:
        """Open the files as they were at one moment, whatever a writer does meanwhile."""
        for _ in range(admission.TRIES):
            paths = _shard_paths(path)
            try:
                admission.admit(paths)  # one child for all of them
                for shard_path in paths:
                    self._files.append(admission.open_admitted(shard_path))
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

    def __len__(self) -> int:
        return len(self._files)

    def __str__(self) -> str:
        return str(self.paths[0]) if len(self) == 1 else f"{self.paths[0].parent} (shards)"

    @property
    def is_closed(self) -> bool:
        """Whether its files are closed."""
        return not all(self._files)

    def path(self, shard: int) -> Path:
        """Give the path of a shard."""
        return self.paths[shard]

    def opened(self, shard: int) -> AbstractContextManager[h5py.File]:
        """Give a shard as an open file."""
        return nullcontext(self._files[shard])

    def describe(self, shard: int) -> Shard:
        """Give what a shard says of itself."""
        return self._described[shard]

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()


class OneBehindTheOther:
    """The shards of several stores in one row, those of a joined store among them; see `Shards`."""

    label_rows: tuple[int, ...] | None = None
    n_pieces: int | None = None

    def __init__(self, parts: Sequence[Shards]) -> None:
        self._parts = parts
        self._starts = [0, *accumulate(map(len, parts))]
        first = parts[0]
        for part in parts[1:]:
            check_same_vectors(part.path(0), part.vectors, first.path(0), first.vectors)
        self.sources = [source for part in parts for source in part.sources]
        self.vectors = first.vectors
        self.provenance = [one for part in parts for one in part.provenance]
        self.rows = ShardRows.of(
            [int(count) for part in parts for count in part.rows.counts],
            [
                part.rows.label_lists[number]
                for part in parts
                for number in part.rows.label_list.tolist()
            ],
        )

    def __len__(self) -> int:
        return self._starts[-1]

    def __str__(self) -> str:
        return " + ".join(map(str, self._parts))

    @property
    def paths(self) -> list[Path]:
        """The files of all shards."""
        return [path for part in self._parts for path in part.paths]

    @property
    def is_closed(self) -> bool:
        """Whether files are closed."""
        return any(part.is_closed for part in self._parts)

    def path(self, shard: int) -> Path:
        """Give the path of a shard."""
        part, number = self._find(shard)
        return part.path(number)

    def opened(self, shard: int) -> AbstractContextManager[h5py.File]:
        """Give a shard as an open file, which stays open inside."""
        part, number = self._find(shard)
        return part.opened(number)

    def describe(self, shard: int) -> Shard:
        """Give what a shard says of itself."""
        part, number = self._find(shard)
        return part.describe(number)

    def close(self) -> None:
        """Close all files."""
        for part in self._parts:
            part.close()

    def _find(self, shard: int) -> tuple[Shards, int]:
        number = bisect_right(self._starts, shard) - 1
        return self._parts[number], shard - self._starts[number]


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
