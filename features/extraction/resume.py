"""What is there when a run begins, whether it fits the run, and what is said when one stops."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from features.errors import CannotContinue, FileRefused, InputError, first_line
from features.extraction.journal import Header, Journal
from features.spec.encoder_spec import EncoderSpec
from features.store import admission
from features.store.reader import FeatureStore

CURE = "give another -o, or --overwrite to replace the file"


def open_previous(
    output: Path, spec: EncoderSpec, views: Sequence[str], dtype: str, store_dtype: str
) -> FeatureStore:
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
        check_encoder(previous, spec, views, dtype, store_dtype)
    except InputError:
        previous.close()
        raise
    return previous


def check_encoder(
    store: FeatureStore, spec: EncoderSpec, views: Sequence[str], dtype: str, store_dtype: str
) -> None:
    """Refuse to go on with vectors that are not what this run would make."""
    differing = differences(store, spec, views, dtype, store_dtype)
    if differing:
        raise InputError(f"{store} was made by another encoder ({differing}): {CURE}")


def fit_journal(
    journal: Journal,
    spec: EncoderSpec,
    views: Sequence[str],
    dtype: str,
    store_dtype: str,
    *,
    overwrite: bool,
) -> str:
    """Check that the journal's vectors are what this run would make, and give their dtype.

    They may be a night's work, and the call a slip: so it is refused, as with a finished file.
    """
    if journal.header is None:
        return dtype
    differing = differences(journal.header, spec, views, dtype, store_dtype)
    if dtype not in ("auto", journal.header.dtype) and not differing:
        differing = f"dtype: {journal.header.dtype} in the file, {dtype} asked for"
    if not differing:
        return journal.header.dtype
    if journal.kept and not overwrite:
        raise InputError(
            f"{journal.path} holds {journal.kept:,} vectors of a run that was interrupted, by another "
            f"encoder ({differing}): {CURE}"
        )
    journal.clear()
    return dtype


def differences(
    there: FeatureStore | Header,
    spec: EncoderSpec,
    views: Sequence[str],
    dtype: str,
    store_dtype: str,
) -> str:
    """What differs between the vectors that are there and those that are asked for; empty if nothing."""
    differing = there.spec.differences(spec)
    asked = {"auto": None, "float32": "float32", "int8": "int8"}.get(dtype, "half")
    for name, found, wanted in (
        ("views", sorted(there.views), sorted(views)),
        ("store dtype", there.store_dtype, store_dtype),
        ("precision", there.precision, asked or there.precision),
    ):
        if found != wanted:
            shown = [", ".join(v) if isinstance(v, list) else v for v in (found, wanted)]
            differing.append(f"{name}: {shown[0]} here, {shown[1]} there")
    listed = "; ".join(differing)
    return listed.replace(" here,", " in the file,").replace(" there", " asked for")


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
        reason = getattr(error, "strerror", None) or first_line(error)
        if _identity(output) != before:
            raise CannotContinue(f"{output} {replaced}: {reason}; {_FINISH}") from error
        raise CannotContinue(
            f"{output} cannot be written: {reason}; what was at that name is untouched{_kept(journal)}"
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
    """Of the file, or of all in the folder; none where there is neither."""
    with suppress(OSError):
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return [admission.identity(file) for file in files if file.is_file()]
    return []


def _kept(journal: Journal | None) -> str:
    if journal is None or not journal.kept:
        return ""
    return f"; run the same command to continue: {journal.kept:,} of the vectors are kept"
