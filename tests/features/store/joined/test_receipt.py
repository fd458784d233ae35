"""The receipt of a piece: what goes in comes out, and nothing else does."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import SPEC, write_store

from features.errors import FileRefused
from features.store.format import EMPTY, REPAIRED, TRUNCATED
from features.store.joined.describe import receipt_of
from features.store.joined.fields import sealed, unsealed
from features.store.joined.receipt import Receipt, ShardFacts, VectorFacts

ORDER = "e" * 64
SHARD = ShardFacts(3, 4096, "1" * 64, ("bad", "good"), (1, 2), "2" * 64)
RECEIPT = Receipt(
    12,
    ORDER,
    VectorFacts(SPEC.fingerprint, {"cls": 8}, "half", "float16"),
    (SHARD,),
    1,
    "3" * 64,
    20,
    0,
    1,
    2,
)
EMPTY_PIECE = Receipt(0, ORDER, None, (), 0, None, 0, 0, 0, 0)

hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
counts = st.integers(0, 2**63 - 1)


@st.composite
def shards(draw):
    names = draw(st.lists(st.text(), unique=True, max_size=3))
    rows = [draw(st.integers(0, 1000)) for _ in names]
    n_rows = sum(rows) + draw(st.integers(1, 1000))
    size = draw(st.integers(1, 2**63 - 1))
    return ShardFacts(n_rows, size, draw(hexes), tuple(names), tuple(rows), draw(hexes))


vectors = st.builds(
    VectorFacts,
    hexes,
    st.dictionaries(st.text(), st.integers(1, 2**63 - 1), min_size=1, max_size=3),
    st.sampled_from(["float32", "half", "int8"]),
    st.sampled_from(["float16", "float32"]),
)


@st.composite
def receipts(draw):
    of_piece = tuple(draw(st.lists(shards(), max_size=3)))
    rejects = draw(counts)
    rest = [rejects, draw(hexes) if rejects else None, *(draw(counts) for _ in range(4))]
    made = draw(vectors) if of_piece else None
    return Receipt(draw(st.integers(0, 9_999_999)), draw(hexes), made, of_piece, *rest)


@given(receipts())
def test_what_is_written_comes_back(receipt):
    again = Receipt.from_json(receipt.to_json(), "receipt")
    assert again == receipt
    assert again.to_json() == receipt.to_json()


def test_a_receipt_says_what_is_in_the_shards(tmp_path):
    X = np.arange(32, dtype=np.float32).reshape(4, 8)
    flags = [TRUNCATED, EMPTY | REPAIRED, 0, EMPTY]
    first = write_store(tmp_path / "1.h5", X, [0, 1, 1, -1], ("no", "yes"), flags=flags)
    second = write_store(tmp_path / "2.h5", X[:3], [0, 0, 0], ("no",))
    rejects = tmp_path / "rejects.jsonl"
    rejects.write_text('{"source": "a/b.csv", "line": 2}\n{"source": "b.csv", "line": 3}\n')
    receipt = receipt_of(5, ORDER, [first, second], rejects=rejects)
    assert receipt.vectors == VectorFacts(SPEC.fingerprint, {"cls": 8}, "float32", "float32")
    assert (receipt.piece, receipt.order, receipt.rejects) == (5, ORDER, 2)
    assert (receipt.truncated, receipt.empty, receipt.repaired) == (1, 2, 1)
    assert receipt.tokens == 7 * 5  # five of each row, in `write_store`
    assert receipt.rows == 7
    one, two = receipt.shards
    assert (one.rows, one.label_names, one.label_rows) == (4, ("no", "yes"), (1, 2))
    assert (two.rows, two.label_names, two.label_rows) == (3, ("no",), (3,))
    assert (one.bytes, two.bytes) == (first.stat().st_size, second.stat().st_size)
    assert one.seal == first.read_bytes()[-32:].hex()
    rejects.write_text(rejects.read_text().replace("a/b", "/elsewhere/b"))
    assert receipt_of(5, ORDER, [first, second], rejects=rejects) == receipt, "on another machine"


def test_a_piece_without_a_row_of_use():
    assert receipt_of(0, ORDER, [], rejects=Path("none.jsonl")) == EMPTY_PIECE
    assert Receipt.from_json(EMPTY_PIECE.to_json(), "receipt") == EMPTY_PIECE


def test_a_shard_that_was_cut_gets_no_receipt(tmp_path):
    path = write_store(tmp_path / "1.h5", np.ones((4, 8), np.float32), [0, 1, 1, -1])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileRefused, match=r"1\.h5"):
        receipt_of(0, ORDER, [path], rejects=tmp_path / "none.jsonl")


def changed(*path, to):
    content = unsealed(RECEIPT.to_json())
    at = content
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = to
    return sealed(content)


HOSTILE = {
    "nothing": b"",
    "no JSON": b"\x89HDF",
    "not UTF-8": b'"\xff"',
    "deep": b"[" * 100_000,
    "a number of many digits": b'{"format": ' + b"9" * 5000 + b"}",
    "a list": b"[]",
    "another format": changed("format", to="frostline-store"),
    "a later version": changed("version", to=2),
    "a version that is true": changed("version", to=True),
    "a field too many": changed("path", to="../../etc/passwd"),
    "a piece below 0": changed("piece", to=-1),
    "a piece that is true": changed("piece", to=True),
    "a piece of no store": changed("piece", to=10**9),
    "an order that is no digest": changed("order", to="e" * 63),
    "no vectors, but shards": changed("vectors", to=None),
    "vectors, but no shards": changed("shards", to=[]),
    "shards of another type": changed("shards", to={"0": {}}),
    "a view without columns": changed("vectors", "views", to={"cls": 0}),
    "no views": changed("vectors", "views", to={}),
    "another precision": changed("vectors", "precision", to="double"),
    "a precision of another type": changed("vectors", "precision", to=["half"]),
    "no rows": changed("shards", 0, "rows", to=0),
    "rows with a fraction": changed("shards", 0, "rows", to=3.0),
    "rows without end": changed("shards", 0, "rows", to=2**63),
    "labels without rows": changed("shards", 0, "label_rows", to=[1]),
    "more labels than rows": changed("shards", 0, "label_rows", to=[2, 2]),
    "a label twice": changed("shards", 0, "label_names", to=["bad", "bad"]),
    "a label that is a number": changed("shards", 0, "label_names", to=["bad", 1]),
    "rejects below 0": changed("rejects", to=-1),
    "rejects without a digest": changed("rejects_digest", to=None),
    "a digest without rejects": changed("rejects", to=0),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_refused_by_name_with_a_cure(case):
    with pytest.raises(FileRefused, match=r"^store/receipts/00012\.json ") as caught:
        Receipt.from_json(HOSTILE[case], "store/receipts/00012.json")
    cure = "update" if case.startswith("a later") or "version" in case else "extract"
    assert cure in str(caught.value)
    assert len(str(caught.value)) < 500


def test_every_field_is_checked():
    """Another type in any field is refused."""
    content = unsealed(RECEIPT.to_json())
    assert set(content) == {"format", "version", *(f.name for f in dataclasses.fields(Receipt))}
    for place, name in [(content, name) for name in content] + [
        (part, name) for part in (content["vectors"], content["shards"][0]) for name in part
    ]:
        kept, place[name] = place[name], 0.5
        with pytest.raises(FileRefused):
            Receipt.from_json(sealed(content), "receipt")
        place[name] = kept
    assert Receipt.from_json(sealed(content), "receipt") == RECEIPT
