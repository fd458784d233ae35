"""Define `store.json`, the index of a joined store: what all receipts say, in one file.

It holds what all shards have in common once, and what they differ in as a column of numbers each,
so that a store of 100,000 shards is opened by reading one file of some 15 MB. The same receipts
make the same bytes. In comes an `Index`, out comes JSON, and back; no shard is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.shown import shown
from features.errors import FileRefused, first_line
from features.spec.encoder_spec import EncoderSpec
from features.spec.vector_spec import PRECISIONS, STORE_DTYPES, VectorSpec
from features.store.format import check_provenance
from features.store.joined import fields
from features.store.joined.layout import MAX_PIECES

FORMAT, VERSION = "frostline-store", 1
MAX_BYTES = 2**30
TOTALS = ("rejects", "tokens", "truncated", "empty", "repaired")

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Index:
    """What is known of a joined store without opening a shard; S shards.

    Attributes
    ----------
    order : str
        SHA-256 of the bytes of `order.json`.
    pieces : int
        Of the store, those without a shard too.
    vectors : VectorSpec
        Of all shards.
    provenance : mapping
        Of the first shard, but for the inputs and their digest, which are of all.
    label_names : tuple of str
        The classes of the store.
    label_rows : tuple of int
        Rows of each class.
    totals : mapping of str to int
        Rows of each of `TOTALS`, and tokens.
    label_lists : tuple of tuples of str
        The classes of shards, each such list once.
    piece, rows, sizes, label_list : int64 arrays (S,)
        Of each shard: its piece, its rows, its bytes, and which of `label_lists` is its own.
    seals : tuple of str
        Of each shard, the SHA-256 in its seal.
    """

    order: str
    pieces: int
    vectors: VectorSpec
    provenance: Mapping[str, Any]
    label_names: tuple[str, ...]
    label_rows: tuple[int, ...]
    totals: Mapping[str, int]
    label_lists: tuple[tuple[str, ...], ...]
    piece: Numbers
    rows: Numbers
    sizes: Numbers
    label_list: Numbers
    seals: tuple[str, ...]

    def number(self, shard: int) -> int:
        """Give the number of a shard in its piece."""
        return shard - int(np.searchsorted(self.piece, self.piece[shard]))

    def to_json(self) -> bytes:
        """Give the content of the file: the same bytes for the same index."""
        vectors = self.vectors
        content = {
            "format": FORMAT,
            "version": VERSION,
            "order": self.order,
            "pieces": self.pieces,
            "rows": int(self.rows.sum()),
            "fingerprint": vectors.spec.fingerprint,
            "spec": vectors.spec.to_dict(),
            "views": dict(vectors.views),
            "precision": vectors.precision,
            "store_dtype": vectors.store_dtype,
            "provenance": dict(self.provenance),
            "label_names": self.label_names,
            "label_rows": self.label_rows,
            "totals": dict(self.totals),
            "label_lists": self.label_lists,
            "shards": {
                "piece": self.piece.tolist(),
                "rows": self.rows.tolist(),
                "bytes": self.sizes.tolist(),
                "label_list": self.label_list.tolist(),
                "seal": self.seals,
            },
        }
        return fields.sealed(content)

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Index:
        """Read what `to_json` wrote; `name` is that of the file.

        Raises
        ------
        FileRefused
            It is something else, damaged or of a later version.
        """
        content = fields.content_of(data, name, FORMAT, VERSION, _CURE)
        try:
            return _index(content)
        except (ValueError, TypeError, RecursionError, FileRefused) as error:
            raise FileRefused(f"{name} is damaged: {first_line(error)}; {_CURE}") from error


_CURE = "`frostline verify` of the folder makes it again from the receipts"
_OF_SHARDS = ("piece", "rows", "bytes", "label_list", "seal")
_FIELDS = frozenset(
    {"format", "version", "rows", "fingerprint", "spec", "views", "precision", "store_dtype"}
    | {"order", "pieces", "provenance", "label_names", "label_rows", "totals", "label_lists"}
    | {"shards"}
)


def _index(content: Mapping[str, Any]) -> Index:
    fields.check_names(content, _FIELDS, "the index")
    pieces = fields.count(content["pieces"], "pieces", 1, MAX_PIECES)
    label_names = fields.names(content["label_names"], "label_names")
    label_rows = fields.counts(content["label_rows"], "label_rows", len(label_names))
    lists = content["label_lists"]
    if type(lists) is not list:
        raise ValueError("label_lists is of another type")
    check_provenance(content["provenance"])
    label_lists = tuple(fields.names(one, "label_lists") for one in lists)
    if not {name for one in label_lists for name in one} <= set(label_names):
        raise ValueError("a shard has a class that the store has not")
    totals = fields.check_names(content["totals"], TOTALS, "totals")
    columns = fields.check_names(content["shards"], _OF_SHARDS, "shards")
    piece = _column(columns, "piece", 0, pieces - 1)
    if (np.diff(piece) < 0).any():
        raise ValueError("its shards are not in the order of their pieces")
    rows = _column(columns, "rows", 1, 2**62)
    if sum(columns["rows"]) != fields.count(content["rows"], "rows", 1, 2**62):
        raise ValueError("the rows of its shards are not its rows")
    seals = columns["seal"]
    if type(seals) is not list or {len(piece), len(rows)} != {len(seals)}:
        raise ValueError("its columns of shards have several lengths")
    index = Index(
        fields.sha256(content["order"], "order"),
        pieces,
        _vectors(content),
        content["provenance"],
        label_names,
        label_rows,
        {name: fields.count(totals[name], name) for name in TOTALS},
        label_lists,
        piece,
        rows,
        _column(columns, "bytes", 1, 2**62),
        _column(columns, "label_list", 0, len(label_lists) - 1),
        tuple(fields.sha256(seal, "a seal") for seal in seals),
    )
    if {len(index.sizes), len(index.label_list)} != {len(seals)}:
        raise ValueError("its columns of shards have several lengths")
    return index


def _column(columns: Mapping[str, Any], name: str, least: int, most: int) -> Numbers:
    values = columns[name]
    if type(values) is not list or set(map(type, values)) != {int}:
        raise ValueError(f"{name} of shards is not a list of whole numbers")
    if not least <= min(values) <= max(values) <= most:
        raise ValueError(f"{name} of a shard is {min(values)} or {max(values)}")
    return np.array(values, np.int64)


def _vectors(content: Mapping[str, Any]) -> VectorSpec:
    if type(content["spec"]) is not dict:
        raise ValueError("spec is of another type")
    spec = EncoderSpec.from_dict(content["spec"])
    if spec.fingerprint != content["fingerprint"]:
        raise ValueError(f"fingerprint {shown(str(content['fingerprint']))} is not of its spec")
    return VectorSpec(
        spec,
        fields.widths(content["views"], "views"),
        fields.one_of(content["precision"], "precision", PRECISIONS),
        fields.one_of(content["store_dtype"], "store_dtype", STORE_DTYPES),
    )
