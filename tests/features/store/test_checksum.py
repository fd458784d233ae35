"""The seal behind a feature file: every bit is covered, and HDF5 does not see it."""

import hashlib
import os
import shutil

import h5py
import numpy as np
import pytest
from stores import blobs, write_store

from features.base import disk
from features.errors import FileRefused
from features.store.checksum import MAGIC, SEAL_BYTES, check_seal, seal
from features.store.reader import FeatureStore

N, D = 40, 6
X, Y = blobs(N, D)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("sealed") / "s.h5", X, Y).read_bytes()


@pytest.fixture
def path(sealed, tmp_path):
    (tmp_path / "s.h5").write_bytes(sealed)
    return tmp_path / "s.h5"


def refusal(path):
    with pytest.raises(FileRefused) as caught:
        check_seal(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_store_ends_in_a_seal_of_all_before(path, sealed):
    before, tail = sealed[:-SEAL_BYTES], sealed[-SEAL_BYTES:]
    assert len(tail) == 56
    assert tail[:16] == MAGIC == b"frostline-seal\n\x01"
    assert int.from_bytes(tail[16:24], "little") == len(before)
    assert tail[24:] == hashlib.sha256(before).digest()
    seen = []
    check_seal(path, seen.append)
    assert sum(seen) == len(before)


def test_a_file_of_several_blocks(tmp_path):
    path = write_store(tmp_path / "big.h5", *blobs(3000, 400))
    assert path.stat().st_size > 3 * 2**20
    check_seal(path)
    data = bytearray(path.read_bytes())
    data[2 * 2**20 + 77] ^= 1
    path.write_bytes(data)
    assert "bits of it have changed" in refusal(path)


def test_plain_h5py_reads_what_is_sealed(path):
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["cls"][:], X)
        np.testing.assert_array_equal(file["label"][:], Y)


def test_a_file_without_a_seal_is_still_read(path, sealed):
    path.write_bytes(sealed[:-SEAL_BYTES])
    with FeatureStore(path) as store:
        np.testing.assert_array_equal(store.read("cls"), X)
    assert "does not end in its seal" in refusal(path)
    seal(path)
    assert path.read_bytes() == sealed


def test_the_same_rows_make_the_same_sealed_bytes(tmp_path, sealed):
    assert write_store(tmp_path / "again.h5", X, Y).read_bytes() == sealed


def test_every_single_bit_counts(path, sealed):
    """One bit of each byte: none of them is outside of the seal."""
    data = bytearray(sealed)
    with path.open("r+b", buffering=0) as file:
        for place in range(0, len(data), 1 if len(data) < 20_000 else len(data) // 20_000):
            bit = 1 << place % 8
            os.pwrite(file.fileno(), bytes([data[place] ^ bit]), place)
            with pytest.raises(FileRefused):
                check_seal(path)
            os.pwrite(file.fileno(), bytes([data[place]]), place)
    check_seal(path)


def edited_by_h5py(path):
    with h5py.File(path, "r+") as file:
        file.attrs["precision"] = "half"


def grown(path):
    with path.open("ab") as file:
        file.write(b"\0")


def with_a_hole(path):
    data = path.read_bytes()
    path.write_bytes(data[:1000] + data[1001:])


def put_in(path):
    data = path.read_bytes()
    path.write_bytes(data[:1000] + b"more" + data[1000:])


ALTERED = {
    "empty": (lambda path: path.write_bytes(b""), "does not end in its seal"),
    "shorter than a seal": (lambda path: path.write_bytes(b"x" * 55), "does not end in its seal"),
    "cut": (lambda path: os.truncate(path, path.stat().st_size - 1), "does not end in its seal"),
    "a byte more": (grown, "does not end in its seal"),
    "edited with h5py": (edited_by_h5py, "altered by another program"),
    "a byte less in the middle": (with_a_hole, "bytes before its seal, which was set behind"),
    "bytes put in": (put_in, "something is missing or was put in"),
    "not there": (lambda path: path.unlink(), "cannot be read: No such file"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is not a regular file"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "is not a regular file"),
    "a device": (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "is not a regular"),
    "a link to itself": (lambda path: (path.unlink(), path.symlink_to(path)), "cannot be read"),
}


@pytest.mark.parametrize("change", ALTERED)
def test_refused_with_the_reason(path, change):
    alter, wording = ALTERED[change]
    alter(path)
    message = refusal(path)
    assert wording in message
    assert str(path) in message


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path):
    path = write_store(tmp_path / "s.h5", *blobs(3000, 400))

    def cut(read):
        os.truncate(path, 2**20)

    with pytest.raises(FileRefused, match="bits of it have changed"):
        check_seal(path, cut)


def test_a_seal_that_cannot_be_written_is_an_error_of_the_system(tmp_path, monkeypatch):
    write = disk.write

    def full(handle, data):
        if bytes(data).startswith(MAGIC):
            raise OSError(28, "No space left on device")
        write(handle, data)

    monkeypatch.setattr(disk, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_store(tmp_path / "s.h5", X, Y)


def test_a_copy_is_as_sealed_as_the_file(path, tmp_path):
    shutil.copy(path, tmp_path / "copy.h5")
    check_seal(tmp_path / "copy.h5")
