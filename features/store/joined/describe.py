"""Make the receipt of a piece from its finished shards.

In come the shards' paths, out comes a `Receipt`; the shards are read, never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.errors import FileRefused
from features.store.checksum import sealed_digest
from features.store.format import EMPTY, REPAIRED, TRUNCATED
from features.store.joined.receipt import Receipt, ShardFacts, VectorFacts
from features.store.reader import FeatureStore


def receipt_of(piece: int, order: str, shards: Sequence[Path], *, rejects: int) -> Receipt:
    """Describe a finished piece.

    Parameters
    ----------
    piece : int
        Its number, from 0.
    order : str
        SHA-256 of the bytes of `order.json`.
    shards : sequence of Path
        Its shards in the order of their rows, wherever they lie now; none where no row can be used.
    rejects : int
        Rows that could not be used.

    Raises
    ------
    FileRefused
        A shard is damaged, or not one of those that `extract` makes.
    """
    vectors, facts, tokens, flagged = None, [], 0, {TRUNCATED: 0, EMPTY: 0, REPAIRED: 0}
    for path in shards:
        with FeatureStore(path) as store:
            facts.append(_facts(path, store))
            vectors = VectorFacts(
                store.fingerprint, store.views, store.precision, store.store_dtype
            )
            tokens += int(store.n_tokens().sum(dtype=np.int64))
            flags = store.flags()
        for flag in flagged:
            flagged[flag] += int(np.count_nonzero(flags & flag))
    return Receipt(
        piece,
        order,
        vectors,
        tuple(facts),
        rejects,
        tokens,
        flagged[TRUNCATED],
        flagged[EMPTY],
        flagged[REPAIRED],
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
