"""Check a store that is made in pieces: what its receipts promise, and what its shards keep.

In comes the folder of a store, out come sentences: what is wrong with its order and its receipts,
and what a shard that was verified by itself is, other than its receipt promises. `look` joins the
pieces where nothing is wrong with the receipts. `features/store/verify.py` reads the shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from features.base import storage
from features.base.remote.urls import is_url
from features.base.storage import Target
from features.errors import FileRefused, InputError
from features.store.checksum import sealed_digest
from features.store.format import Shard
from features.store.joined.join import Survey, join, read_receipts, survey
from features.store.joined.layout import (
    piece_folder,
    receipt_path,
    store_path,
)
from features.store.joined.receipt import ShardFacts, VectorFacts
from features.store.joined.shard_files import remade


@dataclass(frozen=True)
class Promise:
    """A shard as its receipt promises it."""

    piece: int
    number: int
    vectors: VectorFacts | None
    facts: ShardFacts


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
    unjoined : str
        Why its pieces can't be joined although no fault was found.
    remarks : list of str
    """

    found: Survey | None = None
    good: list[int] = field(default_factory=list)
    shards: int = 0
    bytes: int = 0
    faults: list[tuple[Target, str]] = field(default_factory=list)
    unjoined: str = ""
    remarks: list[str] = field(default_factory=list)


def look(store: Target) -> Look:
    """Read all receipts of a store, and join its pieces if nothing is wrong with these."""
    seen = Look()
    try:
        seen.found = survey(store)
    except (FileRefused, InputError) as error:
        seen.faults.append((store, str(error)))
        return seen
    for piece in seen.found.finished:
        try:
            shards = [promise.facts for promise in promises(store, seen.found, piece)]
        except (FileRefused, InputError) as error:
            seen.faults.append((receipt_path(store, piece), str(error)))
            continue
        seen.good.append(piece)
        seen.shards += len(shards)
        seen.bytes += sum(shard.bytes for shard in shards)
    if seen.found.missing:
        seen.faults.append((store, seen.found.lacking(store)))
    if not seen.faults:
        _join(store, seen)
    seen.remarks += _strangers(store, seen.found)
    return seen


def _join(store: Target, seen: Look) -> None:
    path = store_path(store)
    before, said = storage.info(path), list[str]()
    try:
        # Who joined it before has allowed for its rejects.
        index = join(store, allow_rejects=before is not None, say=said.append)
    except (FileRefused, InputError) as error:
        seen.unjoined = f"its pieces are not joined: {error}"
        return
    if before is None:
        seen.remarks += [f"joined: {store}: its {index.pieces:,} pieces, in {path}", *said]
    elif storage.info(path) != before:
        seen.remarks.append(f"joined again: {store}: {path} was not what its receipts say")


def promises(store: Target, found: Survey | None, piece: int) -> Iterator[Promise]:
    """Give the shards that the receipt of a piece promises."""
    assert found is not None, "a piece was found"
    for receipt in read_receipts(store, found.order, [piece]):
        for number, facts in enumerate(receipt.shards):
            yield Promise(piece, number, receipt.vectors, facts)


def broken(store: Target, promise: Promise, file: Path, shard: Shard, n_rows: int) -> Iterator[str]:
    """Say what a shard that is whole by itself is, other than its receipt promises."""
    vectors, facts = shard.vectors, promise.facts
    found = VectorFacts(
        vectors.spec.fingerprint, dict(vectors.views), str(vectors.precision), vectors.store_dtype
    )
    kept = {
        "rows": n_rows == facts.rows,
        "bytes": file.stat().st_size == facts.bytes,
        "seal": sealed_digest(file) == facts.seal,
        "classes": tuple(shard.label_names) == facts.label_names,
        "vectors": found == promise.vectors,
        "digest of the input": shard.provenance.get("input_digest") == facts.input_digest,
    }
    if differing := [name for name, same in kept.items() if not same]:
        yield remade(
            store,
            promise.piece,
            f"{file} is not the shard that its receipt promises ({', '.join(differing)})",
        )


def _strangers(store: Target, found: Survey) -> Iterator[str]:
    """Say what lies in the folders of pieces that no receipt speaks of."""
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
