"""Say what a finished piece of a store holds: its receipt, a small JSON file.

A receipt is the commit point of a piece: it is created, once and never changed, when all shards of
the piece are under their names (`features/store/joined/layout.py`). It holds nothing that depends
on who made the piece or how long that took, so a piece that is made twice has the same receipt.
In comes what `features/store/joined/describe.py` found in the shards, out comes JSON, and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from features.base.shown import shown
from features.errors import FileRefused, first_line
from features.spec.vector_spec import PRECISIONS, STORE_DTYPES
from features.store.joined import fields
from features.store.joined.layout import MAX_PIECES

FORMAT, VERSION = "frostline-receipt", 1
# More than the receipt of a thousand shards with a hundred classes needs.
MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What a receipt says of a shard; its number is its place among those of the piece.

    Attributes
    ----------
    rows, bytes : int
        Rows, and the size of the file with its seal.
    seal : str
        The SHA-256 in its seal (`features/store/checksum.py`).
    label_names : tuple of str
        Its classes, in their order.
    label_rows : tuple of int
        Rows of each class.
    input_digest : str
        SHA-256 of its ids, labels and normalised texts.
    """

    rows: int
    bytes: int
    seal: str
    label_names: tuple[str, ...]
    label_rows: tuple[int, ...]
    input_digest: str


@dataclass(frozen=True, slots=True)
class VectorFacts:
    """What a receipt says of the vectors in all its shards, as `VectorSpec` has it."""

    fingerprint: str
    views: Mapping[str, int]
    precision: str
    store_dtype: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receipt of a piece.

    Attributes
    ----------
    piece : int
        Its number, from 0.
    order : str
        SHA-256 of the bytes of `order.json` that it was made for.
    vectors : VectorFacts or None
        None where there are no shards.
    shards : tuple of ShardFacts
        In the order of their rows; none where no row of the piece can be used.
    rejects : int
        Rows that could not be used.
    rejects_digest : str or None
        SHA-256 of what is said of them (`features/store/joined/rejected.py`); None without any.
    tokens : int
        Of all rows, special tokens included.
    truncated, empty, repaired : int
        Rows with these flags.
    """

    piece: int
    order: str
    vectors: VectorFacts | None
    shards: tuple[ShardFacts, ...]
    rejects: int
    rejects_digest: str | None
    tokens: int
    truncated: int
    empty: int
    repaired: int

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    def to_json(self) -> bytes:
        """Give the content of the file: the same bytes for the same receipt."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return fields.sealed(content)

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Receipt:
        """Read what `to_json` wrote; `name` is that of the file.

        Raises
        ------
        FileRefused
            It is something else, damaged or of a later version.
        """
        content = fields.content_of(data, name, FORMAT, VERSION, _CURE)
        try:
            return _receipt(content)
        except (ValueError, RecursionError) as error:
            raise FileRefused(f"{name} is damaged: {first_line(error)}; {_CURE}") from error


_CURE = "remove it and run the same `frostline extract` again, which makes its piece anew"
_FIELDS = frozenset({"format", "version", *Receipt.__dataclass_fields__})
_OF_VECTORS = frozenset(VectorFacts.__dataclass_fields__)
_OF_SHARD = frozenset(ShardFacts.__dataclass_fields__)


def _receipt(content: Mapping[str, Any]) -> Receipt:
    fields.check_names(content, _FIELDS, "the receipt")
    if type(content["shards"]) is not list:
        raise ValueError("shards is not a list")
    shards = tuple(map(_shard, content["shards"]))
    if (content["vectors"] is None) != (not shards):
        raise ValueError(f"it has {len(shards)} shards, and vectors {content['vectors']}")
    digest = content["rejects_digest"]
    if (digest is None) != (content["rejects"] == 0):
        raise ValueError(f"rejects is {shown(str(content['rejects']))}, with another digest")
    numbers = ("tokens", "truncated", "empty", "repaired")
    return Receipt(
        fields.count(content["piece"], "piece", 0, MAX_PIECES - 1),
        fields.sha256(content["order"], "order"),
        _vectors(content["vectors"]) if shards else None,
        shards,
        fields.count(content["rejects"], "rejects"),
        None if digest is None else fields.sha256(digest, "rejects_digest"),
        *(fields.count(content[name], name) for name in numbers),
    )


def _vectors(value: Any) -> VectorFacts:
    content = fields.check_names(value, _OF_VECTORS, "vectors")
    return VectorFacts(
        fields.sha256(content["fingerprint"], "fingerprint"),
        fields.widths(content["views"], "views"),
        fields.one_of(content["precision"], "precision", PRECISIONS),
        fields.one_of(content["store_dtype"], "store_dtype", STORE_DTYPES),
    )


def _shard(value: Any) -> ShardFacts:
    content = fields.check_names(value, _OF_SHARD, "a shard")
    label_names = fields.names(content["label_names"], "label_names")
    shard = ShardFacts(
        fields.count(content["rows"], "rows", 1),
        fields.count(content["bytes"], "bytes", 1),
        fields.sha256(content["seal"], "seal"),
        label_names,
        fields.counts(content["label_rows"], "label_rows", len(label_names)),
        fields.sha256(content["input_digest"], "input_digest"),
    )
    if sum(shard.label_rows) > shard.rows:
        raise ValueError(f"{sum(shard.label_rows)} rows have labels, of {shard.rows}")
    return shard
