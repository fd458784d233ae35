"""Say what `frostline verify` found, as lines of text. It computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from features import Verification
from features.base.shown import printable
from features.errors import FileRefused


def lines_of(found: Verification) -> Iterator[str]:
    """Give a line for a whole store, or one for each fault, and what else is worth knowing."""
    for fault in found.faults:
        yield printable(f"broken: {fault.reason}")
    if found.whole:
        speed = found.bytes / 1e6 / max(found.seconds, 1e-9)
        files = "" if found.files == 1 else f"{found.files:,} files, "
        yield printable(
            f"whole: {found.path}: {files}{found.rows:,} rows, views {', '.join(found.views)}, "
            f"{found.bytes:,} bytes, {speed:,.0f} MB/s"
        )
    yield from map(printable, found.remarks)


def check_whole(found: Sequence[Verification]) -> None:
    """Refuse stores of which one is broken, and say the cure.

    Raises
    ------
    FileRefused
    """
    broken = len({fault.file for store in found for fault in store.faults})
    if broken and any(store.in_pieces and not store.whole for store in found):
        raise FileRefused(
            f"{broken} of {sum(max(1, store.files) for store in found)} files broken, or pieces "
            "missing: what makes them again is said above"
        )
    if broken:
        raise FileRefused(
            f"{broken} of {sum(max(1, store.files) for store in found)} files broken: the same "
            "`frostline extract` makes the broken shards of a folder again; a single file it makes "
            "again with `overwrite`"
        )
