"""A joined store reads as the list of its shards does, and opens them when they are needed."""

import os
import shutil
import sys
from itertools import chain

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces_stores import write_pieces
from stores import SPEC, blobs, write_store

from features.errors import FileRefused, InputError
from features.spec.vector_spec import VectorSpec
from features.store import admission
from features.store.joined import layout, shard_files
from features.store.joined.describe import receipt_of
from features.store.joined.fields import sealed, unsealed
from features.store.joined.index import TOTALS, Index
from features.store.joined.join import join
from features.store.joined.order import read_order
from features.store.joined.receipt import Receipt, ShardFacts, VectorFacts
from features.store.reader import FeatureStore
from features.store.shards import open_shards
from features.store.verify import verify
from pipeline.data.join import open_joined


@pytest.fixture
def made(tmp_path):
    """A joined store and its shards."""
    shards = write_pieces(tmp_path / "store")
    join(tmp_path / "store")
    return tmp_path / "store", shards


@pytest.fixture
def strange(monkeypatch):
    """No file was written by this process."""
    monkeypatch.setattr(admission, "_known", set())


@pytest.fixture
def children():
    """Processes that are started during the test."""
    started, watching = [], [True]
    sys.addaudithook(
        lambda event, _: started.append(event) if watching and event == "subprocess.Popen" else None
    )
    yield started
    watching.clear()


def open_files():
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def test_it_reads_as_the_list_of_its_shards(made):
    path, shards = made
    rng = np.random.default_rng(0)
    with FeatureStore(path) as store, FeatureStore(shards) as listed:
        for name in (
            "n_rows",
            "views",
            "spec",
            "precision",
            "store_dtype",
            "label_names",
            "starts",
        ):
            assert getattr(store, name) == getattr(listed, name), name
        assert store.paths == shards
        assert [one.provenance for one in store.shards] == listed.provenance
        assert (str(store), store.n_pieces, store.n_shards) == (str(path), 4, 6)
        assert store.ids() == listed.ids()
        assert store.label_counts() == listed.label_counts()
        for read in (
            lambda one: one.labels(),
            lambda one: one.digests(),
            lambda one: one.n_tokens(slice(30, 90)),
            lambda one: one.flags(slice(71, 71)),
            lambda one: one.column("id", slice(198, 500)),
            lambda one: one.read(["mean", "cls"]),
            lambda one: one.read("cls", np.arange(199) % 3 == 1),
        ):
            np.testing.assert_array_equal(read(store), read(listed))
        for _ in range(20):
            rows = np.unique(rng.integers(0, 199, rng.integers(0, 60)))
            np.testing.assert_array_equal(store.take("mean", rows), listed.take("mean", rows))
        for start in (0, 39, 40, 70, 71, 150, 198, 199, 300):
            ours, theirs = (
                list(one.blocks("cls", start=start, block_bytes=200, chunk_bytes=64))
                for one in (store, listed)
            )
            assert [first for first, _ in ours] == [first for first, _ in theirs]
            for (_, one), (_, other) in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one, other)
        assert store.to_arrow("cls").read_all() == listed.to_arrow("cls").read_all()


def test_a_data_set_of_it(made):
    path, shards = made
    with FeatureStore(path) as store, FeatureStore(shards) as listed:
        ours, theirs = store.to_torch("mean"), listed.to_torch("mean")
    for number in (198, 0, 77):
        np.testing.assert_array_equal(ours[number][0], theirs[number][0])
        assert ours[number][1] == theirs[number][1]
    ours.close()
    index = layout.store_path(path)
    index.write_bytes(index.read_bytes() + b" ")
    with pytest.raises(FileRefused, match="has changed since"):
        ours[0]
    theirs.close()


def test_few_files_are_open_at_a_time(tmp_path):
    rows = [(31,)] * 30
    shards = write_pieces(tmp_path / "s", rows)
    join(tmp_path / "s")
    before = open_files()
    with FeatureStore(tmp_path / "s") as store:
        assert open_files() == before, "opening a store opens no shard"
        most = 0
        for _ in chain(store.blocks("cls"), store.blocks("mean", start=500)):
            most = max(most, open_files() - before)
        assert most == shard_files.OPEN_FILES
        blocks = store.blocks("cls", block_bytes=64, chunk_bytes=64)
        next(blocks)
        store.labels()  # closes the shard that is being read
        np.testing.assert_array_equal(next(blocks)[1], blobs(31, 8, 3, seed=0)[0][2:4])
    assert open_files() == before
    assert len(shards) == 30


def test_a_shard_in_use_stays_open(made):
    path, _ = made
    shards = shard_files.ShardFiles(path, open_shards(path).index, open_files=1)
    with shards.opened(0) as first:
        for number in range(1, 6):
            with shards.opened(number) as file:
                assert file
        assert first
        with shards.opened(0) as again:
            assert again is first
    shards.close()
    assert not first
    with pytest.raises(InputError, match="is closed"), shards.opened(0):
        pass


def test_children_look_at_shards_in_batches(tmp_path, strange, children, monkeypatch):
    """A few at first, as maybe no more are needed, then more and more."""
    monkeypatch.setattr(shard_files, "FIRST_BATCH", 2)
    monkeypatch.setattr(shard_files, "LARGEST_BATCH", 4)
    write_pieces(tmp_path / "s", [(2,)] * 15)
    admission._known.clear()  # written by this process
    join(tmp_path / "s")
    assert len(children) == 1, "for the first shard"
    with FeatureStore(tmp_path / "s") as store:
        assert len(children) == 1, "none to open it"
        store.ids(slice(6, 8))
        assert len(children) == 2, "for shards 3 and 4"
        store.ids()
        # 0 to 2 (as 3 is known), 5 to 8, 9 to 12, 13 and 14
        assert len(children) == 2 + 4
        store.labels()
        assert len(children) == 2 + 4


def missing(path, shards):
    shards[3].unlink()
    return shards[3]


def cut(path, shards):
    shards[3].write_bytes(shards[3].read_bytes()[:-1])
    return shards[3]


def swapped(path, shards):
    a, b = shards[3].read_bytes(), shards[1].read_bytes()
    shards[3].write_bytes(b)
    shards[1].write_bytes(a)
    return shards[1]


def of_the_same_size(path, shards):
    """Another shard, of other rows, has the same size."""
    X, y = blobs(33, 8, 3, seed=1)
    ids = [f"3:0:{row}" for row in range(33)]
    size = shards[3].stat().st_size
    shards[3].unlink()
    write_store(shards[3], {"cls": X, "mean": X[:, :4]}, y, ids=ids)
    assert shards[3].stat().st_size == size
    return shards[3]


def a_folder(path, shards):
    shards[3].unlink()
    shards[3].mkdir()
    return shards[3]


def a_loop_of_links(path, shards):
    shards[3].unlink()
    shards[3].symlink_to(shards[3].name)
    return shards[3]


def without_its_piece(path, shards):
    shutil.rmtree(shards[3].parent)
    return shards[3]


@pytest.mark.parametrize(
    "damage",
    [missing, cut, swapped, of_the_same_size, a_folder, a_loop_of_links, without_its_piece],
)
def test_a_shard_that_is_not_as_promised(made, damage):
    path, shards = made
    broken = damage(path, shards)
    with FeatureStore(path) as store:
        assert store.n_rows == 199
        store.ids(slice(0, 40))  # of shards before it
        with pytest.raises(FileRefused, match=str(broken)) as caught:
            store.read("cls")
        assert "\n" not in str(caught.value)
        store.ids(slice(0, 40))
        if damage is not a_loop_of_links:
            number = layout.piece_of(broken.parent.name.replace("piece-", "") + ".json")
            assert f"receipts/{number:05d}.json" in str(caught.value)
            assert "extract" in str(caught.value)


def test_a_shard_that_is_replaced_while_the_store_is_open(made):
    path, shards = made
    with FeatureStore(path) as store:
        store.ids()
        for _ in range(2):
            of_the_same_size(path, shards)
            with FeatureStore(path) as again, pytest.raises(FileRefused, match="promises"):
                again.read("cls")


def test_a_shard_that_lies_about_itself(made):
    """It has the size and the seal of its receipt, and other rows."""
    path, shards = made
    index = unsealed(layout.store_path(path).read_bytes())
    index["shards"]["rows"][2] += 1
    index["rows"] += 1
    layout.store_path(path).write_bytes(sealed(index))
    with FeatureStore(path) as store, pytest.raises(FileRefused, match="other rows"):
        store.labels()
    assert shards


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**70) | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=5,
)
RECEIPT = Receipt(
    1,
    "e" * 64,
    VectorFacts(SPEC.fingerprint, {"cls": 8}, "half", "float16"),
    (ShardFacts(3, 4096, "1" * 64, ("bad", "good"), (1, 2), "2" * 64),),
    0,
    None,
    *range(1, 5),
).to_json()
INDEX = Index(
    "e" * 64,
    3,
    VectorSpec(SPEC, {"cls": 8}, "half", "float16"),
    {"inputs": ["a.csv"]},
    ("bad", "good"),
    (1, 2),
    dict.fromkeys(TOTALS, 1),
    (("bad", "good"), ("good",)),
    *(np.array(column) for column in ([0, 2], [3, 4], [4096, 5000], [0, 1])),
    ("1" * 64, "3" * 64),
).to_json()


def changed(content, *place, to):
    at = content
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = to


HOSTILE = {
    "another order": (["order"], "c" * 64),
    "another format": (["format"], "frostline-receipt"),
    "a later version": (["version"], 2),
    "a spec of another encoder": (["spec", "weights"], "e" * 64),
    "a spec without weights": (["spec"], {}),
    "pieces below those of its shards": (["pieces"], 3),
    "more rows than its shards": (["rows"], 200),
    "pieces out of order": (["shards", "piece"], [0, 0, 2, 3, 3, 1]),
    "a piece below 0": (["shards", "piece"], [-1, 0, 2, 3, 3, 3]),
    "rows of a shard that are not": (["shards", "rows"], [40, 31, 50, 33, 44, True]),
    "rows without end": (["shards", "rows"], [40, 31, 50, 33, 44, 2**64]),
    "a column that is short": (["shards", "bytes"], [1]),
    "no shards": (
        ["shards"],
        {"piece": [], "rows": [], "bytes": [], "label_list": [], "seal": []},
    ),
    "a seal that is none": (["shards", "seal"], ["0" * 64] * 5 + ["../../passwd"]),
    "labels that are nowhere": (["shards", "label_list"], [0, 0, 0, 0, 0, 1]),
    "labels of another type": (["label_lists"], {"0": []}),
    "classes of its own": (["label_lists"], [["bad"]]),
    "totals below 0": (["totals", "rejects"], -1),
    "a provenance of another type": (["provenance"], []),
    "inputs of another type": (["provenance", "inputs"], 5),
    "versions of another type": (["provenance", "versions"], ["torch"]),
    "views of another type": (["views"], ["cls"]),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_index_of_strangers(made, case):
    path, _ = made
    content = unsealed(layout.store_path(path).read_bytes())
    place, to = HOSTILE[case]
    changed(content, *place, to=to)
    layout.store_path(path).write_bytes(sealed(content))
    with pytest.raises(FileRefused, match=r"store\.json") as caught:
        FeatureStore(path)
    assert len(str(caught.value)) < 500
    assert "update" in str(caught.value) or "frostline verify" in str(caught.value)


def test_a_piece_that_was_made_again_since(made):
    """On another kind of machine, say: its receipt is right, and the index older."""
    path, shards = made
    broken = of_the_same_size(path, shards)
    receipt = receipt_of(3, read_order(path).digest, shards[3:], rejects=path / "none.jsonl")
    layout.receipt_path(path, 3).write_bytes(receipt.to_json())
    with (
        FeatureStore(path) as store,
        pytest.raises(FileRefused, match="frostline verify") as caught,
    ):
        store.labels()
    assert "store.json is older" in str(caught.value)
    assert verify(path).whole
    with FeatureStore(path) as store, FeatureStore(broken) as file:
        assert store.ids(slice(121, 154)) == file.ids()


@given(st.data())
@settings(max_examples=150)
def test_whatever_an_index_or_a_receipt_holds(data):
    """Any part of it replaced by anything: it is refused, or it is as right as before."""
    kind, valid = data.draw(st.sampled_from([(Index, INDEX), (Receipt, RECEIPT)]))
    content = unsealed(valid)
    at, steps = content, []
    while isinstance(at, dict | list) and at and (not steps or data.draw(st.booleans())):
        steps.append(data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else [0, -1])))
        above, at = at, at[steps[-1]]
    above[steps[-1]] = data.draw(ANYTHING)
    try:
        read = kind.from_json(sealed(content), "file.json")
    except FileRefused as error:
        assert str(error).startswith("file.json ") and len(str(error)) < 700
    else:
        assert kind.from_json(read.to_json(), "file.json").to_json() == read.to_json()


def test_files_and_joined_stores_in_one_row(made, tmp_path):
    path, shards = made
    X, y = blobs(40, 8, 3, seed=7)
    more = write_store(tmp_path / "more.h5", {"cls": X, "mean": X[:, :4]}, y)
    with FeatureStore([more, path]) as store, FeatureStore([more, *shards]) as listed:
        np.testing.assert_array_equal(store.read("cls"), listed.read("cls"))
        np.testing.assert_array_equal(store.labels(), listed.labels())
        assert store.ids() == listed.ids() and store.paths == listed.paths
        assert store.label_counts() == listed.label_counts()
        rows = np.array([3, 39, 40, 200, 238])
        np.testing.assert_array_equal(store.take("mean", rows), listed.take("mean", rows))
    with open_joined([path, more]) as joined:
        assert joined.n_rows == 239
    with pytest.raises(InputError, match="given twice"), open_joined([path, shards[2]]):
        pass


def test_a_copy_of_a_process_that_was_forked(made):
    """A data set opens the store again in another process."""
    path, _ = made
    with FeatureStore(path) as store:
        data = store.to_torch("cls")
        first = data[0][0].copy()
    data._process = os.getpid() + 1  # as after a fork
    np.testing.assert_array_equal(data[0][0], first)
    data.close()
