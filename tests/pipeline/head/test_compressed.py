"""Heads that were compressed are read as they were; what else is packed is refused with a cure."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib

import joblib
import numpy as np
import pytest
from stores import make_head

from features.errors import FileRefused
from pipeline.head.compressed import unpacked
from pipeline.head.head import load_head, save_head

BY_JOBLIB = [3, True, ("zlib", 9), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)]
BY_HAND = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zlib": zlib.compress,
}


def assert_same(loaded, head):
    assert (loaded.labels, loaded.sources) == (head.labels, head.sources)
    np.testing.assert_array_equal(loaded.coef, head.coef)
    np.testing.assert_array_equal(loaded.intercept, head.intercept)


@pytest.fixture
def saved(tmp_path):
    head = make_head()
    save_head(head, tmp_path / "head.joblib")
    return head, tmp_path / "head.joblib"


@pytest.mark.parametrize("how", BY_JOBLIB, ids=str)
@pytest.mark.parametrize("protocol", [4, 5])
def test_a_head_that_joblib_compressed_is_read(saved, how, protocol):
    head, path = saved
    joblib.dump(joblib.load(path), path, compress=how, protocol=protocol)
    assert not path.read_bytes().startswith(b"\x80")
    assert_same(load_head(path), head)


@pytest.mark.parametrize("how", BY_HAND)
def test_a_head_that_was_compressed_by_hand_is_read(saved, how):
    head, path = saved
    packed = path.with_suffix(".packed")
    packed.write_bytes(BY_HAND[how](path.read_bytes()))
    assert_same(load_head(packed), head)


@pytest.mark.parametrize("how", BY_HAND)
@pytest.mark.parametrize("fault", ["cut", "changed", "longer"])
def test_damage_is_refused(saved, how, fault):
    _, path = saved
    data = bytearray(BY_HAND[how](path.read_bytes()))
    if fault == "cut":
        del data[-20:]
    elif fault == "longer":
        data += b"something else"
    else:
        data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(FileRefused, match=r"head\.joblib") as caught:
        load_head(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", BY_HAND)
def test_what_would_unpack_to_more_than_a_head_is_refused(how):
    with pytest.raises(FileRefused, match="more than 1,000 bytes"):
        unpacked(BY_HAND[how](bytes(1001)), 1000)
    assert unpacked(BY_HAND[how](bytes(1000)), 1000) == bytes(1000)


def test_a_bomb_is_refused(saved):
    _, path = saved
    path.write_bytes(zlib.compress(bytes(2**24)))
    with pytest.raises(FileRefused, match=r"head\.joblib: unpacked it has more than 1,048,576"):
        load_head(path, max_bytes=2**20)


def test_a_dictionary_beyond_all_measure_is_refused(saved):
    _, path = saved
    data = bytearray(lzma.compress(path.read_bytes(), lzma.FORMAT_ALONE))
    data[1:5] = (2**31).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(FileRefused, match="compressed, and damaged"):
        load_head(path)


def zipped(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("head.joblib", data)
    return file.getvalue()


UNKNOWN = {
    "zip": zipped,
    "zstd": lambda data: b"\x28\xb5\x2f\xfd" + data,
    "lz4": lambda data: b"\x04\x22\x4d\x18" + data,
}


@pytest.mark.parametrize("how", UNKNOWN)
def test_what_else_is_packed_is_refused_with_its_name(saved, how):
    head, path = saved
    packed = path.with_suffix(".packed")
    packed.write_bytes(UNKNOWN[how](path.read_bytes()))
    with pytest.raises(FileRefused, match=f"packed with {how}: unpack it, and give the head"):
        load_head(packed)
    if how == "zip":
        with zipfile.ZipFile(packed) as archive:
            path.write_bytes(archive.read("head.joblib"))
    assert_same(load_head(path), head)
