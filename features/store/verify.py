"""Verify a store: every bit of every file, and the values of all rows. No torch.

In comes a path, out comes a `Verification` with all faults that were found; the first one does not
end the search. The seal of each file is checked first (`features/store/checksum.py`), without HDF5,
so a damaged file never reaches that library in this process. A file whose seal is wrong is not
looked at further: it has to be made again in any case. A file whose seal is right is still opened
by a child process first (`features/store/admission.py`), since a stranger can seal a file too, and
then all its rows are read (`features/store/row_checks.py`). Nothing is repaired; but a store that
is made in pieces is joined, if all its receipts are there (`features/store/joined/check.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

from features.base.paths import journal_path
from features.base.remote.copies import here
from features.base.shown import size
from features.base.storage import Target
from features.errors import FileRefused, InputError, system_reason
from features.store import admission, row_checks
from features.store.checksum import check_seal
from features.store.format import Shard, check_same_vectors
from features.store.joined import check, place
from features.store.joined.describe import Contents
from features.store.joined.receipt import Receipt
from features.store.joined.shard_files import remade
from features.store.missing_shards import gaps
from features.store.reader import FeatureStore
from features.store.shard_folder import Part


@dataclass(frozen=True)
class Fault:
    """A fault of a file (or a folder), as a sentence that names it."""

    file: str
    reason: str


@dataclass(frozen=True)
class Verification:
    """The findings of `verify`.

    Attributes
    ----------
    path : str
        As it was given.
    files, rows, bytes : int
        Files of the store, rows of those that are whole, bytes of all.
    views : tuple of str
        Those of the first file that is whole.
    seconds : float
    faults : tuple of Fault
        All that is broken; none where the store is whole.
    remarks : tuple of str
        What is no fault, but worth knowing.
    in_pieces : bool
        Whether it is a store that is made in pieces.
    """

    path: str
    files: int
    rows: int
    bytes: int
    views: tuple[str, ...]
    seconds: float
    faults: tuple[Fault, ...]
    remarks: tuple[str, ...]
    in_pieces: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing is broken."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON types."""
        return {**asdict(self), "whole": self.whole}


def verify(
    path: str | Path, *, progress: Callable[[float], None] = lambda share: None
) -> Verification:
    """Check every bit and every row of a feature file, or of a folder of them.

    A store that is made in pieces is joined, if all pieces are there; those that are not are named.

    Parameters
    ----------
    path : path
        Whatever is there: what is no feature file is a fault, not an error.
    progress : callable, optional
        Called with the share that is done.

    Raises
    ------
    CannotContinue
        No process could be started to look at a file.

    Examples
    --------
    >>> from features import extract, verify
    >>> summary = extract("examples/tweets.csv", "tweets.h5", pooling="mean")
    >>> result = verify("tweets.h5")
    >>> result.rows, result.whole
    (956, True)
    """
    started = perf_counter()
    store = place.whole_name(path)
    if place.is_in_pieces(store):
        return _verify_pieces(store, progress, started)
    path = here(path)
    faults: list[Fault] = []
    files, missing = _files(path)
    if missing:
        faults.append(Fault(str(path), missing))
    sizes = [_size(file) for file in files]
    meter = _Meter(progress, 2 * sum(sizes))
    _ask_one_child(files)
    rows, first = 0, None
    read: dict[Path, tuple[Part | None, int]] = {}
    for file in files:
        n_rows, shard, reasons = _verify_file(file, meter)
        if shard is not None:
            first = first or (file, shard)
            read[file] = shard.part, n_rows
            reasons += _strangeness(file, shard, *first)
        if not reasons:
            rows += n_rows
        faults += (Fault(str(file), reason) for reason in reasons)
    if files != [path]:  # one shard by itself is no folder
        faults += (Fault(str(file), reason) for file, reason in gaps(path, files, read))
    return Verification(
        str(path),
        len(files),
        rows,
        sum(sizes),
        tuple(first[1].vectors.views) if first else (),
        perf_counter() - started,
        tuple(faults),
        tuple(_remarks(path)),
    )


def _verify_pieces(
    store: Target, progress: Callable[[float], None], started: float
) -> Verification:
    """Check the receipts of a store, join it if they are right, and check what they promise."""
    seen = check.look(store)
    faults = [Fault(str(file), reason) for file, reason in seen.faults]
    meter, rows = _Meter(progress, 2 * seen.bytes), 0
    views: tuple[str, ...] = ()
    for batch in check.receipts_of(store, seen):
        files = {
            receipt.piece: [
                place.bring_shard(store, receipt.piece, number)
                for number in range(len(receipt.shards))
            ]
            for receipt in batch
        }
        _ask_one_child(list(chain.from_iterable(files.values())))
        for receipt in batch:
            more, found = _verify_piece(store, receipt, files[receipt.piece], meter)
            faults += more
            rows += found
            if receipt.vectors is not None:
                views = views or tuple(receipt.vectors.views)
    if not faults:
        try:
            seen.remarks += check.join_whole(store)
        except (FileRefused, InputError) as error:
            faults.append(Fault(str(store), f"its pieces are not joined: {error}"))
    return Verification(
        str(store),
        seen.shards,
        rows,
        seen.bytes,
        views,
        perf_counter() - started,
        tuple(faults),
        tuple(seen.remarks),
        in_pieces=True,
    )


def _verify_piece(
    store: Target, receipt: Receipt, files: Sequence[Path], meter: _Meter
) -> tuple[list[Fault], int]:
    """Give what is wrong with a piece, and the rows of its shards that are whole."""
    faults: list[Fault] = []
    found: list[Contents] = []
    for number, file in enumerate(files):
        _, shard, reasons = _verify_file(file, meter)
        if shard is None:
            if not file.exists() or os.access(file, os.R_OK):
                reasons = [remade(store, receipt.piece, reason) for reason in reasons]
        else:
            contents, more = check.of_shard(store, receipt, number, file)
            reasons += more
            if contents is not None and not reasons:
                found.append(contents)
        faults += (Fault(str(file), reason) for reason in reasons)
    if not faults:
        faults += (
            Fault(str(file), reason) for file, reason in check.of_piece(store, receipt, found)
        )
    return faults, sum(one.facts.rows for one in found)


def _verify_file(file: Path, meter: _Meter) -> tuple[int, Shard | None, list[str]]:
    """Give the rows of a file, what it says about itself, and what is wrong with it."""
    try:
        before = admission.identity(file)
        check_seal(file, meter)
        with FeatureStore(file) as store:
            reasons = list(row_checks.faults(store, meter))
            if admission.identity(file) != before:
                reasons = [f"{file} was replaced or changed while it was verified; verify it again"]
            return store.n_rows, store.shards[0], reasons
    except (FileRefused, InputError) as error:
        return 0, None, [str(error)]
    except (OSError, ValueError) as error:  # it went away, or its name can be no file's
        reason = system_reason(error)
        return 0, None, [f"{file} cannot be read: {reason}"]


def _strangeness(file: Path, shard: Shard, first_file: Path, first: Shard) -> list[str]:
    try:
        check_same_vectors(file, shard.vectors, first_file, first.vectors)
    except FileRefused as error:
        return [str(error)]
    return []


def _ask_one_child(files: Sequence[Path]) -> None:
    """Open all files of a store in one child, where one does: each by itself takes 0.2 s."""
    if len(files) > 1 and all(file.is_file() for file in files):
        with suppress(FileRefused, OSError):  # said file by file, behind the seals
            admission.admit(files)


def _files(path: Path) -> tuple[list[Path], str | None]:
    """Give the files of a store, and what is wrong where there are none."""
    try:
        if not path.is_dir():
            return [path], None
        files = sorted(file for file in path.iterdir() if file.name.endswith(".h5"))
    except (OSError, ValueError) as error:
        return [], f"{path} cannot be read: {system_reason(error)}"
    return files, None if files else f"{path} is a folder without feature files (*.h5)"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except (OSError, ValueError):
        return 0


def _remarks(path: Path) -> Iterator[str]:
    if not path.name:  # `.` or `/`: nothing is written under such a name
        return
    journal = journal_path(path)
    if n_bytes := _size(journal):
        yield (
            f"{path}: a run that was interrupted, or is at work, has {size(n_bytes)} in "
            f"{journal}: run the same `frostline extract` again"
        )


class _Meter:
    """A sum of the bytes that were read: each is read twice, for the seal and by HDF5."""

    def __init__(self, progress: Callable[[float], None], total: int) -> None:
        self._progress, self._total, self._done = progress, max(1, total), 0

    def __call__(self, n: int) -> None:
        self._done += n
        self._progress(min(1.0, self._done / self._total))
