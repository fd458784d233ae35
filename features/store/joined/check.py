"""Check a store that is made in pieces: what its receipts promise, and what its shards keep.

In comes the folder of a store, out come sentences: what is wrong with its order and its receipts,
and what a shard that was verified by itself, or a piece, is, other than its receipt promises.
`join_whole` joins the pieces of a store with which nothing is wrong. `features/store/verify.py`
reads the shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from features.base import storage
from features.base.remote.urls import is_url
from features.base.storage import Target
from features.errors import FileRefused, InputError, first_line
from features.store.joined import place
from features.store.joined.describe import Contents, contents_of
from features.store.joined.fields import unsealed
from features.store.joined.join import Survey, join, read_receipts, survey
from features.store.joined.layout import (
    CHOICE,
    DUPLICATES,
    INDEXES,
    REJECTS,
    order_path,
    piece_folder,
    receipt_path,
    store_path,
)
from features.store.joined.order import CURE
from features.store.joined.order import MAX_BYTES as ORDER_BYTES
from features.store.joined.receipt import MAX_BYTES, Receipt
from features.store.joined.rejected import rejects_in
from features.store.joined.shard_files import remade

# What a receipt says of a shard, and of a piece beside that, in words.
_OF_SHARD = {
    "rows": "rows",
    "bytes": "bytes",
    "seal": "seal",
    "label_names": "classes",
    "label_rows": "rows of its classes",
    "input_digest": "digest of the input",
}
_OF_PIECE = ("tokens", "truncated", "empty", "repaired")
# Shards of pieces that are checked together.
_TOGETHER = 256


@dataclass
class Look:
    """What can be said of a store from its receipts alone.

    Attributes
    ----------
    found : Survey or None
        None where its order can't be read; then no receipt is good.
    good : list of int
        The pieces whose receipts are right.
    shards, bytes : int
        What these promise.
    faults : list of (Target, str)
        What is wrong, each with the file that it is wrong with.
    remarks : list of str
    """

    found: Survey | None = None
    good: list[int] = field(default_factory=list)
    shards: int = 0
    bytes: int = 0
    faults: list[tuple[Target, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def look(store: Target) -> Look:
    """Read all receipts of a store."""
    seen = Look()
    try:
        seen.found = survey(store)
    except (FileRefused, InputError) as error:
        seen.faults.append((store, str(error)))
        return seen
    if reason := _other_order(store, seen.found):
        seen.faults.append((order_path(store), reason))
        return seen
    for piece in seen.found.finished:
        try:
            (receipt,) = read_receipts(store, seen.found.order, [piece])
        except (FileRefused, InputError) as error:
            seen.faults.append((receipt_path(store, piece), str(error)))
            continue
        seen.good.append(piece)
        seen.shards += len(receipt.shards)
        seen.bytes += sum(shard.bytes for shard in receipt.shards)
    if seen.found.missing:
        seen.faults.append((store, seen.found.lacking(store)))
    seen.faults += _damaged(store)
    seen.remarks += _strangers(store, seen.found)
    return seen


def _damaged(store: Target) -> Iterator[tuple[Target, str]]:
    """Say which files are damaged that only those read who make pieces."""
    kept = storage.child(store, INDEXES)
    paths = [storage.child(store, one) for one in place.names(store) if one == CHOICE]
    paths += [storage.child(kept, one) for one in place.names(kept) if one.endswith(".json")]
    for path in paths:
        try:
            unsealed(place.read(path, ORDER_BYTES))
        except (FileRefused, InputError, ValueError, RecursionError) as error:
            yield path, f"{path} is damaged: {first_line(error)}; remove it: it is made again"


def _other_order(store: Target, found: Survey) -> str:
    """Say if it is the order that was altered: several receipts name another one, the same."""
    ends = {found.finished[0], found.finished[-1]} if found.finished else set()
    named = set[str]()
    for piece in ends:
        path = receipt_path(store, piece)
        with suppress(FileRefused, InputError):  # said piece by piece
            named.add(Receipt.from_json(place.read(path, MAX_BYTES), str(path)).order)
    if len(ends) < 2 or len(named) != 1 or found.order.digest in named:
        return ""
    return f"{order_path(store)} is not the order that its receipts were made for: {CURE}"


def receipts_of(store: Target, seen: Look) -> Iterator[list[Receipt]]:
    """Give the receipts that are right, those of some shards together."""
    batch: list[Receipt] = []
    if seen.found is None:
        return
    for receipt in read_receipts(store, seen.found.order, seen.good):
        batch.append(receipt)
        if sum(max(1, len(one.shards)) for one in batch) >= _TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


def of_shard(
    store: Target, receipt: Receipt, number: int, file: Path
) -> tuple[Contents | None, list[str]]:
    """Give what a shard that is whole by itself holds, and what it is, other than was promised."""
    try:
        found = contents_of(file)
    except (FileRefused, InputError) as error:
        return None, [str(error)]
    promised = receipt.shards[number]
    differing = [
        word
        for name, word in _OF_SHARD.items()
        if getattr(found.facts, name) != getattr(promised, name)
    ]
    if found.vectors != receipt.vectors:
        differing.append("vectors")
    if not differing:
        return found, []
    reason = f"{file} is not the shard that its receipt promises ({', '.join(differing)})"
    return found, [remade(store, receipt.piece, reason)]


def of_piece(
    store: Target, receipt: Receipt, found: Sequence[Contents]
) -> Iterator[tuple[Target, str]]:
    """Say what a piece is, other than its receipt promises, beside its shards that are whole."""
    rejects = storage.child(piece_folder(store, receipt.piece), REJECTS)
    try:
        reason = ""
        if rejects_in(rejects) != (receipt.rejects, receipt.rejects_digest):
            reason = f"{rejects} does not hold the {receipt.rejects:,} rejects of its receipt"
    except FileRefused as error:
        reason = str(error)
    if reason:
        yield rejects, remade(store, receipt.piece, reason)
    sums = {name: sum(getattr(one, name) for one in found) for name in _OF_PIECE}
    if differing := [name for name in _OF_PIECE if sums[name] != getattr(receipt, name)]:
        path = receipt_path(store, receipt.piece)
        yield (
            path,
            f"{path} does not say what its shards hold ({', '.join(differing)}): remove it, and "
            "run the same `frostline extract` again, which writes it anew",
        )


def join_whole(store: Target) -> Iterator[str]:
    """Join the pieces of a store with which nothing is wrong, and say so if it was not joined.

    Raises
    ------
    FileRefused, InputError
        They can't be joined.
    """
    path, said = store_path(store), list[str]()
    before = storage.info(path)
    # Who joined it before has allowed for its rejects.
    index = join(store, allow_rejects=before is not None, say=said.append)
    if before is None:
        yield f"joined: {store}: its {index.pieces:,} pieces, in {path}"
        yield from said
    elif storage.info(path) != before:
        yield f"joined again: {store}: {path} was not what its receipts say"


def _strangers(store: Target, found: Survey) -> Iterator[str]:
    """Say what lies in the store that no receipt speaks of."""
    left = storage.child(store, DUPLICATES)
    if not found.missing and storage.listed(left):
        yield f"{left} is needed no more: remove it, or run a job of `frostline extract` again"
    if is_url(store):
        return
    begun = [
        piece for piece in found.missing if storage.local_path(piece_folder(store, piece)).is_dir()
    ]
    if begun:
        yield (
            f"{piece_folder(store, begun[0])} is there without a receipt"
            + (f", as {len(begun) - 1:,} more" if begun[1:] else "")
            + ": the same `frostline extract` gives it one"
        )
