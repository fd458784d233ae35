"""Whatever happens to a store, `verify` finds it, names the file, and goes on."""

import dataclasses
import json
import os
import random
import struct
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from stores import OTHER_SPEC, SPEC, blobs, digests_of, write_store

from features.store import row_checks
from features.store.checksum import SEAL_BYTES, check_seal, seal
from features.store.reader import FeatureStore
from features.store.verify import verify

N, D = 120, 8
X, Y = blobs(N, D)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "s.h5"
    return write_store(path, {"cls": X, "mean": X[:, :4]}, Y).read_bytes()


@pytest.fixture
def path(good, tmp_path):
    (tmp_path / "s.h5").write_bytes(good)
    return tmp_path / "s.h5"


def reasons(path):
    found = [fault.reason for fault in verify(path).faults]
    assert all("\n" not in reason for reason in found)
    return found


@pytest.fixture
def children():
    """Processes that are started during the test."""
    started, watching = [], [True]
    sys.addaudithook(
        lambda event, _: started.append(event) if watching and event == "subprocess.Popen" else None
    )
    yield started
    watching.clear()


# ------------------------------------------------------------------------------------------- whole


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_whole_store(tmp_path, dtype):
    path = write_store(tmp_path / "s.h5", {"cls": X, "mean": X[:, :4]}, Y, store_dtype=dtype)
    shares = []
    found = verify(path, progress=shares.append)
    assert (found.whole, found.faults, found.remarks) == (True, (), ())
    assert (found.path, found.files, found.rows) == (str(path), 1, N)
    assert found.views == ("cls", "mean")
    assert found.bytes == path.stat().st_size
    assert shares == sorted(shares)
    assert 0.5 < shares[-1] <= 1
    assert json.loads(json.dumps(found.to_dict()))["whole"] is True


def test_a_folder(tmp_path, children):
    for name, seed in (("a.h5", 1), ("b.h5", 2), ("c.h5", 3)):
        source = write_store(tmp_path / "own", *blobs(N, D, seed=seed))
        (tmp_path / name).write_bytes(source.read_bytes())
        source.unlink()
    (tmp_path / "notes.txt").write_text("no shard")
    found = verify(tmp_path)
    assert (found.files, found.rows, found.faults) == (3, 3 * N, ())
    assert len(children) == 1, "one child does for all"


def test_a_store_of_several_blocks(tmp_path):
    def reasons_in_blocks(path):
        with FeatureStore(path) as store:
            sizes = {"block_bytes": 2048, "chunk_bytes": 512, "column_rows": 50}
            assert len(list(store.blocks("cls", block_bytes=2048, chunk_bytes=512))) > 1
            found = list(row_checks.faults(store, **sizes))
        assert found == reasons(path), "what verify finds in one block"
        return found

    texts = [f"text {i % 90}" for i in range(N)]
    vectors = X[np.arange(N) % 90]
    path = write_store(tmp_path / "s.h5", vectors, Y, texts=texts)
    assert reasons_in_blocks(path) == []
    vectors[97, 3] += 1
    vectors[101, 0] = np.nan
    path = write_store(tmp_path / "t.h5", vectors, Y, texts=texts)
    assert reasons_in_blocks(path) == [
        f"{path}: 1 vectors of 'cls' are not finite, the first is that of row 102",
        f"{path}: rows 8 and 98 have the same text and different vectors of 'cls'",
    ]


# ----------------------------------------------------------------------------------------- damage


def places_of(path, size):
    """Bytes of a file, by what is there."""
    with h5py.File(path) as file:
        chunks = [
            (info.byte_offset, info.size)
            for name in file
            for info in map(file[name].id.get_chunk_info, range(file[name].id.get_num_chunks()))
        ]
    in_chunks = {start + i for start, length in chunks for i in range(length)}
    content = size - SEAL_BYTES
    return {
        "first block": list(range(48)),
        # Headers, attributes, indexes of chunks, and the gaps that no checksum of HDF5's covers.
        "outside of chunks": [place for place in range(48, content) if place not in in_chunks],
        "in chunks": sorted(in_chunks),
        "checksums of chunks": [
            start + length - 1 - i for start, length in chunks for i in range(4)
        ],
        "seal": list(range(content, size)),
    }


def test_2000_flipped_bits(path, good, children):
    """Each is found, and none of the files comes near HDF5 in this process or another."""
    rng = random.Random(5)
    groups = places_of(path, len(good))
    assert {name for name, places in groups.items() if not places} == set()
    flips = [
        (rng.choice(places), rng.randrange(8)) for places in groups.values() for _ in range(200)
    ]
    flips += [(rng.randrange(len(good)), rng.randrange(8)) for _ in range(1000)]
    missed = []
    with path.open("r+b", buffering=0) as file:
        for place, bit in flips:
            os.pwrite(file.fileno(), bytes([good[place] ^ 1 << bit]), place)
            found = verify(path)
            if len(found.faults) != 1 or found.rows:
                missed.append((place, bit))
            os.pwrite(file.fileno(), good[place : place + 1], place)
    assert len(flips) == 2000
    assert missed == []
    assert children == []
    assert reasons(path) == []


def test_500_truncations(path, good, children):
    rng = random.Random(6)
    sizes = {
        0,
        1,
        47,
        48,
        55,
        56,
        57,
        len(good) - 57,
        len(good) - 56,
        len(good) - 55,
        len(good) - 1,
    }
    while len(sizes) < 500:
        sizes.add(rng.randrange(len(good)))
    missed = []
    for size in sorted(sizes, reverse=True):
        os.truncate(path, size)
        if len(verify(path).faults) != 1:
            missed.append(size)
    assert missed == []
    assert children == []


# ------------------------------------------------------------------- a right seal, a wrong content


def with_values(**columns):
    """A store whose columns say something else."""

    def make(folder):
        path = folder / "s.h5"
        write_store(path, X, Y)
        with h5py.File(path, "r+", libver=("v110", "v110")) as file:
            for name, (row, value) in columns.items():
                file[name][row] = value
        return resealed(path)

    return make


def resealed(path):
    """Seal what a stranger made, as he would."""
    seal(path)
    check_seal(path)
    return path


def edited(change):
    def make(folder):
        path = write_store(folder / "s.h5", X, Y)
        with h5py.File(path, "r+", libver=("v110", "v110")) as file:
            change(file)
        return resealed(path)

    return make


def narrow_digests(file):
    del file["digest"]
    file.create_dataset("digest", (N, 8), "u1", chunks=(N, 8), fletcher32=True)[:] = 0


def fewer_rows(file):
    old = file["flags"][:-1]
    del file["flags"]
    file.create_dataset("flags", data=old, chunks=old.shape, fletcher32=True)


def unsealed_bytes(path):
    data = bytearray(path.read_bytes())
    return data[:-SEAL_BYTES]


def flipped_chunk(folder):
    """One bit of a chunk, and a seal over it: only HDF5's own checksum can tell."""
    path = write_store(folder / "s.h5", {"cls": X, "mean": X[:, :4]}, Y)
    with h5py.File(path) as file:
        places = [file[name].id.get_chunk_info(0).byte_offset + 40 for name in ("cls", "n_tokens")]
    data = unsealed_bytes(path)
    for place in places:
        data[place] ^= 4
    path.write_bytes(data)
    return resealed(path)


def overlapping_chunks(folder):
    """Two views at one place, as HDF5's oldest layout allows: its indexes have no checksum."""
    sealed = write_store(folder / "sealed.h5", {"cls": X, "max": X}, Y)
    with h5py.File(sealed) as file, h5py.File(folder / "s.h5", "w", libver="earliest") as old:
        for name in file:
            data = file[name]
            old.create_dataset(
                name, data=data, dtype=data.dtype, chunks=data.shape, fletcher32=True
            )
        for name, value in file.attrs.items():
            old.attrs[name] = value
    with h5py.File(folder / "s.h5") as file:
        ours, theirs = (file[n].id.get_chunk_info(0).byte_offset for n in ("cls", "max"))
    data = (folder / "s.h5").read_bytes()
    assert data.count(struct.pack("<Q", theirs)) == 1
    (folder / "s.h5").write_bytes(data.replace(struct.pack("<Q", theirs), struct.pack("<Q", ours)))
    return resealed(folder / "s.h5")


def repeated_text(folder):
    return write_store(
        folder / "s.h5", X, Y, texts=["a", "b", "a", *(f"text {i}" for i in range(N - 3))]
    )


SEALED = {
    "a vector of nan": (
        with_values(cls=(7, np.nan)),
        ["1 vectors of 'cls' are not finite", "row 8"],
    ),
    "a vector of inf": (with_values(cls=(0, -np.inf)), ["not finite, the first is that of row 1"]),
    "a label that has no name": (with_values(label=(3, 3)), ["not among its label names"]),
    "a label below none": (with_values(label=(3, -2)), ["not among its label names"]),
    "an unknown flag": (with_values(flags=(119, 8)), ["'flags' of row 120 is 8, which no row"]),
    "no tokens": (with_values(n_tokens=(5, 0)), ["'n_tokens' of row 6 is 0"]),
    "more tokens than are read": (with_values(n_tokens=(5, 129)), ["'n_tokens' of row 6 is 129"]),
    "one text, two vectors": (repeated_text, ["rows 1 and 3 have the same text and different"]),
    "two faults": (
        with_values(cls=(7, np.nan), flags=(119, 8)),
        ["'flags' of row 120", "not finite"],
    ),
    "a label twice": (
        edited(lambda f: f.attrs.__setitem__("label_names", '["a", "b", "a"]')),
        ["names a label twice"],
    ),
    "another fingerprint": (
        edited(lambda f: f.attrs.__setitem__("fingerprint", "0" * 64)),
        ["its fingerprint 000000000000 is not that of its spec"],
    ),
    "short digests": (edited(narrow_digests), ["its digests have 8 bytes, not 16"]),
    "fewer rows in a column": (edited(fewer_rows), ["'flags' has 119 rows"]),
    "another dataset": (edited(lambda f: f.create_group("g")), ["more than a feature file: 'g'"]),
    "damaged chunks": (flipped_chunk, ["'n_tokens' is damaged", "'cls' is damaged"]),
    "chunks over each other": (overlapping_chunks, ["its chunks lie over each other"]),
}


@pytest.mark.parametrize("case", SEALED)
def test_what_a_stranger_sealed(tmp_path, case):
    make, wording = SEALED[case]
    path = make(tmp_path)
    text = "; ".join(reasons(path))
    for part in wording:
        assert part in text
    assert str(path) in text


def test_repetitions():
    texts = [random.Random(i).choice("abcdefgh") for i in range(60)] + ["alone"]
    rows, first = row_checks.repetitions(digests_of(texts))
    expected = [i for i, text in enumerate(texts) if texts.count(text) > 1]
    assert rows.tolist() == expected
    assert [texts.index(texts[row]) for row in expected] == first.tolist()
    half = np.zeros((4, 16), np.uint8)  # the first halves agree, the second ones don't all
    half[:, 15] = [1, 2, 1, 3]
    assert [part.tolist() for part in row_checks.repetitions(half)] == [[0, 2], [0, 0]]
    assert [len(part) for part in row_checks.repetitions(half[1:])] == [0, 0]


# ------------------------------------------------------------------------------- several files


def test_it_goes_on_after_a_fault(tmp_path):
    for name in "abcdef":
        write_store(tmp_path / f"{name}.h5", X, Y)
    (tmp_path / "a.h5").write_bytes(b"")
    os.truncate(tmp_path / "c.h5", 5000)
    with (tmp_path / "d.h5").open("r+b") as file:
        file.seek(3000)
        file.write(b"!?")
    (tmp_path / "e.h5").unlink()
    os.mkfifo(tmp_path / "e.h5")
    found = verify(tmp_path)
    assert [Path(fault.file).name for fault in found.faults] == [
        "a.h5",
        "c.h5",
        "d.h5",
        "e.h5",
    ]
    assert (found.files, found.rows, found.whole) == (6, 2 * N, False)


@pytest.mark.parametrize(
    ("other", "wording"),
    [
        ({"spec": OTHER_SPEC}, "weights: dddddddddddd here, aaaaaaaaaaaa there"),
        ({"spec": dataclasses.replace(SPEC, max_length=64)}, "max_length: 64 here, 128 there"),
        ({"store_dtype": "float16"}, "store dtype: float16 here, float32 there"),
    ],
)
def test_shards_that_do_not_belong_together(tmp_path, other, wording):
    write_store(tmp_path / "a.h5", X, Y)
    write_store(tmp_path / "b.h5", X, Y, **other)
    (reason,) = reasons(tmp_path)
    assert f"{tmp_path / 'b.h5'} and {tmp_path / 'a.h5'} don't belong together" in reason
    assert wording in reason


# --------------------------------------------------------------------------------------- hostile


def loop(path):
    path.symlink_to(path)


HOSTILE = {
    "nothing": (lambda path: None, "cannot be read: No such file"),
    "empty": (lambda path: path.write_bytes(b""), "does not end in its seal"),
    "not HDF5": (lambda path: path.write_bytes(b"id,text\n" * 50), "does not end in its seal"),
    "text with a seal": (
        lambda path: (path.write_bytes(b"id\n"), seal(path)),
        "not a readable HDF5",
    ),
    "a seal alone": (lambda path: (path.write_bytes(b""), seal(path)), "not a readable HDF5 file"),
    "other HDF5": (
        lambda path: (h5py.File(path, "w").close(), seal(path)),
        "not one of frostline's feature files",
    ),
    "a folder without files": (lambda path: path.mkdir(), "is a folder without feature files"),
    "a pipe": (os.mkfifo, "is not a regular file"),
    "an endless device": (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "cannot be read: No such file"),
    "a link to itself": (loop, "cannot be read: Too many levels"),
    "huge and empty": (lambda path: (path.touch(), os.truncate(path, 2**40)), "end in its seal"),
    "below a file": (lambda path: path.parent.joinpath("x").touch(), "cannot be read"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_paths(tmp_path, case):
    make, wording = HOSTILE[case]
    make(tmp_path / "s.h5")
    path = tmp_path / "x" / "s.h5" if case == "below a file" else tmp_path / "s.h5"
    (reason,) = reasons(path)
    assert wording in reason
    assert str(path) in reason


@pytest.mark.parametrize("path", ["a\0b", "\udcff", "", ".", "/", "x" * 300, "y/" * 3000])
def test_hostile_names(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (reason,) = reasons(path) if path != "/" else ["cannot be read"]
    assert "cannot be read" in reason or "folder without feature files" in reason


def test_a_link_to_a_store_is_that_store(path, tmp_path):
    (tmp_path / "link.h5").symlink_to(path)
    assert verify(tmp_path / "link.h5").rows == N


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_no_permission(path):
    path.chmod(0)
    assert "Permission denied" in reasons(path)[0]


def test_a_file_that_brings_the_child_down(path, monkeypatch):
    monkeypatch.setattr("features.base.child.code", lambda module: "import os; os.abort()")
    (reason,) = reasons(path)
    assert "signal 6" in reason


def test_a_file_that_is_replaced_meanwhile(path, good):
    """Once its seal is read, which is the first half of the work."""
    replaced = []

    def replacing(share):
        if share >= 0.5 and not replaced:
            path.unlink()
            replaced.append(path.write_bytes(good))

    (fault,) = verify(path, progress=replacing).faults
    assert "was replaced or changed while it was verified" in fault.reason


def test_a_journal_beside_it_is_mentioned(path, tmp_path):
    (tmp_path / ".s.h5.journal").write_bytes(bytes(2_500_000))
    found = verify(path)
    assert found.whole
    (remark,) = found.remarks
    assert "2.5 MB" in remark
    assert "frostline extract" in remark
