"""Check that what an earlier run has left fits this one, and say how to go on when one stops.

In come the output, its journal and the vectors that are wanted; out comes what this run can go on
with, or a refusal. It encodes and writes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from features.errors import CannotContinue, FileRefused, InputError, system_reason
from features.extraction.journal import Journal
from features.spec.encoder_spec import Difference, listed_differences
from features.spec.vector_spec import VectorSpec
from features.store import admission
from features.store.reader import FeatureStore

CURE = "give another `output`, or `overwrite=True` to replace the file"


def open_previous(output: Path, wanted: VectorSpec) -> FeatureStore:
    """Open the file that is there, if its vectors are what this run would make."""
    try:
        previous = FeatureStore(output)
        with ExitStack() as undo:
            undo.callback(previous.close)
            for read in (previous.labels, previous.digests, previous.n_tokens, previous.flags):
                read()  # what `ShardBuilder` will need, so that damage is found here
            undo.pop_all()
    except FileRefused as error:
        raise FileRefused(f"{error}; {CURE}") from error
    try:
        check_same(previous, wanted)
    except InputError:
        previous.close()
        raise
    return previous


def check_same(store: FeatureStore, wanted: VectorSpec) -> None:
    """Refuse to go on with vectors that are not what this run would make."""
    if differing := store.vectors.differences(wanted):
        raise InputError(f"{store} was made by another encoder ({_worded(differing)}): {CURE}")


def fit_journal(journal: Journal, wanted: VectorSpec, dtype: str, *, overwrite: bool) -> str:
    """Check that the journal's vectors are what this run would make, and give their dtype.

    It may hold hours of work, and other parameters may be a mistake: so a journal of other vectors
    is refused, as a finished file of them is.
    """
    if journal.header is None:
        return dtype
    differing = journal.header.vectors.differences(wanted)
    if dtype not in ("auto", journal.header.dtype) and not differing:
        differing = [Difference("dtype", journal.header.dtype, dtype)]
    if not differing:
        return journal.header.dtype
    if journal.kept and not overwrite:
        raise InputError(
            f"{journal.path} holds {journal.kept:,} vectors of a run that was interrupted, by "
            f"another encoder ({_worded(differing)}): {CURE}"
        )
    journal.clear()
    return dtype


def _worded(differing: Sequence[Difference]) -> str:
    return listed_differences(differing, "in the file", "asked for")


@contextmanager
def stopping(
    output: Path, journal: Journal | None = None, *, of_folder: bool = False
) -> Iterator[None]:
    """Turn what the disk says, or Ctrl-C, into one clear line that says how to go on."""
    before = _identity(output)
    replaced = _CHANGED if of_folder else _REPLACED
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = system_reason(error)
        if _identity(output) != before:
            raise CannotContinue(f"{output} {replaced}: {reason}; {_FINISH}") from error
        raise CannotContinue(
            f"{output} cannot be written: {reason}; what was at that name is untouched"
            f"{_kept(journal)}"
        ) from error
    except KeyboardInterrupt as error:
        if _identity(output) != before:
            raise KeyboardInterrupt(f"interrupted; {output} {replaced}; {_FINISH}") from error
        kept = _kept(journal) or "; no output was changed"
        raise KeyboardInterrupt(f"interrupted{kept}") from error


_REPLACED = "has its new content already, but the run did not come to its end"
_CHANGED = "has changed already, but the run did not come to its end"
_FINISH = "run the same command to finish it"


def _identity(path: Path) -> list[admission.Identity]:
    """Give the identity of the file, or of all in the folder; none where there is neither."""
    with suppress(OSError):
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return [admission.identity(file) for file in files if file.is_file()]
    return []


def _kept(journal: Journal | None) -> str:
    if journal is None or not journal.kept:
        return ""
    return f"; run the same command to continue: {journal.kept:,} of the vectors are kept"
