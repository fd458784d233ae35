"""Make the receipt of a piece from its finished shards.

In come the shards' paths and that of the rejects, out comes a `Receipt`; they are read, never
changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.errors import FileRefused
from features.store.checksum import sealed_digest
from features.store.format import EMPTY, REPAIRED, TRUNCATED
from features.store.joined.receipt import Receipt, ShardFacts, VectorFacts
from features.store.joined.rejected import rejects_in
from features.store.reader import FeatureStore


@dataclass(frozen=True)
class Contents:
    """What a shard holds, as far as a receipt speaks of it.

    Attributes
    ----------
    facts : ShardFacts
    vectors : VectorFacts
    tokens, truncated, empty, repaired : int
        Of its rows.
    """

    facts: ShardFacts
    vectors: VectorFacts
    tokens: int
    truncated: int
    empty: int
    repaired: int


def receipt_of(piece: int, order: str, shards: Sequence[Path], *, rejects: Path) -> Receipt:
    """Describe a finished piece.

    Parameters
    ----------
    piece : int
        Its number, from 0.
    order : str
        SHA-256 of the bytes of `order.json`.
    shards : sequence of Path
        Its shards in the order of their rows, wherever they lie now; none where no row of the piece
        can be used.
    rejects : Path
        The file of its rejects; without any there is none.

    Raises
    ------
    FileRefused
        A shard is damaged, or not one of those that `extract` makes; or the rejects are damaged.
    """
    found = [contents_of(path) for path in shards]
    return Receipt(
        piece,
        order,
        found[-1].vectors if found else None,
        tuple(one.facts for one in found),
        *rejects_in(rejects),
        sum(one.tokens for one in found),
        sum(one.truncated for one in found),
        sum(one.empty for one in found),
        sum(one.repaired for one in found),
    )


def contents_of(path: Path) -> Contents:
    """Look at a shard.

    Raises
    ------
    FileRefused
        It is damaged, or not one of those that `extract` makes.
    """
    with FeatureStore(path) as store:
        flags = store.flags()
        return Contents(
            _facts(path, store),
            VectorFacts(store.fingerprint, store.views, store.precision, store.store_dtype),
            int(store.n_tokens().sum(dtype=np.int64)),
            *(int(np.count_nonzero(flags & flag)) for flag in (TRUNCATED, EMPTY, REPAIRED)),
        )


def _facts(path: Path, store: FeatureStore) -> ShardFacts:
    digest = store.provenance[0].get("input_digest")
    if not isinstance(digest, str):
        raise FileRefused(f"{path} does not say what it was made of; `frostline extract` makes it")
    codes = store.labels()
    rows = np.bincount(codes[codes >= 0], minlength=len(store.label_names))
    return ShardFacts(
        store.n_rows,
        path.stat().st_size,
        sealed_digest(path),
        tuple(store.label_names),
        tuple(rows.tolist()),
        digest,
    )
