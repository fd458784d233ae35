"""Receipts are joined if they fit together, and whoever joins them makes the same bytes."""

import os
import subprocess
import sys

import numpy as np
import pytest
from pieces_stores import write_order, write_piece, write_pieces
from stores import OTHER_SPEC, SPEC

from features.errors import FileRefused, InputError
from features.store.joined import layout
from features.store.joined.fields import sealed, unsealed
from features.store.joined.index import Index
from features.store.joined.join import join, so_far, survey
from features.store.reader import FeatureStore


@pytest.fixture
def store(tmp_path):
    write_pieces(tmp_path / "store")
    return tmp_path / "store"


def change(path, **changes):
    path.write_bytes(sealed(unsealed(path.read_bytes()) | changes))


def refusal(act, kind=FileRefused):
    with pytest.raises(kind) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_index_says_what_all_receipts_say(store):
    index = join(store)
    assert (index.pieces, index.vectors.spec, dict(index.vectors.views)) == (
        4,
        SPEC,
        {"cls": 8, "mean": 4},
    )
    assert index.piece.tolist() == [0, 0, 2, 3, 3, 3]
    assert [index.number(shard) for shard in range(6)] == [0, 1, 0, 0, 1, 2]
    assert index.rows.tolist() == [40, 31, 50, 33, 44, 1]
    assert index.totals == {
        "rejects": 1,
        "tokens": 5 * 199,
        "truncated": 0,
        "empty": 0,
        "repaired": 0,
    }
    assert index.provenance["inputs"] == ["a.csv", "b.csv"]
    assert index.label_names == ("negative", "neutral", "positive")
    assert sum(index.label_rows) == 199


def test_the_same_receipts_make_the_same_bytes(store):
    join(store)
    path = layout.store_path(store)
    made, status = path.read_bytes(), path.stat()
    join(store)
    assert path.stat() == status, "what is right is not written again"
    path.unlink()
    program = "import sys; from features.store.joined.join import join; join(sys.argv[1])"
    joining = [subprocess.Popen([sys.executable, "-c", program, store]) for _ in range(2)]
    assert [process.wait(60) for process in joining] == [0, 0]
    assert path.read_bytes() == made
    path.write_bytes(b"old")
    join(store)
    assert path.read_bytes() == made
    assert Index.from_json(made, "store.json").to_json() == made
    assert sorted(one.name for one in store.iterdir()) == [
        "order.json",
        *("piece-00000", "piece-00001", "piece-00002", "piece-00003"),
        *("receipts", "store.json"),
    ]


def test_missing_pieces_are_named_as_ranges(tmp_path):
    order = write_order(tmp_path / "s", 12)
    for piece in (0, 2, 6, 10):
        write_piece(tmp_path / "s", order, piece)
    for act in (lambda: join(tmp_path / "s"), lambda: FeatureStore(tmp_path / "s")):
        said = refusal(act)
        assert "lacks pieces 1, 3-5, 7-9, 11 of 12" in said
        assert "extract" in said and "part" in said
    found = survey(tmp_path / "s")
    assert (found.finished, found.missing) == ([0, 2, 6, 10], [1, 3, 4, 5, 7, 8, 9, 11])
    there = so_far(tmp_path / "s")
    assert (there.rows, there.rejects) == (160, 1)
    assert not layout.store_path(tmp_path / "s").exists()


def test_pieces_that_nobody_joined(store):
    assert f"frostline verify {store}" in refusal(lambda: FeatureStore(store))


def test_all_pieces_without_a_row_of_use(tmp_path):
    write_pieces(tmp_path / "s", [(), ()])
    assert "has no row of use" in refusal(lambda: join(tmp_path / "s"), InputError)


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ([("yes", "no"), ("yes", "no")], ["yes", "no"]),  # a mapping's order
        ([("yes", "no"), ("no",)], ["no", "yes"]),
        ([("10", "9"), ("b", "9")], ["9", "10", "b"]),
        ([(), ("b",)], ["b"]),
    ],
)
def test_order_of_labels(tmp_path, lists, expected):
    """As that of the same shards in a list."""
    order = write_order(tmp_path / "s", len(lists))
    shards = []
    for piece, names in enumerate(lists):
        if names:
            shards += write_piece(tmp_path / "s", order, piece, labels=names)
        else:
            write_piece(tmp_path / "s", order, piece, rows=())
    join(tmp_path / "s")
    with FeatureStore(tmp_path / "s") as store, FeatureStore(shards) as listed:
        assert store.label_names == listed.label_names == expected
        np.testing.assert_array_equal(store.labels(), listed.labels())
        assert store.label_counts() == listed.label_counts()


def test_receipts_that_do_not_fit_together(tmp_path):
    order = write_order(tmp_path / "s", 3)
    for piece, spec in enumerate([SPEC, SPEC, OTHER_SPEC]):
        write_piece(tmp_path / "s", order, piece, spec=spec)
    said = refusal(lambda: join(tmp_path / "s"))
    assert "receipts/00002.json" in said and "receipts/00000.json" in said
    assert SPEC.fingerprint[:12] in said and OTHER_SPEC.fingerprint[:12] in said


@pytest.mark.parametrize(
    ("options", "wording"),
    [
        ({"precision": "half"}, "precision: half"),
        ({"store_dtype": "float16"}, "store_dtype: float16"),
    ],
)
def test_receipts_of_other_vectors(tmp_path, options, wording):
    order = write_order(tmp_path / "s", 2)
    write_piece(tmp_path / "s", order, 0)
    write_piece(tmp_path / "s", order, 1, **options)
    assert wording in refusal(lambda: join(tmp_path / "s"))


def surplus(store):
    layout.receipt_path(store, 4).write_bytes(layout.receipt_path(store, 0).read_bytes())


def of_another_piece(store):
    layout.receipt_path(store, 2).write_bytes(layout.receipt_path(store, 0).read_bytes())


DAMAGE = {
    "a receipt too many": (surplus, "receipts/00004.json"),
    "a receipt in another's place": (of_another_piece, "receipts/00002.json"),
    "a receipt of another order": (
        lambda store: change(layout.receipt_path(store, 1), order="d" * 64),
        "receipts/00001.json",
    ),
    "a receipt that was cut": (
        lambda store: layout.receipt_path(store, 3).write_bytes(b'{"format'),
        "receipts/00003.json",
    ),
    "a receipt without end": (
        lambda store: os.truncate(layout.receipt_path(store, 3), 2**30),
        "receipts/00003.json",
    ),
    "a folder in place of a receipt": (
        lambda store: (
            layout.receipt_path(store, 3).unlink(),
            layout.receipt_path(store, 3).mkdir(),
        ),
        "receipts/00003.json",
    ),
    "another order": (
        lambda store: change(layout.order_path(store), inputs=[{"name": "c.csv"}]),
        "receipts/00000.json",
    ),
    "an order without pieces": (
        lambda store: change(layout.order_path(store), pieces={"count": 0}),
        "order.json",
    ),
    "an order of too many pieces": (
        lambda store: change(layout.order_path(store), pieces={"count": 10**12}),
        "order.json",
    ),
    "an order that was cut": (
        lambda store: layout.order_path(store).write_bytes(b"{"),
        "order.json",
    ),
    "a first shard that is missing": (
        lambda store: layout.shard_path(store, 0, 0).unlink(),
        "piece-00000/part-00000.h5",
    ),
    "a first shard of another encoder": (
        lambda store: change(
            layout.receipt_path(store, 0),
            vectors={
                "fingerprint": "9" * 64,
                "views": {"cls": 8},
                "precision": "half",
                "store_dtype": "float16",
            },
        ),
        "receipts/00000.json",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_refused_by_name(store, case):
    damage, name = DAMAGE[case]
    damage(store)
    with pytest.raises((FileRefused, InputError)) as caught:
        join(store)
    assert name in str(caught.value)
    assert len(str(caught.value)) < 700
    assert not layout.store_path(store).exists()


def test_leftovers_are_not_read(store):
    """Pieces in the making, and files that were being written when a job was killed."""
    for name in (".work/00007/part-00000.h5", "receipts/.00009.json.x/00009.json"):
        (store / name).parent.mkdir(parents=True)
        (store / name).write_bytes(b"half of it")
    (store / "receipts" / "00009.json.part").write_bytes(b"half of it")
    join(store)
    with FeatureStore(store) as opened:
        assert opened.n_rows == 199
