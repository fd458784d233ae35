"""Feature files from strangers: refused with the reason by a child, before HDF5 opens them here."""

import os
import random
import shutil
import sys

import h5py
import numpy as np
import pytest
from damage import damaged
from h5py import h5a, h5d, h5p, h5s, h5t, h5z
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import blobs, write_store

from features.base import child as children
from features.errors import CannotContinue, FileRefused, InputError
from features.store import admission
from features.store.reader import FeatureStore

N, D = 60, 8


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = write_store(tmp_path_factory.mktemp("good") / "s.h5", *blobs(N, D))
    return path.read_bytes()


@pytest.fixture
def strange(good, tmp_path):
    """A copy: to this process a file of a stranger."""
    path = tmp_path / "s.h5"
    path.write_bytes(good)
    return path


def replaced(name, make):
    """Replace a dataset by what `make(file, name, old, chunks)` puts under its name."""

    def change(path):
        with h5py.File(path, "r+", libver=("v110", "v110")) as file:
            old = file[name][:]
            del file[name]
            make(file, name, old)

    return change


def again(**options):
    """The same dataset, made with other options."""

    def make(file, name, old):
        layout = {"chunks": old.shape, "fletcher32": True} | options
        file.create_dataset(name, data=old, **layout)

    return make


def edited(change):
    def apply(path):
        with h5py.File(path, "r+", libver=("v110", "v110")) as file:
            change(file)

    return apply


def of_shape(*shape, maxshape=None):
    """Nothing is written, so that a file of a few KB says that it has so much."""

    def make(file, name, old):
        chunks = tuple(min(n, 1000) for n in shape)
        file.create_dataset(
            name, shape, old.dtype, chunks=chunks, fletcher32=True, maxshape=maxshape
        )

    return make


def with_filter(code, options=()):
    def make(file, name, old):
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk(old.shape)
        plist.set_filter(code, h5z.FLAG_OPTIONAL, tuple(options))
        space = h5s.create_simple(old.shape)
        h5d.create(file.id, name.encode(), h5t.py_create(old.dtype), space, plist)

    return make


def odd_float(file, name, old):
    """As wide as float32, and every value another one."""
    kind = h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk(old.shape)
    plist.set_fletcher32()
    h5d.create(file.id, name.encode(), kind, h5s.create_simple(old.shape), plist)


def committed(file, name, old):
    file["kind"] = np.dtype("f4")
    again(dtype=file["kind"])(file, name, old)
    del file["kind"]


def half_of_the_chunks(file, name, old):
    dataset = file.create_dataset(
        name, old.shape, old.dtype, chunks=(10, *old.shape[1:]), fletcher32=True
    )
    dataset[: N // 2] = old[: N // 2]


def unchecked_chunk(file, name, old):
    """Its mask says that the checksum was left out."""
    again()(file, name, np.zeros_like(old))
    file[name].id.write_direct_chunk((0,) * old.ndim, old.tobytes(), 1)


def short_chunk(file, name, old):
    again()(file, name, np.zeros_like(old))
    file[name].id.write_direct_chunk((0,) * old.ndim, b"few bytes", 0)


def list_in_spec(file):
    del file.attrs["spec"]
    kind = h5t.vlen_create(h5t.NATIVE_INT32)
    h5a.create(file.id, b"spec", kind, h5s.create(h5s.SCALAR))


def in_a_userblock(path):
    content = path.read_bytes()
    with h5py.File(path, "w", userblock_size=512, libver=("v110", "v110")) as file:
        source = path.with_suffix(".tmp")
        source.write_bytes(content)
        with h5py.File(source) as old:
            for name in old:
                old.copy(name, file)
            for name, value in old.attrs.items():
                file.attrs[name] = value
        source.unlink()


def shape_patched(path):
    """Change the shape of `label` in the bytes of the file, past HDF5's own checks."""
    content = bytearray(path.read_bytes())
    place = content.index((N).to_bytes(8, "little"))
    content[place : place + 8] = (2**60).to_bytes(8, "little")
    path.write_bytes(content)


ATTACKS = {
    "another dataset": (
        edited(lambda f: f.create_dataset("more", data=[1])),
        "more than a feature",
    ),
    "another group": (edited(lambda f: f.create_group("more")), "more than a feature file: 'more'"),
    "thousands of names": (
        edited(lambda f: [f.create_group(f"g{i}") for i in range(3000)]),
        "more than a feature file",
    ),
    "a loop": (edited(lambda f: f.__setitem__("more", f["/"])), "more than a feature file"),
    "a dangling link": (
        edited(lambda f: f.__setitem__("more", h5py.SoftLink("/nowhere"))),
        "more than a feature file",
    ),
    "a link to itself": (
        replaced("flags", lambda f, n, old: f.__setitem__(n, h5py.SoftLink("/flags"))),
        "'flags' is missing",
    ),
    "a name for the root": (
        replaced("flags", lambda f, n, old: f.__setitem__(n, f["/"])),
        "'flags' is missing",
    ),
    "an external link": (
        replaced("cls", lambda f, n, old: f.__setitem__(n, h5py.ExternalLink("/etc/passwd", "/"))),
        "'cls' is missing",
    ),
    "two names of one dataset": (
        replaced("n_tokens", lambda f, n, old: f.__setitem__(n, f["label"])),
        "other names",
    ),
    "attributes of a dataset": (
        edited(lambda f: f["cls"].attrs.__setitem__("x", 1)),
        "other names or attributes",
    ),
    "not in chunks": (
        replaced("cls", lambda f, n, old: f.create_dataset(n, data=old)),
        "is not in chunks",
    ),
    "no checksum": (replaced("cls", again(fletcher32=False)), "has filters []"),
    "gzip": (replaced("cls", again(compression="gzip")), "filters [1, 3]"),
    "shuffled": (replaced("cls", again(shuffle=True)), "filters [2, 3]"),
    "lzf": (replaced("cls", again(compression="lzf")), "filters"),
    "an unknown filter": (replaced("cls", with_filter(32_015, [1])), "filters [32015]"),
    "a plugin of the user": (replaced("flags", with_filter(300)), "filters [300]"),
    "all that memory holds": (replaced("cls", of_shape(10**12, D)), "'cls' has 1000000000000 rows"),
    "all rows beyond the file": (
        edited(lambda f: _all_rows(f, 10**11)),
        "more than a file of",
    ),
    "a width beyond the file": (replaced("cls", of_shape(N, 10**9)), "in chunks of"),
    "may grow": (replaced("cls", of_shape(N, D, maxshape=(None, D))), "has shape"),
    "chunks of columns": (replaced("cls", again(chunks=(N, 1))), "in chunks of (60, 1)"),
    "chunks that are not there": (replaced("cls", half_of_the_chunks), "whole chunks or fewer"),
    "a chunk without its checksum": (replaced("cls", unchecked_chunk), "whole chunks or fewer"),
    "a chunk that is short": (replaced("cls", short_chunk), "whole chunks or fewer"),
    "another kind of float": (replaced("cls", odd_float), "'cls' has type"),
    "a type with a name": (replaced("cls", committed), "type float32"),
    "doubles": (replaced("cls", again(dtype="f8")), "type float64"),
    "truth values": (replaced("flags", again(dtype=bool)), "type bool"),
    "unsigned labels": (replaced("label", again(dtype="u4")), "type uint32"),
    "wide labels": (replaced("label", again(dtype="i8")), "type int64"),
    "records": (
        replaced("flags", lambda f, n, old: f.create_dataset(n, (N,), [("a", "u1")])),
        "'flags' has type",
    ),
    "references": (
        replaced("flags", lambda f, n, old: f.create_dataset(n, (N,), h5py.ref_dtype)),
        "'flags' has type object",
    ),
    "lists in cells": (
        replaced("flags", lambda f, n, old: f.create_dataset(n, (N,), h5py.vlen_dtype("u1"))),
        "'flags' has type object",
    ),
    "no rows": (edited(lambda f: _all_rows(f, 0)), "of this format"),
    "an attribute of numbers": (
        edited(lambda f: f.attrs.__setitem__("views", np.zeros(4000))),
        "'views' is not a single value",
    ),
    "an attribute of lists": (edited(list_in_spec), "'spec' is neither a text nor a number"),
    "an attribute that refers": (
        edited(lambda f: f.attrs.__setitem__("provenance", f["cls"].ref)),
        "'provenance' is neither a text nor a number",
    ),
    "a precision of its own": (
        edited(lambda f: f.attrs.__setitem__("precision", "\x1b[2J")),
        "precision is '\\x1b[2J'",
    ),
    "something before it": (in_a_userblock, "something else before"),
    "a shape patched in": (shape_patched, "s.h5"),
}


def _all_rows(file, n):
    """Every dataset has so many rows, and none of them is written."""
    for name in list(file):
        tail, dtype = file[name].shape[1:], file[name].dtype
        del file[name]
        file.create_dataset(
            name,
            (n, *tail),
            dtype,
            chunks=(1000, *tail),
            fletcher32=True,
            maxshape=(n or None, *tail),
        )


@pytest.mark.parametrize("attack", ATTACKS)
def test_refused_with_the_reason(strange, attack):
    make, wording = ATTACKS[attack]
    make(strange)
    with pytest.raises(FileRefused) as caught:
        FeatureStore(strange)
    message = str(caught.value)
    assert wording in message
    assert "s.h5" in message
    assert "\n" not in message
    assert len(message) < 600


def test_the_file_that_was_attacked_is_one(strange):
    with FeatureStore(strange) as store:
        assert store.read("cls").shape == (N, D)


@pytest.mark.parametrize("name", ["é \n\x1b.h5", "\udcff.h5", "-c.h5", "a'b\"c.h5"])
def test_names_of_any_characters(good, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(good)
    with FeatureStore(path) as store:
        assert store.n_rows == N
    edited(lambda f: f.create_group("more"))(path)
    with pytest.raises(FileRefused) as caught:
        FeatureStore(path)
    assert f"{path} holds more than a feature file: 'more'" == str(caught.value)


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_byte_order_will_do(strange, order):
    for name, kind in (("label", "i4"), ("cls", "f4")):
        replaced(name, again(dtype=np.dtype(order + kind)))(strange)
    expected, labels = blobs(N, D)
    with FeatureStore(strange) as store:
        np.testing.assert_array_equal(store.read("cls"), expected)
        np.testing.assert_array_equal(store.labels(), labels)


# ------------------------------------------------------------------------------------- the child


def test_limits_that_are_too_small_are_said(strange):
    with pytest.raises(FileRefused, match=r"s\.h5.* within 20 s and 1 MiB: the process"):
        admission.admit([strange], limits=admission.Limits(memory_bytes=2**20))


def test_a_child_that_takes_too_long_is_ended(strange):
    with pytest.raises(FileRefused, match=r"could not be opened in 0\.001 s"):
        admission.admit([strange], limits=admission.Limits(wall_seconds=0.001))


@pytest.mark.parametrize(
    ("fault", "wording"),
    [
        ("import os; os.abort()", "signal 6"),
        ("import ctypes; ctypes.string_at(0)", "signal 11"),
        ("raise MemoryError", "code 1 (MemoryError)"),
        ("pass", "code 0"),
        ("while True: pass", "signal"),
    ],
)
def test_a_child_that_dies_refuses_the_file(strange, fault, wording):
    """What a file that brings HDF5 down does to the process that opens it."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\n"
    with pytest.raises(FileRefused) as caught:
        admission.admit([strange], program=limit + fault)
    assert wording in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_removed_before_the_child_opens_it_is_not_there(strange):
    """Nor is it known: it might come back as another one."""
    before = admission.identity(strange)
    moved = strange.with_name("moved.h5")
    program = f"import os; os.rename({str(strange)!r}, {str(moved)!r})\n"
    with pytest.raises(FileNotFoundError):
        admission.admit([strange], program=program + children.code("features.store.admission"))
    moved.rename(strange)
    assert admission.identity(strange) == before
    assert before not in admission._known


def test_only_files_of_others_need_a_child(tmp_path, monkeypatch):
    own = write_store(tmp_path / "own.h5", *blobs(N, D))
    moved = tmp_path / "moved.h5"
    shutil.copy(own, tmp_path / "copy.h5")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    own.replace(moved)  # as a finished shard takes its name
    with FeatureStore(moved) as store:
        assert store.n_rows == N
    with pytest.raises(CannotContinue, match="no process could be started"):
        FeatureStore(tmp_path / "copy.h5")


def test_a_file_is_checked_once_and_again_when_it_changes(strange, monkeypatch):
    with FeatureStore(strange):
        pass
    monkeypatch.setattr(sys, "executable", "no-python")
    with FeatureStore(strange):
        pass
    strange.write_bytes(strange.read_bytes() + b"\0")
    with pytest.raises(CannotContinue):
        FeatureStore(strange)


def test_one_child_for_all_shards(good, tmp_path, monkeypatch):
    for name in ("a.h5", "b.h5", "c.h5"):
        (tmp_path / name).write_bytes(good)
    started = []
    sys.addaudithook(lambda event, args: event == "subprocess.Popen" and started.append(args))
    with FeatureStore(tmp_path) as store:
        assert store.n_rows == 3 * N
    assert len(started) == 1


def test_code_in_the_current_folder_is_not_imported(strange, tmp_path, monkeypatch):
    for name in ("h5py", "json", "features", "resource", "numpy"):
        (tmp_path / f"{name}.py").write_text("open('frostline-was-here', 'w')")
    monkeypatch.chdir(tmp_path)
    with FeatureStore(strange):
        pass
    assert not (tmp_path / "frostline-was-here").exists()


def test_a_reader_is_not_disturbed_by_a_writer(good, tmp_path, monkeypatch):
    """Between the check and the opening the file is replaced, once: the new one is checked too."""
    path = tmp_path / "s.h5"
    path.write_bytes(good)
    plainly = admission.admit
    left = [write_store(tmp_path / "new.h5", *blobs(N + 1, D))]

    def admit(paths):
        found = plainly(paths)
        if left and len(checked) == 1:  # behind the check of all, and that of this one
            left.pop().replace(path)
        checked.append(found)
        return found

    checked = []
    monkeypatch.setattr(admission, "admit", admit)
    with FeatureStore(path) as store:
        assert store.n_rows == N + 1


# ------------------------------------------------------------------------------- damage of any kind


def read_all(path):
    with FeatureStore(path) as store:
        columns = (store.labels(), store.digests(), store.n_tokens(), store.flags())
        arrays = [column.tobytes() for column in (*columns, store.read("cls"))]
        return arrays, store.ids(), store.label_names, store.views, store.spec


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_truncated(strange, good, share):
    strange.write_bytes(good[: int(len(good) * share)])
    with pytest.raises(FileRefused):
        read_all(strange)


@pytest.mark.parametrize("flips", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_flipped_bits(strange, good, flips):
    """Found, or without effect on the rows; never anything but the documented error."""
    rng = random.Random(flips)
    expected = read_all(strange)
    for _ in range(flips):
        data = bytearray(good)
        for _ in range(rng.choice([1, 1, 4])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        check_damaged(strange, data, expected)


def check_damaged(path, content, expected):
    path.write_bytes(content)
    try:
        assert read_all(path) == expected
    except FileRefused as error:
        assert "\n" not in str(error)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_anywhere(tmp_path, good, data):
    path = tmp_path / "s.h5"
    path.write_bytes(good)
    check_damaged(path, data.draw(damaged(good)), read_all(path))


@pytest.mark.slow
@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_anywhere_at_length(tmp_path, good, data):
    path = tmp_path / "s.h5"
    path.write_bytes(good)
    check_damaged(path, data.draw(damaged(good)), read_all(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_pipes_and_devices_are_no_feature_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "zero.h5").symlink_to("/dev/zero")
    for name in ("pipe.h5", "zero.h5"):
        with pytest.raises(InputError, match="no such feature file"):
            FeatureStore(tmp_path / name)
