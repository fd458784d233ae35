"""Define the HDF5 layout of a shard: what stage one hands to stage two. No torch.

A shard is one immutable HDF5 file, written by `features/store/writer.py` and read, alone or as one
with others, by `features/store/reader.py`. Row i of every dataset is row i of the input::

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
        └── part          JSON, which shard of a folder it is, see `shard_folder`; not in a file

Every dataset is chunked by rows (views at about half a MiB) and carries fletcher32 checksums, HDF5
keeps one over each of its own structures, and behind it all lies a seal, a digest of every bit
before it (`features/store/checksum.py`), which HDF5 does not read. There are no object or
variable-length types, links, external or virtual datasets; a file that has some, or anything else,
is refused (`features/store/structure.py`), by a child process (`features/store/admission.py`). In
plain h5py::

    import h5py
    with h5py.File("tweets.h5") as f:
        X, y = f["mean@last4+concat"][:], f["label"][:]

To change the layout, raise `VERSION`, keep reading the versions before it, and add a file of the
old version to the tests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from features.base.arrays import Array
from features.base.shown import shown
from features.base.storage import Target
from features.errors import FileRefused, InputError, first_line
from features.spec.encoder_spec import EncoderSpec, listed_differences
from features.spec.vector_spec import PRECISIONS, STORE_DTYPES, VectorSpec
from features.store.shard_folder import Part
from features.store.structure import check_dataset, damage_refused, read_attribute

FORMAT = "frostline-features"
VERSION = 1
TRUNCATED, EMPTY, REPAIRED = 1, 2, 4
DIGEST_BYTES = 16
SIGNATURE = b"\x89HDF\r\n\x1a\n"  # how an HDF5 file begins

# Bytes of a chunk of a view: small enough to read a few rows, large enough to stream.
CHUNK_BYTES = 512 * 1024
BLOCK_BYTES = 32 * 2**20
_BLOCK_ROWS = 65_536  # rows of a few bytes become Python objects of a hundred
# An HDF5 attribute holds at most 64 KiB.
_MAX_ATTRIBUTE = 60_000

# The types that a dataset may have, each with its number of dimensions.
COLUMNS = {
    "label": {"int32": 1},
    "id": {"S": 1},
    "digest": {"uint8": 2},
    "n_tokens": {"int32": 1},
    "flags": {"uint8": 1},
}
VIEW_TYPES = dict.fromkeys(STORE_DTYPES, 2)


@dataclass(frozen=True)
class Shard:
    """The description of a shard: all that it says besides its rows."""

    vectors: VectorSpec
    label_names: Sequence[str]
    provenance: Mapping[str, Any]
    part: Part | None = None

    @property
    def datasets(self) -> set[str]:
        """The names of its datasets."""
        return {*COLUMNS, *self.vectors.views}


@dataclass(frozen=True, eq=False)
class ShardRows:
    """The rows and classes of S shards that are read as one.

    Attributes
    ----------
    counts : int array (S,)
        Rows of each shard.
    label_lists : sequence of sequences of str
        The classes of shards, each such list once.
    label_list : int array (S,)
        Which of these each shard has.
    """

    counts: npt.NDArray[np.int64]
    label_lists: Sequence[Sequence[str]]
    label_list: npt.NDArray[np.int64]

    @classmethod
    def of(cls, counts: Sequence[int], label_names: Sequence[Sequence[str]]) -> ShardRows:
        """Make it of the rows and the classes of each shard."""
        lists = {tuple(names): None for names in label_names}
        places = {names: place for place, names in enumerate(lists)}
        of_shard = [places[tuple(names)] for names in label_names]
        return cls(np.array(counts, np.int64), list(lists), np.array(of_shard, np.int64))


def attributes(shard: Shard) -> dict[str, str | int]:
    """Give what a shard says of itself, as HDF5 attributes."""
    label_names = json.dumps(list(shard.label_names), ensure_ascii=False)
    if len(label_names.encode()) > _MAX_ATTRIBUTE:
        raise InputError(
            f"the labels have {len(shard.label_names)} different values, e.g. "
            f"{', '.join(map(shown, shard.label_names[:3]))}: too many or too long for classes; "
            "choose another `label_column`"
        )
    vectors = shard.vectors
    return {
        "format": FORMAT,
        "version": VERSION,
        "views": json.dumps(list(vectors.views)),
        "label_names": label_names,
        "spec": json.dumps(vectors.spec.to_dict()),
        "fingerprint": vectors.spec.fingerprint,
        "precision": str(vectors.precision),
        "provenance": json.dumps(shard.provenance),
        **({} if shard.part is None else {"part": shard.part.to_json()}),
    }


def text_digest(text: str) -> bytes:
    """Identify a normalised text: BLAKE2b-128 of its UTF-8."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def chunk_rows(row_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Count the rows of a chunk of a dataset, at least one."""
    return max(1, chunk_bytes // row_bytes)


def row_slices(
    n_rows: int,
    row_bytes: int,
    block_bytes: int = BLOCK_BYTES,
    chunk_bytes: int = CHUNK_BYTES,
    first: int = 0,
) -> Iterator[slice]:
    """Cut the rows into blocks of complete chunks, each of about `block_bytes`.

    A block has at least one chunk, and `_BLOCK_ROWS` at most. The block that holds the first row
    that is wanted begins with it.
    """
    chunk = chunk_rows(row_bytes, chunk_bytes)
    step = max(chunk, min(block_bytes // row_bytes, _BLOCK_ROWS) // chunk * chunk)
    for start in range(first - first % step, n_rows, step):
        yield slice(max(first, start), min(start + step, n_rows))


def label_recoding(names: Sequence[str], among: Sequence[str]) -> npt.NDArray[np.int32]:
    """Translate codes of label names into codes among others.

    The last entry keeps -1, for no label, which counts from the end.

    Examples
    --------
    >>> label_recoding(["no", "yes"], among=["maybe", "no", "yes"])[[0, 1, -1]].tolist()
    [1, 2, -1]
    """
    return np.array([*(among.index(name) for name in names), -1], np.int32)


def sort_labels(names: set[str]) -> list[str]:
    """Order class names: numbers by value, then texts."""
    return sorted(
        names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
    )


def labels_of_all(lists: Collection[Sequence[str]]) -> list[str]:
    """Give the classes of shards together: those that agree keep their order, which may be given.

    Examples
    --------
    >>> labels_of_all([("yes", "no"), ("yes", "no")]), labels_of_all([("yes", "no"), ("no",)])
    (['yes', 'no'], ['no', 'yes'])
    """
    different = {tuple(names) for names in lists}
    if len(different) == 1:
        return list(different.pop())
    return sort_labels({name for names in different for name in names})


def open_file(path: Path) -> h5py.File:
    """Open a file as it is: one of strangers only in a child (`features/store/admission.py`)."""
    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:  # its reader has looked before
        raise FileRefused(
            f"{path} is not there any more; leave feature files in their place until the run that "
            "reads them has ended"
        ) from error
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
        place = read_attribute(file, "part")
        part = None if place is None else Part.from_json(str(place))
        precision = texts["precision"]
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}")
        check_provenance(provenance)
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
    widths = {name: int(file[name].shape[1]) for name in views}
    vectors = VectorSpec(spec, widths, precision, stored.pop())
    return Shard(vectors, label_names, provenance, part)


def check_provenance(content: Any) -> None:
    """Refuse what can't be shown as the provenance of a shard, by a ValueError."""
    if not isinstance(content, dict):
        raise ValueError("its provenance is not an object")
    for name, kind in (("inputs", list), ("versions", dict)):
        if not isinstance(content.get(name, kind()), kind):
            raise ValueError(f"{name} of its provenance is of another type")


def check_same_vectors(
    path: Target, vectors: VectorSpec, first_path: Target, first: VectorSpec
) -> None:
    """Refuse a shard whose vectors are not those of another one."""
    if differing := vectors.differences(first):
        found = listed_differences(differing)
        cure = "extract one of the two again, as the other one was"
        if any(difference.field == "precision" for difference in differing):
            # It is the one setting that nobody need have given.
            cure += "; `dtype` says the precision, and 'auto' takes the fastest that it measures"
        raise FileRefused(f"{path} and {first_path} don't belong together: {found}; {cure}")


def read_rows(file: h5py.File, name: str, rows: slice = slice(None)) -> Array:
    """Read a slice of a dataset.

    Raises
    ------
    FileRefused
        Its checksum is wrong.
    """
    with damage_refused(file, name):
        return np.asarray(file[name][rows])
