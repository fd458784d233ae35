"""Keep the vectors of a run in a journal, batch by batch, so that it goes on if it dies.

The journal of `tweets.h5` is `.tweets.h5.journal` beside it, an append-only file::

    owner     128 bytes: `MAGIC`, the process that writes, blanks
    record    CRC-32 of what follows (4 bytes) | kind (4) | length (8) | content
      1       JSON: what the vectors are, see `Header`; the first one
      2       a batch: n (4) | digests (n, 16) | finite (n,) | one (n, D) matrix a view, by name

All numbers are little-endian. Records are read up to the first broken one, and the file is cut
there: a killed run loses what it was writing, no more. Appended records are synced within
`SYNC_SECONDS`, by a thread, as the model should not wait for the disk. While a process has the
journal open it holds its lock, so no second one writes to the same output. It does not know about
rows, labels or HDF5.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import struct
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from features.backends.choice import Choice
from features.base import disk
from features.base.arrays import Floating
from features.base.paths import journal_path
from features.base.records import runs
from features.errors import CannotContinue, FileRefused, first_line
from features.spec.encoder_spec import EncoderSpec
from features.spec.vector_spec import VectorSpec
from features.store.format import DIGEST_BYTES

VERSION = 1
MAGIC = b"frostline-journal\n"
OWNER_BYTES = 128
SYNC_SECONDS = 5.0

# Where a text's vectors are: the offset of its batch's matrices, the batch's size, its row there.
PLACE = np.dtype([("start", "<i8"), ("size", "<i4"), ("row", "<i4"), ("finite", "?")])
Places = npt.NDArray[Any]

_FRAME = struct.Struct("<IIQ")
_CRC_BYTES = 4
_HEADER, _BATCH = 1, 2
# What `flock` says where a file system has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True)
class Header:
    """The description of the vectors of a journal, and of what makes them.

    Attributes
    ----------
    vectors : VectorSpec
    dtype : str
        That of the forward pass.
    choice : Choice, optional
        What ran the model, so that the run goes on with the same; early journals don't have it.
    """

    vectors: VectorSpec
    dtype: str
    choice: Choice | None = None

    def to_json(self) -> bytes:
        """Give the content of the record."""
        content = {
            **vars(self.vectors),
            "spec": self.vectors.spec.to_dict(),
            "dtype": self.dtype,
            "choice": None if self.choice is None else self.choice.to_dict(),
            "version": VERSION,
        }
        return json.dumps(content, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Header:
        """Read what `to_json` wrote; a ValueError where it is of another version."""
        fields = json.loads(content)
        if fields.pop("version") != VERSION:
            raise ValueError("it is of another version of frostline")
        choice, dtype = fields.pop("choice", None), fields.pop("dtype")
        vectors = VectorSpec(**{**fields, "spec": EncoderSpec.from_dict(fields["spec"])})
        return cls(vectors, dtype, None if choice is None else Choice.from_dict(choice))


class Journal:
    """The journal of an output, locked; use it as a context manager.

    At the end it stays if it holds vectors, for the next run, and goes if it holds none; that of a
    folder stays once it is begun, unless it is removed, as it says that the folder is not finished.

    Parameters
    ----------
    output : Path
        The final name; its folder must exist.
    overwrite : bool
        Whether a journal that can't be used is emptied instead of refused.
    of_folder : bool
        Whether the output is a folder of shards.
    sync_seconds : float
        Seconds between two syncs.

    Attributes
    ----------
    header : Header or None
        None before `begin`, in a new journal.
    kept : int
        Vectors in it.
    end : int
        Where the next record goes.
    locked : bool
        False where the file system has no locks, so that nothing keeps a second writer out.

    Raises
    ------
    CannotContinue
        Another process is writing to this output.
    FileRefused
        There is something else at the journal's name, or the journal of another version.
    """

    def __init__(
        self,
        output: Path,
        *,
        overwrite: bool = False,
        of_folder: bool = False,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        self.path = journal_path(output)
        self.header: Header | None = None
        self.kept = 0
        self._output = output
        self._of_folder, self._sync_seconds = of_folder, sync_seconds
        self._found: dict[bytes, tuple[int, npt.NDArray[np.bool_]]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._unsynced = self._removed = False
        self._failure: OSError | None = None
        self._handle, self.locked = _open_locked(self.path, output)
        try:
            self._claim()
            self.end = self._batches_start = OWNER_BYTES
            try:
                self._scan()
            except FileRefused:
                if not overwrite:
                    raise
                self.clear()
            if self.end < os.fstat(self._handle).st_size:
                disk.truncate(self._handle, self.end)
        except BaseException:
            os.close(self._handle)
            raise
        self._syncer = threading.Thread(target=self._sync_regularly, name="sync", daemon=True)
        self._syncer.start()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._syncer.join()
        with self._lock:
            if self.kept or (self._of_folder and self.header and not self._removed):
                with suppress(
                    OSError
                ):  # a lost sync loses seconds, and another error is on its way
                    self._sync()
            elif not self._removed:  # else it may be the next run's that has the name now
                with suppress(OSError):
                    disk.unlink(self.path)
            os.close(self._handle)

    def begin(self, header: Header) -> None:
        """Write what the vectors are, before the first is appended; once in a journal."""
        if self.header is None:
            self._append(_HEADER, header.to_json())
            self.header, self._batches_start = header, self.end

    def remarks(self) -> Iterator[str]:
        """Give what the user who started this run should know, a line each."""
        if self.kept:
            yield f"{self.kept:,} vectors of a run that was interrupted were found in {self.path}"
        if not self.locked:
            yield (
                f"the file system of {self._output} has no locks: nothing would keep a second run "
                "from writing to it at the same time"
            )

    def find(self, digests: Sequence[bytes]) -> Places | None:
        """Give the places of a batch of just these texts, in this order, if a run has had it."""
        found = self._found.get(_key(digests))
        return None if found is None else _places(*found)

    def append(self, digests: Sequence[bytes], vectors: Mapping[str, Floating]) -> Places:
        """Add a batch, and give the places of its texts. Any thread may call it.

        Raises
        ------
        CannotContinue
            A finite value is too large for float16 on disk.
        """
        assert self.header is not None, "`begin` comes first"
        finite = np.ones(len(digests), np.bool_)
        for matrix in vectors.values():
            finite &= np.isfinite(matrix).all(axis=1)
        parts = [struct.pack("<I", len(digests)), b"".join(digests), finite.tobytes()]
        for view in self.header.vectors.view_bytes:
            with np.errstate(over="ignore"):
                stored = vectors[view].astype(self.header.vectors.store_dtype)
            if not np.isfinite(stored[finite]).all():
                raise CannotContinue(
                    f"view {view!r} has values up to {np.abs(vectors[view][finite]).max():.3g}, "
                    f"too large for {self.header.vectors.store_dtype}; store it with "
                    "`store_dtype=float32`"
                )
            parts.append(stored.tobytes())
        start = self._append(_BATCH, b"".join(parts))
        self.kept += len(digests)
        return _places(start, finite)

    def read(self, view: str, places: Places) -> npt.NDArray[Any]:
        """Read vectors as they are stored, (N, D); neighbours in the file in one go."""
        assert self.header is not None, "there are places, so there are vectors"
        if self._failure is not None:  # what could not be synced may be lost from memory too
            raise self._failure
        sizes = self.header.vectors.view_bytes
        before = sum(size for name, size in sizes.items() if name < view)
        # In 64 bits: a journal can be larger than 2 GiB.
        start, size, row = (places[name].astype(np.int64) for name in ("start", "size", "row"))
        ordered, numbers = np.unique(start + size * before + row * sizes[view], return_inverse=True)
        vectors = np.empty(
            (len(ordered), self.header.vectors.views[view]), self.header.vectors.store_dtype
        )
        for run in runs(ordered, sizes[view]):
            _read_into(self._handle, vectors[run], int(ordered[run.start]))
        return np.asarray(vectors[numbers])

    def clear(self) -> None:
        """Throw away what it holds, to be begun again."""
        self.end = self._batches_start = OWNER_BYTES
        disk.truncate(self._handle, self.end)
        self.header, self.kept, self._found = None, 0, {}

    def forget(self, start: int) -> None:
        """Cut off the batches from an offset on, 0 for all: their vectors are elsewhere."""
        with self._lock:
            self.end = max(start, self._batches_start)
            disk.truncate(self._handle, self.end)
            self._found = {key: batch for key, batch in self._found.items() if batch[0] < self.end}
            self.kept = sum(len(finite) for _, finite in self._found.values())

    def remove(self) -> None:
        """Remove it: all that it holds is elsewhere."""
        with self._lock:
            disk.unlink(self.path)
            self.kept, self._removed = 0, True

    def _claim(self) -> None:
        """Check that this is a journal, maybe a new one, and say whose it is now."""
        head = os.pread(self._handle, OWNER_BYTES, 0)
        if len(head) < OWNER_BYTES or not any(head):  # new, or the machine died when it was
            disk.truncate(self._handle, 0)
        elif not head.startswith(MAGIC):
            raise FileRefused(f"{self.path} is not a journal of frostline's; remove it")
        command, host = Path(sys.argv[0]).name or "python", socket.gethostname()
        owner = f"{command}, process {os.getpid()} on {host}".encode("ascii", "replace")
        os.lseek(self._handle, 0, os.SEEK_SET)
        disk.write(self._handle, (MAGIC + owner)[:OWNER_BYTES].ljust(OWNER_BYTES))
        disk.sync(self._handle)
        disk.sync_folder(self.path.parent)

    def _scan(self) -> None:
        """Read the records that are whole."""
        for kind, content in _records(self._handle, self.end):
            try:
                self._take(kind, content)
            except (
                ValueError,
                TypeError,
                KeyError,
                AttributeError,
                struct.error,
                FileRefused,
            ) as error:
                raise FileRefused(
                    f"{self.path}, left by a run that was interrupted, cannot be used: "
                    f"{first_line(error)}; `overwrite=True` starts again"
                ) from error
            self.end += _FRAME.size + len(content)

    def _take(self, kind: int, content: bytes) -> None:
        """Take in what the record at `end` holds."""
        if kind == _HEADER and self.header is None:
            self.header = Header.from_json(content)
            self._batches_start = self.end + _FRAME.size + len(content)
            return
        if kind != _BATCH or self.header is None:
            raise ValueError(f"a record of kind {kind} is out of place")
        (n,) = struct.unpack_from("<I", content)
        if len(content) != 4 + n * (
            DIGEST_BYTES + 1 + sum(self.header.vectors.view_bytes.values())
        ):
            raise ValueError(f"a batch of {n} texts has {len(content)} bytes")
        end = 4 + n * DIGEST_BYTES
        finite = np.frombuffer(content, np.bool_, n, end).copy()
        self._found[_key([content[4:end]])] = self.end + _FRAME.size, finite
        self.kept += n

    def _append(self, kind: int, content: bytes) -> int:
        """Write a record, and give the offset of its content."""
        tail = struct.pack("<IQ", kind, len(content)) + content
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._closing.is_set():
                raise CannotContinue(f"{self._output}: the run has ended")
            start = self.end
            os.lseek(self._handle, start, os.SEEK_SET)
            disk.write(self._handle, struct.pack("<I", zlib.crc32(tail)) + tail)
            self.end += _CRC_BYTES + len(tail)
            self._unsynced = True
        return start + _FRAME.size

    def _sync_regularly(self) -> None:
        while not self._closing.wait(self._sync_seconds):
            try:
                self._sync()
            except OSError as error:
                self._failure = error  # the next one to append says it
                return

    def _sync(self) -> None:
        if self._unsynced:
            self._unsynced = False
            disk.sync(self._handle)


def _open_locked(path: Path, output: Path) -> tuple[int, bool]:
    """Open the journal, or make one, and lock it; say whether there are locks.

    Without links, and for the user alone: what is in a journal is believed.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise FileRefused(f"{path} is not a file of this user's; remove it")
            locked = _lock(handle, output)
            # Who had the lock before may have removed the file since it was opened.
            with suppress(FileNotFoundError):
                if os.path.samestat(path.lstat(), status):
                    return handle, locked
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, output: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = (
            os.pread(handle, OWNER_BYTES, 0).removeprefix(MAGIC).decode("ascii", "replace").strip()
        )
        raise CannotContinue(
            f"{output} is being written already, by {owner or 'a process that just began'}: wait "
            "for it, or give another `output`"
        ) from error
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _records(handle: int, start: int) -> Iterator[tuple[int, bytes]]:
    """Read records up to the first that is broken or cut."""
    size = os.fstat(handle).st_size
    while start + _FRAME.size <= size:
        frame = os.pread(handle, _FRAME.size, start)
        crc, kind, length = _FRAME.unpack(frame)
        if length > size - start - _FRAME.size:
            return
        content = bytearray(length)
        _read_into(handle, content, start + _FRAME.size)
        if zlib.crc32(content, zlib.crc32(frame[_CRC_BYTES:])) != crc:
            return
        yield kind, bytes(content)
        start += _FRAME.size + length


def _read_into(handle: int, target: Any, offset: int) -> None:
    """Fill a buffer from a file."""
    left = memoryview(target).cast("B")
    while left:
        n = os.preadv(handle, [left], offset)
        if n == 0:
            raise OSError(errno.EIO, "the journal became shorter while it was read")
        left, offset = left[n:], offset + n


def _places(start: int, finite: npt.NDArray[np.bool_]) -> Places:
    """Give the places of a batch's vectors; the content of its record begins at `start`."""
    n = len(finite)
    places = np.zeros(n, PLACE)
    # The matrices come behind the number of texts, their digests and whether they are finite.
    places["start"] = start + 4 + n * (DIGEST_BYTES + 1)
    places["size"], places["row"], places["finite"] = n, range(n), finite
    return places


def _key(digests: Sequence[bytes]) -> bytes:
    return blake2b(b"".join(digests), digest_size=16).digest()
