r"""Keep the vectors of texts that pieces share, a file each owner, and fetch those of a piece.

An owner writes all that others want of it, in the order of the digests, so the place of a text is
known without looking for it (`owners`). A file is::

    magic     b"frostline-shared\n"
    sizes     bytes of the description (4) | ranges (4)
    JSON      what the vectors are
    ends      where each range ends, in records (8 bytes each)
    records   CRC-32 of what follows (4) | digest (16) | tokens (4) | truncated (1) | the views

All numbers are little-endian. A piece fetches the records that it takes into a scratch file, owner
by owner, neighbours in one go, and finds them there by their digests. A record whose digest is not
the one that is wanted is refused, so no text ever gets the vector of another one.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array
from features.base.records import Records
from features.base.storage import Target
from features.errors import CannotContinue, FileRefused
from features.extraction.encoding import GivenTexts
from features.pieces.duplicates.digests import DIGEST, Digests
from features.pieces.duplicates.files import open_to_read, open_to_write, read_exactly
from features.spec.encoder_spec import EncoderSpec, listed_differences
from features.spec.vector_spec import VectorSpec

MAGIC = b"frostline-shared\n"

_SIZES = struct.Struct("<II")
_CURE = "remove it, and run the same command again"
# Records that lie no further apart are read in one go.
_GAP_BYTES = 64 * 1024
_BLOCK_BYTES = 32 * 2**20


def record_of(vectors: VectorSpec) -> np.dtype[np.void]:
    """Give the type of a record: `crc`, `digest`, `n_tokens`, `truncated` and the views."""
    return np.dtype(
        [
            ("crc", "<u4"),
            ("digest", DIGEST),
            ("n_tokens", "<i4"),
            ("truncated", "?"),
            *(
                (view, np.dtype(vectors.store_dtype).newbyteorder("<"), (width,))
                for view, width in sorted(vectors.views.items())
            ),
        ]
    )


class SharedWriter:
    """Writes the file of an owner, text by text in any order; made by `write_shared`."""

    def __init__(
        self, file: BinaryIO, vectors: VectorSpec, digests: Digests, ends: npt.NDArray[np.int64]
    ) -> None:
        self._file, self._digests = file, digests
        self._record = record_of(vectors)
        self._written = np.zeros(len(digests), np.bool_)
        described = json.dumps({**vars(vectors), "spec": vectors.spec.to_dict()}).encode()
        file.write(MAGIC + _SIZES.pack(len(described), len(ends)) + described)
        file.write(ends.astype("<i8").tobytes())
        self._start = file.tell()
        file.truncate(self._start + len(digests) * self._record.itemsize)

    def wanted(self, digests: Sequence[bytes]) -> list[bool]:
        """Tell which of these texts are to be written, and are not yet."""
        places, found = _places(self._digests, digests)
        found[found] = ~self._written[places[found]]
        return [bool(one) for one in found]

    def add(self, texts: GivenTexts) -> None:
        """Write texts, all of which are wanted."""
        places, found = _places(self._digests, texts.digests)
        assert found.all(), "they are wanted"
        records = np.zeros(len(places), self._record)
        records["digest"] = self._digests[places]
        records["n_tokens"], records["truncated"] = texts.n_tokens, texts.truncated
        for view, matrix in texts.vectors.items():
            records[view] = matrix
        records["crc"] = _crcs(records)
        for place, record in zip(places.tolist(), records, strict=True):
            self._file.seek(self._start + place * self._record.itemsize)
            self._file.write(record.tobytes())
        self._written[places] = True

    @property
    def missing(self) -> int:
        """Texts that are not written yet."""
        return int(np.count_nonzero(~self._written))


@contextmanager
def write_shared(
    target: Target, vectors: VectorSpec, digests: Digests, ends: npt.NDArray[np.int64]
) -> Iterator[SharedWriter]:
    """Write the vectors that others want of an owner; the file appears once all are there.

    Parameters
    ----------
    target : path or URL
    vectors : VectorSpec
        With the widths of the views, and a precision.
    digests : array (n,) of `DIGEST`
        The texts, in order.
    ends : int64 array (ranges,)
        Where each range ends in them.

    Raises
    ------
    CannotContinue
        Texts are missing: the input has changed since their digests were written.
    """
    with open_to_write(target) as file:
        writer = SharedWriter(file, vectors, digests, ends)
        yield writer
        if writer.missing:
            raise CannotContinue(
                f"{target} cannot be written: {writer.missing:,} texts that were in the input when "
                "its duplicates were looked for are not there any more; restore the input, or "
                "begin again in another folder"
            )


class SharedVectors:
    """The vectors that a piece takes from owners, in a scratch file; a context manager.

    Parameters
    ----------
    takes : array of `TAKE`
        What the piece takes, in the order of the digests.
    ends : int64 array (ranges,)
        Where each range ends in it.
    file_of : callable
        Gives the target of an owner's file.
    vectors : VectorSpec
        What the vectors are to be.
    scratch : Path
        Is written, and removed at the end.

    Raises
    ------
    FileRefused
        A file of an owner is damaged, or of other vectors.
    InputError, CannotContinue
    """

    def __init__(
        self,
        takes: Array,
        ends: npt.NDArray[np.int64],
        file_of: Callable[[int], Target],
        vectors: VectorSpec,
        scratch: Path,
    ) -> None:
        self._digests: Digests = np.ascontiguousarray(takes["digest"])
        self._path, self._wanted = scratch, vectors
        self._record: np.dtype[np.void] | None = None
        self._file = scratch.open("w+b")
        ranges = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
        by_owner = np.argsort(takes["owner"], kind="stable")
        owners, starts = np.unique(takes["owner"][by_owner], return_index=True)
        borders = [*starts.tolist(), len(takes)]
        try:
            for owner, (start, stop) in zip(owners.tolist(), pairwise(borders), strict=True):
                mine = by_owner[start:stop]
                self._fetch(file_of(owner), mine, ranges[mine], takes["place"][mine])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SharedVectors:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the scratch file."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def find(self, digests: Sequence[bytes]) -> GivenTexts | None:
        """Give those of these texts that the piece takes, see `Given`."""
        places, found = _places(self._digests, digests)
        if self._record is None or not found.any():
            return None
        records = Records(self._file, self._record).take(places[found])
        return GivenTexts(
            [digest for digest, there in zip(digests, found.tolist(), strict=True) if there],
            records["n_tokens"].tolist(),
            records["truncated"].tolist(),
            {view: records[view] for view in self._wanted.views},
        )

    def _fetch(
        self,
        target: Target,
        mine: npt.NDArray[np.intp],
        ranges: npt.NDArray[np.intp],
        places: npt.NDArray[np.uint32],
    ) -> None:
        """Copy the records of one owner, for the takes with these numbers."""
        with open_to_read(target) as file:
            vectors, ends = _read_head(file, target)
            self._check(vectors, target)
            self._record = record = record_of(vectors)
            starts = np.concatenate([np.zeros(1, np.int64), ends])
            if ranges[-1] >= len(ends) or (places >= np.diff(starts)[ranges]).any():
                raise _damaged(target)
            there = (starts[ranges] + places).astype(np.int64)
            start = file.tell()
            for part in _neighbours(there, record.itemsize):
                first, stop = int(there[part.start]), int(there[part.stop - 1]) + 1
                file.seek(start + first * record.itemsize)
                data = read_exactly(file, (stop - first) * record.itemsize)
                if data is None:
                    raise _damaged(target)
                records = np.frombuffer(data, record)[there[part] - first]
                if (records["crc"] != _crcs(records)).any():
                    raise _damaged(target)
                if (records["digest"] != self._digests[mine[part]]).any():
                    raise FileRefused(f"{target} holds other texts than it should: {_CURE}")
                for number, one in zip(mine[part].tolist(), records, strict=True):
                    self._file.seek(number * record.itemsize)
                    self._file.write(one.tobytes())

    def _check(self, vectors: VectorSpec, target: Target) -> None:
        """Refuse vectors of another encoder, or at another precision."""
        if differing := vectors.differences(self._wanted):
            raise FileRefused(
                f"{target} has other vectors ({listed_differences(differing)}): {_CURE}"
            )
        # From the first file on it is known how wide they are, and at what precision.
        self._wanted = vectors


def _read_head(file: BinaryIO, target: Target) -> tuple[VectorSpec, npt.NDArray[np.int64]]:
    """Read what stands before the records, and leave the file there."""
    head = read_exactly(file, len(MAGIC) + _SIZES.size)
    if head is None or not head.startswith(MAGIC):
        raise _damaged(target)
    size, n_ranges = _SIZES.unpack(head[len(MAGIC) :])
    described, ends = read_exactly(file, size), read_exactly(file, 8 * n_ranges)
    if described is None or ends is None:
        raise _damaged(target)
    try:
        fields = json.loads(described)
        vectors = VectorSpec(**{**fields, "spec": EncoderSpec.from_dict(fields["spec"])})
        record_of(vectors)
        numbers = np.frombuffer(ends, "<i8").astype(np.int64)
        if (np.diff(numbers, prepend=0) < 0).any() or numbers[-1:].sum() > file.seek(0, 2):
            raise ValueError("its ranges are not those of its records")
    except (ValueError, TypeError, KeyError, AttributeError, FileRefused) as error:
        raise _damaged(target) from error
    file.seek(len(head) + len(described) + len(ends))
    return vectors, numbers


def _neighbours(ordered: npt.NDArray[np.int64], itemsize: int) -> Iterator[slice]:
    """Cut sorted places into those that are read in one go."""
    near, most = _GAP_BYTES // itemsize + 1, max(1, _BLOCK_BYTES // itemsize)
    start = 0
    for n in range(1, len(ordered) + 1):
        if (
            n == len(ordered)
            or ordered[n] - ordered[n - 1] > near
            or ordered[n] - ordered[start] >= most
        ):
            yield slice(start, n)
            start = n


def _places(
    ordered: Digests, digests: Sequence[bytes]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Give the places of digests among sorted ones, and whether each is there."""
    wanted = np.frombuffer(b"".join(digests), DIGEST)
    places = np.searchsorted(ordered, wanted)
    found = places < len(ordered)
    found[found] = ordered[places[found]] == wanted[found]
    return places, found


def _crcs(records: Array) -> npt.NDArray[np.uint32]:
    """Compute the CRC of each record, over all that stands behind it."""
    return np.array([zlib.crc32(record.tobytes()[4:]) for record in records], np.uint32)


def _damaged(target: Target) -> FileRefused:
    return FileRefused(f"{target} is damaged, or was not written by frostline: {_CURE}")
