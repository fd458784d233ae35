"""The HDF5 layout: what stage one hands to stage two. No torch.

A shard is one immutable HDF5 file; a store is one shard, a list of them or a folder of them, read
as one. Row i of every dataset is row i of the input::

    tweets.h5
    ├── <view>        (N, D)  float16 | float32   one dataset a view, named by its pooling
    ├── id            (N,)    UTF-8, fixed width  as in the input, else its row number
    ├── label         (N,)    int32               index into `label_names`; -1: no label
    ├── digest        (N, 16) uint8               BLAKE2b-128 of the normalised text
    ├── n_tokens      (N,)    int32               special tokens included, after truncation
    ├── flags         (N,)    uint8               1 truncated | 2 empty | 4 repaired
    └── attributes
        ├── format        "frostline-features"
        ├── version       1
        ├── views         JSON list of the views' names
        ├── label_names   JSON list
        ├── spec          JSON, the whole `EncoderSpec`
        ├── fingerprint   SHA-256 of the spec
        ├── precision     "float32" | "half" | "int8"   of the forward pass
        ├── provenance    JSON: versions, device, dtype, digest of the input
        └── part          JSON, which shard of a folder it is (`features/parts.py`); not in a single file

Every dataset is chunked by rows (views at about half a MiB) and carries fletcher32 checksums, HDF5
keeps one over each of its own structures, and behind it all lies a seal, a digest of every bit before it
(`features/seal.py`), which HDF5 does not read. There are no object or variable-length types, links,
external or virtual datasets; a file that has some, or anything else, is refused
(`features/strict.py`), by a child process (`features/quarantine.py`). In plain h5py::

    import h5py
    with h5py.File("tweets.h5") as f:
        X, y = f["mean@last4+sum"][:], f["label"][:]

To change the layout, raise `VERSION`, keep reading the versions before it, and add a file of the old
version to the tests.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from features import disk, quarantine
from features.errors import CannotContinue, FileRefused, InputError, first_line
from features.formats import shown
from features.parts import Part, check_whole, in_order
from features.pooling import parse_pooling
from features.seal import seal
from features.spec import EncoderSpec
from features.strict import check_dataset, damage_refused, read_attribute

FORMAT = "frostline-features"
VERSION = 1
TRUNCATED, EMPTY, REPAIRED = 1, 2, 4
DIGEST_BYTES = 16
SIGNATURE = b"\x89HDF\r\n\x1a\n"  # how an HDF5 file begins

# Bytes of a chunk of a view: small enough to read a few rows, large enough to stream.
_CHUNK_BYTES = 512 * 1024
_BLOCK_BYTES = 32 * 2**20
_BLOCK_ROWS = 65_536  # rows of a few bytes become Python objects of a hundred
# An HDF5 attribute holds at most 64 KiB.
_MAX_ATTRIBUTE = 60_000

# How often a file is opened again that was replaced at the very moment.
_TRIES = 20

# The types that a dataset may have, each with its number of dimensions.
COLUMNS = {
    "label": {"int32": 1},
    "id": {"S": 1},
    "digest": {"uint8": 2},
    "n_tokens": {"int32": 1},
    "flags": {"uint8": 1},
}
VIEW_TYPES = {"float16": 2, "float32": 2}
PRECISIONS = ("float32", "half", "int8")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Shard:
    """What a shard says about itself, besides its rows."""

    spec: EncoderSpec
    views: Mapping[str, int]
    label_names: Sequence[str]
    precision: str
    store_dtype: str
    provenance: Mapping[str, Any]
    part: Part | None = None

    @property
    def datasets(self) -> set[str]:
        """The names of its datasets."""
        return {*COLUMNS, *self.views}


def write_shard(
    path: Path,
    shard: Shard,
    *,
    n_rows: int,
    id_bytes: int,
    rows_of: Callable[[str, slice], Array],
) -> None:
    """Write a whole shard to a new file in bounded memory, sync it, read it back, compare and seal it.

    Parameters
    ----------
    path : Path
        Must not exist; the caller renames it to its final name (`features/building.py`).
    shard : Shard
        The attributes.
    n_rows, id_bytes : int
        N, and the bytes of the longest id.
    rows_of : callable
        ``rows_of(name, rows)`` gives a slice of a dataset; called in order, dataset by dataset.

    Raises
    ------
    OSError
        It could not be written.
    CannotContinue
        What comes back from the disk is not what was written.
    """
    layout: dict[str, tuple[Any, tuple[int, ...]]] = {
        "id": (h5py.string_dtype("utf-8", max(1, id_bytes)), ()),
        "label": (np.int32, ()),
        "digest": (np.uint8, (DIGEST_BYTES,)),
        "n_tokens": (np.int32, ()),
        "flags": (np.uint8, ()),
    }
    for view, width in shard.views.items():
        layout[view] = (np.dtype(shard.store_dtype), (width,))
    sums = dict.fromkeys(layout, 0)
    with (
        _ErrorsLater(path) as target,
        h5py.File(target, "w", libver=("v110", "v110")) as file,
    ):
        for name, text in _attributes(shard).items():
            file.attrs[name] = _fixed_width(text) if isinstance(text, str) else text
        for name, (dtype, tail) in layout.items():
            row_bytes = np.dtype(dtype).itemsize * math.prod(tail)
            chunk = max(1, min(n_rows, _CHUNK_BYTES // row_bytes))
            dataset = file.create_dataset(
                name, (n_rows, *tail), dtype, chunks=(chunk, *tail), fletcher32=True
            )
            for rows in _row_slices(n_rows, row_bytes, _BLOCK_BYTES):
                # With the dtype, because h5py tells UTF-8 from ASCII by what is attached to it.
                values = rows_of(name, rows).astype(dtype)
                dataset[rows] = values
                sums[name] = zlib.crc32(np.ascontiguousarray(values).data, sums[name])
    _check_written(path, layout, n_rows, sums)
    seal(path)
    quarantine.vouch(path)


def _check_written(
    path: Path, layout: Mapping[str, Any], n_rows: int, sums: Mapping[str, int]
) -> None:
    """Compare what is on the disk with the checksums of what was to be there."""
    if hasattr(os, "posix_fadvise"):  # from the disk, not from memory
        with path.open("rb") as written:
            os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        with open_file(path) as file:
            for name, (dtype, tail) in layout.items():
                found = 0
                row_bytes = np.dtype(dtype).itemsize * math.prod(tail)
                for rows in _row_slices(n_rows, row_bytes, _BLOCK_BYTES):
                    found = zlib.crc32(np.ascontiguousarray(_read(file, name, rows)).data, found)
                if found != sums[name]:
                    raise FileRefused(f"{name!r} is not as it was written")
    except FileRefused as error:
        raise CannotContinue(
            f"{path}: the disk does not give back what was written to it ({error}); it may be failing"
        ) from error


class _ErrorsLater:
    """A new file that keeps the first error of a write until it is closed, which syncs it.

    HDF5 does not survive a failing write: it raises something else, then crashes when it closes. So it
    is told that all went well, and the error comes out behind it; Ctrl-C is no other error here.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("x+b", buffering=0)
        self._error: BaseException | None = None

    def __enter__(self) -> _ErrorsLater:
        return self

    def __exit__(self, *exception: object) -> None:
        self._try(disk.sync, self._file.fileno())
        self._file.close()
        if self._error is not None:
            raise self._error

    def _try(self, operation: Callable[..., object], *arguments: object) -> None:
        if self._error is None:
            try:
                operation(*arguments)
            except BaseException as error:
                self._error = error

    def write(self, data: bytes) -> int:
        self._try(disk.write, self._file.fileno(), data)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        self._try(disk.truncate, self._file.fileno(), self.tell() if size is None else size)
        return self.tell() if size is None else size

    def flush(self) -> None:
        """Nothing waits in memory."""

    def seek(self, offset: int, whence: int = 0) -> int:
        self._try(self._file.seek, offset, whence)
        return self.tell()

    def tell(self) -> int:
        return 0 if self._error else self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return b"" if self._error else self._file.read(size)

    def readinto(self, buffer: bytearray) -> int:
        return 0 if self._error else self._file.readinto(buffer)


def _fixed_width(text: str) -> Array:
    """As an attribute inside of the root's header, under its checksum: other texts lie where none is."""
    data = text.encode()
    return np.array(data, h5py.string_dtype("utf-8", len(data)))


def _attributes(shard: Shard) -> dict[str, str | int]:
    label_names = json.dumps(list(shard.label_names), ensure_ascii=False)
    if len(label_names.encode()) > _MAX_ATTRIBUTE:
        raise InputError(
            f"the labels have {len(shard.label_names)} different values, e.g. "
            f"{', '.join(map(shown, shard.label_names[:3]))}: too many or too long for classes; choose "
            "another --label-column"
        )
    return {
        "format": FORMAT,
        "version": VERSION,
        "views": json.dumps(list(shard.views)),
        "label_names": label_names,
        "spec": json.dumps(shard.spec.to_dict()),
        "fingerprint": shard.spec.fingerprint,
        "precision": shard.precision,
        "provenance": json.dumps(shard.provenance),
        **({} if shard.part is None else {"part": shard.part.to_json()}),
    }


def _row_slices(n_rows: int, row_bytes: int, block_bytes: int, first: int = 0) -> Iterator[slice]:
    """Cut the rows into blocks of whole chunks, at least one: so many bytes, `_BLOCK_ROWS` at most.

    The one that holds the first row that is wanted begins with it.
    """
    chunk = max(1, _CHUNK_BYTES // row_bytes)
    step = max(chunk, min(block_bytes // row_bytes, _BLOCK_ROWS) // chunk * chunk)
    for start in range(first - first % step, n_rows, step):
        yield slice(max(first, start), min(start + step, n_rows))


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
                check_same_encoder(shard_path, shard, self.paths[0], first)
            rows = [len(file["label"]) for file in self._files]
            if isinstance(path, str | Path) and Path(path).is_dir():
                check_whole(Path(path), self.paths, [shard.part for shard in shards], rows)
            undo.pop_all()
        self.shards = shards
        self.spec = first.spec
        self.views = dict(first.views)
        self.precision = first.precision
        self.store_dtype = first.store_dtype
        self.provenance = [shard.provenance for shard in shards]
        names = {name for shard in shards for name in shard.label_names}
        # Shards that agree keep the order of their names, which a mapping may have given.
        agree = all(shard.label_names == first.label_names for shard in shards)
        self.label_names = list(first.label_names) if agree else sort_labels(names)
        self._codes = [_recoded(shard.label_names, self.label_names) for shard in shards]
        self._starts = np.cumsum([0, *rows])
        self.n_rows = int(self._starts[-1])

    def _open_all(self, path: str | Path | Sequence[str | Path]) -> list[Path]:
        """Open the files as they were at one moment, whatever a writer does meanwhile."""
        for _ in range(_TRIES):
            paths = _shard_paths(path)
            try:
                quarantine.admit(paths)  # one child for all of them
                for shard_path in paths:
                    self._files.append(_open(shard_path))
                if len(paths) == 1 or (
                    _shard_paths(path) == paths
                    and [quarantine.identity(shard_path) for shard_path in paths]
                    == [quarantine.identity(file.id.get_vfd_handle()) for file in self._files]
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

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the encoder."""
        return self.spec.fingerprint

    def choose_views(self, asked: Sequence[str] | None) -> list[str]:
        """Give the canonical names of the views that were asked for; without, the only one there is.

        Raises
        ------
        InputError
            A view is not there, or several are and none was named.
        """
        there = ", ".join(self.views)
        if not asked:
            if len(self.views) > 1:
                raise InputError(f"{self} holds several views: {there}; choose with --pooling")
            return list(self.views)
        names = [parse_pooling(text).name for text in asked]
        for name in names:
            if name not in self.views:
                raise InputError(f"{self} holds no view {name!r}; it holds: {there}")
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
        block_bytes: int | None = None,
        start: int = 0,
    ) -> Iterator[tuple[int, Array]]:
        """Iterate over (number of the first row, block of rows) in bounded memory, from a row on.

        `dtype` is that of the blocks; `store_dtype` leaves the vectors as they are. Blocks are of
        about 32 MiB as float32, where nothing else is said.
        """
        names = [views] if isinstance(views, str) else list(views)
        row_bytes = sum(self.views[name] for name in names) * 4
        for offset, file in zip(self._starts[:-1], self._files, strict=True):
            n_rows = len(file["label"])
            first = max(0, start - int(offset))
            if first >= n_rows:
                continue
            for rows in _row_slices(n_rows, row_bytes, block_bytes or _BLOCK_BYTES, first):
                parts = [_read(file, name, rows).astype(dtype, copy=False) for name in names]
                yield int(offset) + rows.start, parts[0] if len(parts) == 1 else np.hstack(parts)

    def take(self, view: str, rows: npt.NDArray[np.int64]) -> Array:
        """Read vectors of single rows as they are stored; `rows` ascend. Each chunk is read once."""
        vectors = np.empty((len(rows), self.views[view]), self.store_dtype)
        for offset, end, file in zip(self._starts[:-1], self._starts[1:], self._files, strict=True):
            low, high = np.searchsorted(rows, [offset, end])
            wanted = rows[low:high] - offset
            chunks = wanted // file[view].chunks[0]
            for start, stop in pairwise([0, *np.flatnonzero(np.diff(chunks)) + 1, len(wanted)]):
                if start < stop:
                    some = wanted[start:stop]
                    block = _read(file, view, slice(int(some[0]), int(some[-1]) + 1))
                    vectors[low + start : low + stop] = block[some - some[0]]
        return vectors

    def labels(self) -> npt.NDArray[np.int32]:
        """Codes into `label_names`, (N,); -1 where there is no label."""
        parts = []
        for path, file, codes in zip(self.paths, self._files, self._codes, strict=True):
            part = _read(file, "label")
            if part.size and not -1 <= part.min() <= part.max() < len(codes) - 1:
                raise FileRefused(f"{path}: it has labels that are not among its label names")
            parts.append(codes[part])
        return np.concatenate(parts)

    def ids(self, rows: slice = slice(None)) -> list[str]:
        """Ids as in the input."""
        return [bytes(value).decode("utf-8", "replace") for value in self.column("id", rows)]

    def digests(self, rows: slice = slice(None)) -> npt.NDArray[np.uint8]:
        """BLAKE2b-128 of the normalised texts, (N, 16)."""
        return self.column("digest", rows)

    def n_tokens(self, rows: slice = slice(None)) -> npt.NDArray[np.int32]:
        """Tokens of each text, (N,)."""
        return self.column("n_tokens", rows)

    def flags(self, rows: slice = slice(None)) -> npt.NDArray[np.uint8]:
        """Sums of `TRUNCATED`, `EMPTY` and `REPAIRED`, (N,)."""
        return self.column("flags", rows)

    def column(self, name: str, rows: slice = slice(None)) -> Array:
        """Read one of `COLUMNS` as it is stored."""
        start, stop, _ = rows.indices(self.n_rows)
        parts: list[Array] = []
        for offset, file in zip(self._starts[:-1], self._files, strict=True):
            low, high = max(start - offset, 0), min(stop - offset, len(file["label"]))
            if low < high or not parts:
                parts.append(_read(file, name, slice(low, max(low, high))))
        return np.concatenate(parts)

    def __str__(self) -> str:
        return str(self.paths[0]) if len(self.paths) == 1 else f"{self.paths[0].parent} (shards)"


def sort_labels(names: set[str]) -> list[str]:
    """Order class names: numbers by value, then texts."""
    return sorted(
        names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
    )


def _recoded(names: Sequence[str], among: Sequence[str]) -> npt.NDArray[np.int32]:
    """Translate a shard's label codes; the last entry keeps -1, which counts from the end."""
    return np.array([*(among.index(name) for name in names), -1], dtype=np.int32)


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
        admitted = quarantine.admit([path])
        file = open_file(path)
        if [quarantine.identity(file.id.get_vfd_handle())] == admitted:
            return file
        file.close()
    raise FileRefused(f"{path} changes again and again while it is opened")


def open_file(path: Path) -> h5py.File:
    """Open a file as it is; for strangers' files only in a child (`features/quarantine.py`)."""
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise FileRefused(
            f"{path} is not a readable HDF5 file: {first_line(error)}; feature files are made by "
            "`frostline extract`"
        ) from error


def read_shard(file: h5py.File) -> Shard:
    """Read and check the attributes and the shapes."""
    path = file.filename
    if read_attribute(file, "format") != FORMAT:
        raise FileRefused(f"{path} is an HDF5 file, but not one of frostline's feature files")
    version = read_attribute(file, "version")
    if version != VERSION:
        raise FileRefused(
            f"{path} has version {version}; this frostline reads {VERSION}; update it"
        )
    texts = {
        name: str(read_attribute(file, name))
        for name in ("spec", "views", "label_names", "provenance", "precision", "fingerprint")
    }
    try:
        spec = EncoderSpec.from_dict(json.loads(texts["spec"]))
        views = [str(name) for name in json.loads(texts["views"])]
        label_names = [str(name) for name in json.loads(texts["label_names"])]
        provenance = json.loads(texts["provenance"])
        said = read_attribute(file, "part")
        part = None if said is None else Part.from_json(str(said))
        precision = texts["precision"]
        if precision not in PRECISIONS or not isinstance(provenance, dict):
            raise ValueError(f"precision is {precision!r}")
        if (precision == "int8") != (spec.quantization != "none"):
            raise ValueError(f"precision is {precision!r}, quantization {spec.quantization!r}")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FileRefused(f"{path}: its attributes are damaged: {first_line(error)}") from error
    fingerprint = texts["fingerprint"]
    if fingerprint != spec.fingerprint:
        raise FileRefused(
            f"{path}: its fingerprint {fingerprint[:12]} is not that of its spec, "
            f"{spec.fingerprint[:12]}; the file was altered"
        )
    for name, dtypes in {**COLUMNS, **dict.fromkeys(views, VIEW_TYPES)}.items():
        check_dataset(file, name, dtypes)
    if file["digest"].shape[1] != DIGEST_BYTES:
        raise FileRefused(
            f"{path}: its digests have {file['digest'].shape[1]} bytes, not {DIGEST_BYTES}"
        )
    stored = {file[name].dtype.name for name in views}
    if len(stored) != 1:
        raise FileRefused(f"{path}: its views are of several types: {', '.join(sorted(stored))}")
    return Shard(
        spec,
        {name: int(file[name].shape[1]) for name in views},
        label_names,
        texts["precision"],
        stored.pop(),
        provenance,
        part,
    )


def check_same_encoder(path: Path, shard: Shard, first_path: Path, first: Shard) -> None:
    """Refuse a shard whose vectors are not those of another one."""
    differing = shard.spec.differences(first.spec)
    if dict(shard.views) != dict(first.views):
        differing.append(f"views: {', '.join(shard.views)} here, {', '.join(first.views)} there")
    for name in ("precision", "store_dtype"):
        here, there = getattr(shard, name), getattr(first, name)
        if here != there:
            differing.append(f"{name}: {here} here, {there} there")
    if differing:
        raise FileRefused(f"{path} and {first_path} don't belong together: {'; '.join(differing)}")


def _read(file: h5py.File, name: str, rows: slice = slice(None)) -> Array:
    with damage_refused(file, name):
        return np.asarray(file[name][rows])
