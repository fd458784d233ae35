import errno
import hashlib
import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from damage import flip_a_byte

from features.base import disk
from features.errors import CannotContinue, FileRefused
from features.extraction.journal import Header, Journal
from features.extraction.shard_builder import ShardBuilder
from features.spec.encoder_spec import EncoderSpec
from features.spec.vector_spec import VectorSpec
from features.store.format import EMPTY, REPAIRED, TRUNCATED, Shard
from features.store.reader import FeatureStore
from features.store.writer import write_shard

SPEC = EncoderSpec("some-model", None, "a" * 64, "b" * 64, "c" * 64, 128, "none")
VIEWS = {"cls": 4, "mean": 3}
REPOSITORY = Path(__file__).parents[3]


def digest(text):
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def vectors_of(texts):
    """Vectors that tell their text: made from its digest."""
    seeds = [int.from_bytes(digest(text)[:4]) for text in texts]
    return {
        view: np.array(
            [np.random.default_rng(seed).standard_normal(width) for seed in seeds], np.float32
        ).reshape(-1, width)
        for view, width in VIEWS.items()
    }


@contextmanager
def building(path, dtype="float32", previous=None):
    with Journal(path) as journal:
        journal.begin(Header(VectorSpec(SPEC, VIEWS, "float32", dtype), "float32"))
        with ShardBuilder(path, journal) as builder:
            if previous is not None:
                builder.take_over(previous)
            yield journal, builder
        journal.remove()


def add(run, texts, ids=None, labels=None):
    """Add a window of rows as `extract` does; give the texts that were new."""
    journal, builder = run
    known = builder.slots([digest(text) for text in texts])
    new = [text for text in dict.fromkeys(texts) if digest(text) not in known]
    if new:
        # In another order, as by length.
        places = journal.append([digest(text) for text in new[::-1]], vectors_of(new[::-1]))
        builder.add_texts(
            [digest(text) for text in new],
            [len(text) for text in new],
            [len(text) > 5 for text in new],
            places[::-1],
        )
        known = builder.slots([digest(text) for text in texts])
    first = builder.n_rows
    builder.add_rows(
        ids or [f"row {first + i}" for i in range(len(texts))],
        labels or [None] * len(texts),
        [known[digest(text)] for text in texts],
        [not text for text in texts],
        ["\ufffd" in text for text in texts],
    )
    return new


def commit(run, path, label_names=None, write=write_shard):
    journal, builder = run
    shard = Shard(journal.header.vectors, [], {})
    builder.commit(path, shard, label_names, write)


def make(path, windows, dtype="float32", previous=None, write=write_shard, **options):
    with building(path, dtype, previous) as run:
        new = [add(run, window, **options) for window in windows]
        commit(run, path, write=write)
    return new


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_come_out_in_order_and_share_vectors(tmp_path, dtype):
    windows = [["b", "a", "b"], ["c", "a", ""], ["a longer one", "b", "caf\ufffd"]]
    texts = [text for window in windows for text in window]
    new = make(tmp_path / "a.h5", windows, dtype)
    assert new == [["b", "a"], ["c", ""], ["a longer one", "caf\ufffd"]]
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.ids() == [f"row {i}" for i in range(9)]
        assert [bytes(row) for row in store.digests()] == [digest(text) for text in texts]
        assert store.n_tokens().tolist() == [len(text) for text in texts]
        assert store.flags().tolist() == [0, 0, 0, 0, 0, EMPTY, TRUNCATED, 0, REPAIRED]
        assert store.store_dtype == dtype
        for view, expected in vectors_of(texts).items():
            stored = expected.astype(dtype).astype(np.float32)
            np.testing.assert_array_equal(store.read(view), stored)
    assert names_in(tmp_path) == ["a.h5"]


def test_flags_of_a_row_add_up(tmp_path):
    with building(tmp_path / "a.h5") as run:
        journal, builder = run
        places = journal.append([digest("x")], vectors_of(["x"]))
        builder.add_texts([digest("x")], [3], [True], places)
        slots = builder.slots([digest("x")])
        builder.add_rows(["1", "2"], [None, None], [slots[digest("x")]] * 2, [True, 0], [True, 0])
        commit(run, tmp_path / "a.h5")
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.flags().tolist() == [TRUNCATED | EMPTY | REPAIRED, TRUNCATED]


@pytest.mark.parametrize(
    ("given", "names", "codes"),
    [
        (None, ["neg", "pos"], [1, -1, 0, 1]),
        (["pos", "neg", "neu"], ["pos", "neg", "neu"], [0, -1, 1, 0]),
    ],
)
def test_labels(tmp_path, given, names, codes):
    with building(tmp_path / "a.h5") as run:
        add(run, list("ab"), labels=["pos", None])
        add(run, list("cd"), labels=["neg", "pos"])
        commit(run, tmp_path / "a.h5", given)
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.label_names == names
        assert store.labels().tolist() == codes


def test_ids_of_every_length(tmp_path):
    ids = ["", "é" * 100, "a", "日本", " "]
    make(tmp_path / "a.h5", [list("abcde")], ids=ids)
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.ids() == ids


def test_more_rows_than_a_block_holds(tmp_path):
    texts = [str(i % 700) for i in range(2000)]
    write = partial(write_shard, chunk_bytes=256, block_bytes=1024)
    make(tmp_path / "a.h5", [texts[:900], texts[900:]], write=write)
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.ids() == [f"row {i}" for i in range(2000)]
        for view, expected in vectors_of(texts).items():
            np.testing.assert_array_equal(store.read(view), expected)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existed", [False, True])
def test_an_error_before_the_end_leaves_what_was_there(tmp_path, error, existed):
    path = tmp_path / "a.h5"
    if existed:
        make(path, [["old"]])
    before = path.read_bytes() if existed else None

    def stopped():
        with building(path) as run:
            add(run, ["new"])
            assert names_in(tmp_path)[:2] == [".a.h5.journal", ".a.h5.partial"]
            raise error

    with pytest.raises(error):
        stopped()
    assert names_in(tmp_path) == [".a.h5.journal", *(["a.h5"] if existed else [])]
    assert not existed or path.read_bytes() == before


def test_an_error_at_the_very_end_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    make(path, [["old"]])
    before = path.read_bytes()

    def full(path, to):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        make(path, [["new"]])
    assert names_in(tmp_path) == [".a.h5.journal", "a.h5"]
    assert path.read_bytes() == before


def test_without_commit_nothing_appears(tmp_path):
    with building(tmp_path / "a.h5") as run:
        add(run, ["new"])
    assert not names_in(tmp_path)


def test_scratch_of_a_killed_run_is_in_nobodys_way(tmp_path):
    (tmp_path / ".a.h5.partial" / "deep").mkdir(parents=True)
    for name in ("rows", "texts", "shard.h5", "texts.sqlite", "deep/er"):
        (tmp_path / ".a.h5.partial" / name).write_bytes(b"of another run")
    make(tmp_path / "a.h5", [["a", "b"]])
    make(tmp_path / "b.h5", [["a", "b"]])
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert names_in(tmp_path) == ["a.h5", "b.h5"]


def test_a_disk_that_gives_back_something_else_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    make(path, [["old"]])
    before = path.read_bytes()

    def sync(handle, fsync=disk.sync):
        fsync(handle)
        if b"HDF" in os.pread(handle, 8, 0):
            where = os.fstat(handle).st_size - 5  # of the last dataset
            byte = os.pread(handle, 1, where)[0]
            os.pwrite(handle, bytes([byte ^ 1]), where)

    monkeypatch.setattr(disk, "sync", sync)
    with pytest.raises(CannotContinue, match="does not give back what was written"):
        make(path, [["new"]])
    assert path.read_bytes() == before


# ------------------------------------------------------------------------------ a previous store


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_previous_store_is_used(tmp_path, dtype):
    path = tmp_path / "a.h5"
    make(path, [["b", "a longer one", "b", ""]], dtype)
    with FeatureStore(path) as before:
        old = {view: before.read(view) for view in VIEWS}
        # `c` is new; the others are there, though in other rows and not all of them.
        assert make(path, [["c", "a longer one"], ["c", "b"]], dtype, before) == [["c"], []]
    with FeatureStore(path) as after:
        assert after.n_tokens().tolist() == [1, 12, 1, 1]
        assert after.flags().tolist() == [0, TRUNCATED, 0, 0]
        for view in VIEWS:
            rows = after.read(view)
            np.testing.assert_array_equal(rows[1], old[view][1])
            np.testing.assert_array_equal(rows[3], old[view][0])
            new = vectors_of(["c"])[view].astype(dtype).astype(np.float32)
            np.testing.assert_array_equal(rows[[0, 2]], new[[0, 0]])


def test_a_previous_store_alone(tmp_path):
    path = tmp_path / "a.h5"
    make(path, [["a", "b", "c"]])
    with FeatureStore(path) as before:
        assert make(path, [["c", "c", "a"]], previous=before) == [[]]
    with FeatureStore(path) as after:
        for view, expected in vectors_of(["c", "c", "a"]).items():
            np.testing.assert_array_equal(after.read(view), expected)


@pytest.mark.parametrize(
    ("change", "repeats"),
    [
        ({}, True),
        ({"texts": ["b", "a", "c"]}, False),
        ({"texts": ["a", "b"]}, False),
        ({"texts": ["a", "b", "c", "c"]}, False),
        ({"texts": ["a", "b", "b"]}, False),
        ({"labels": ["x", "y", "y"]}, False),
        ({"labels": ["x", "y", None]}, False),
        ({"labels": ["y", "x", "x"]}, False),
        ({"labels": ["1", "2", "1"]}, False),
        ({"ids": ["1", "2", "4"]}, False),
        ({"ids": ["12", "", "3"]}, False),
        ({"names": ["y", "x"]}, False),
        ({"names": ["x", "y", "z"]}, False),
        ({"names": ["x", "y"]}, True),
    ],
)
def test_whether_rows_repeat_a_store(tmp_path, change, repeats):
    same = {"texts": ["a", "b", "c"], "labels": ["x", "y", "x"], "ids": ["1", "2", "3"]}
    path = tmp_path / "a.h5"
    make(path, [same["texts"]], ids=same["ids"], labels=same["labels"])
    rows = {**same, **change}
    names = rows.pop("names", None)
    n = len(rows["texts"])
    with FeatureStore(path) as store, building(path, previous=store) as run:
        add(
            run,
            rows["texts"],
            ids=(rows["ids"] * 2)[:n],
            labels=(rows["labels"] * 2)[:n],
        )
        assert run[1].repeats(store, names) is repeats


def test_a_previous_store_with_damaged_vectors_is_not_copied(tmp_path):
    path = tmp_path / "a.h5"
    make(path, [["a", "b", "c"]])
    flip_a_byte(path, "mean")
    before = path.read_bytes()
    with FeatureStore(path) as store, pytest.raises(FileRefused, match="'mean' is damaged"):
        make(path, [["a", "d"]], previous=store)
    assert path.read_bytes() == before
    assert names_in(tmp_path) == [".a.h5.journal", "a.h5"]


@pytest.mark.parametrize("name", ["digest", "n_tokens", "flags"])
def test_a_previous_store_that_cannot_be_read_leaves_no_scratch(tmp_path, name):
    path = tmp_path / "a.h5"
    make(path, [["a", "b", "c"]])
    flip_a_byte(path, name)
    with FeatureStore(path) as store, pytest.raises(FileRefused, match=f"'{name}' is damaged"):
        make(path, [["a", "d"]], previous=store)
    assert names_in(tmp_path) == ["a.h5"]


# ------------------------------------------------------------------------------------ a full disk

# A limit on the size of files stands for a disk that is full: the write fails, at any point.
LIMITED = """
import resource, sqlite3, sys
from pathlib import Path
import numpy as np
from features.extraction.shard_builder import ShardBuilder
from features.extraction.journal import Header, Journal
from features.spec.encoder_spec import EncoderSpec
from features.spec.vector_spec import VectorSpec
from features.store.format import Shard
from features.store.reader import FeatureStore
from features.store.writer import write_shard

path, limit, n = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
previous = FeatureStore(path) if path.exists() else None
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
spec = EncoderSpec("m", None, "a" * 64, "b" * 64, "c" * 64, 128, "none")
try:
    with Journal(path) as journal, ShardBuilder(path, journal) as builder:
        if previous is not None:
            builder.take_over(previous)
        journal.begin(Header(VectorSpec(spec, {"cls": 384}, "float32", "float32"), "float32"))
        texts = [i.to_bytes(16, "big") for i in range(n)]
        known = builder.slots(texts)
        new = [text for text in texts if text not in known]
        places = journal.append(new, {"cls": np.ones((len(new), 384), np.float32)})
        builder.add_texts(new, [3] * len(new), [False] * len(new), places)
        builder.add_rows(list(map(str, range(n))), [None] * n, range(n), [False] * n, [False] * n)
        shard = Shard(VectorSpec(spec, {"cls": 384}, "float32", "float32"), [], {})
        builder.commit(path, shard, None)
        journal.remove()
    print("committed")
except (OSError, sqlite3.Error) as error:
    print("stopped with", journal.kept, "kept")
"""
UNLIMITED = 10**9
VECTOR_BYTES = 300 * 384 * 4


def limited(path, limit, n=300):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path, str(limit), str(n)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    return done.returncode, done.stdout.strip(), done.stderr


@pytest.fixture(scope="module")
def of_300_rows(tmp_path_factory):
    pytest.importorskip("resource", reason="limits on files are POSIX's")
    path = tmp_path_factory.mktemp("journal") / "a.h5"
    assert limited(path, UNLIMITED) == (0, "committed", "")
    return path


@pytest.mark.parametrize("existed", [False, True], ids=["new", "extends"])
@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        pytest.param(1000, 0, id="at the index"),
        pytest.param(30_000, 0, id="at the vectors"),
        pytest.param(VECTOR_BYTES, 0, id="at the last of the vectors"),
        pytest.param(VECTOR_BYTES + 6_000, 300, id="at the shard"),
        pytest.param("the shard", 300, id="at the last byte of the shard"),
    ],
)
def test_a_full_disk_leaves_what_was_there(tmp_path, of_300_rows, limit, kept, existed):
    path = tmp_path / "a.h5"
    if existed:
        path.write_bytes(of_300_rows.read_bytes())
    if limit == "the shard":
        limit = of_300_rows.stat().st_size - 1
    expected = f"stopped with {kept} kept"
    assert limited(path, limit, 600 if existed else 300) == (0, expected, "")
    left = [".a.h5.journal"] if kept else []
    assert names_in(tmp_path) == left + (["a.h5"] if existed else [])
    assert not existed or path.read_bytes() == of_300_rows.read_bytes()
    assert limited(path, UNLIMITED, 600 if existed else 300) == (0, "committed", "")
    assert names_in(tmp_path) == ["a.h5"]
