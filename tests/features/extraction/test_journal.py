"""The append-only file: what is kept of it, whatever happens to it."""

import dataclasses
import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from damage import damaged, first_change
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.backends.choice import Candidate, Choice
from features.base import disk
from features.base.paths import journal_path
from features.errors import CannotContinue, FileRefused
from features.extraction import journal
from features.extraction.journal import OWNER_BYTES, Header, Journal
from features.spec.encoder_spec import EncoderSpec
from features.spec.vector_spec import VectorSpec

SPEC = EncoderSpec("some-model", None, "a" * 64, "b" * 64, "c" * 64, 128, "none")
HEADER = Header(VectorSpec(SPEC, {"mean": 3, "cls": 4}, "half", "float16"), "bfloat16")
REPOSITORY = Path(__file__).parents[3]


def digests(name, n):
    return [hashlib.blake2b(f"{name} {i}".encode(), digest_size=16).digest() for i in range(n)]


def vectors(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        view: rng.normal(size=(n, width)).astype(np.float16).astype(np.float32)
        for view, width in HEADER.vectors.views.items()
    }


BATCHES = {"a": 3, "b": 1, "c": 7}


def fill(path, batches=BATCHES, header=HEADER):
    with Journal(path) as of:
        of.begin(header)
        for name, n in batches.items():
            of.append(digests(name, n), vectors(n, n))
    return journal_path(path)


def check_whole(of, name):
    n = BATCHES[name]
    places = of.find(digests(name, n))
    for view, matrix in vectors(n, n).items():
        np.testing.assert_array_equal(of.read(view, places), matrix)


# ------------------------------------------------------------------------------------ what is kept


def test_batches_are_found_by_the_next_run(tmp_path):
    fill(tmp_path / "a.h5")
    with Journal(tmp_path / "a.h5") as of:
        assert of.header == HEADER
        assert of.kept == sum(BATCHES.values())
        assert list(of.remarks()) == [
            f"11 vectors of a run that was interrupted were found in {tmp_path / '.a.h5.journal'}"
        ]
        for name in BATCHES:
            check_whole(of, name)
        more = of.append(digests("d", 2), vectors(2, 9))
        np.testing.assert_array_equal(of.read("cls", more), vectors(2, 9)["cls"])
    with Journal(tmp_path / "a.h5") as of:
        assert of.kept == sum(BATCHES.values()) + 2


def test_only_whole_batches_are_found(tmp_path):
    fill(tmp_path / "a.h5")
    with Journal(tmp_path / "a.h5") as of:
        a = digests("a", 3)
        for other in (a[:2], a[::-1], a + digests("b", 1), []):
            assert of.find(other) is None


def test_vectors_come_in_any_order(tmp_path):
    with Journal(tmp_path / "a.h5") as of:
        of.begin(HEADER)
        places = np.concatenate([of.append(digests(str(i), 5), vectors(5, i)) for i in range(4)])
        order = np.random.default_rng(0).integers(0, 20, 50)
        for view in HEADER.vectors.views:
            expected = np.concatenate([vectors(5, i)[view] for i in range(4)])
            np.testing.assert_array_equal(of.read(view, places[order]), expected[order])


def test_an_empty_one_goes_and_one_with_vectors_stays(tmp_path):
    with Journal(tmp_path / "a.h5") as of:
        of.begin(HEADER)
        assert journal_path(tmp_path / "a.h5").exists()
    assert not list(tmp_path.iterdir())
    fill(tmp_path / "a.h5")
    assert [path.name for path in tmp_path.iterdir()] == [".a.h5.journal"]
    with Journal(tmp_path / "a.h5") as of:
        of.remove()
    assert not list(tmp_path.iterdir())


def test_the_journal_of_the_next_run_is_left_alone(tmp_path):
    """Between the end of the work and that of the process another one may have begun."""
    with Journal(tmp_path / "a.h5") as of:
        of.begin(HEADER)
        of.append(digests("a", 3), vectors(3))
        of.remove()
        following = Journal(tmp_path / "a.h5")
    with following:
        assert following.path.exists()


def test_it_is_for_this_user_alone(tmp_path):
    assert fill(tmp_path / "a.h5").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", [70_000.0, -1e30])
def test_a_value_too_large_for_float16_names_the_cure(tmp_path, value):
    large = vectors(1) | {"mean": np.array([[1, value, 2]], np.float32)}
    with Journal(tmp_path / "a.h5") as of:
        of.begin(HEADER)
        with pytest.raises(CannotContinue) as caught:
            of.append(digests("a", 1), large)
        assert "view 'mean' has values up to" in str(caught.value)
        assert "`store_dtype=float32`" in str(caught.value)
        assert of.kept == 0


def test_float32_holds_it(tmp_path):
    large = vectors(1) | {"mean": np.array([[1, 1e30, 2]], np.float32)}
    with Journal(tmp_path / "a.h5") as of:
        of.begin(
            dataclasses.replace(
                HEADER, vectors=dataclasses.replace(HEADER.vectors, store_dtype="float32")
            )
        )
        places = of.append(digests("a", 1), large)
        np.testing.assert_array_equal(of.read("mean", places), large["mean"])


def test_vectors_that_are_not_finite_are_marked(tmp_path):
    broken = vectors(4)
    broken["mean"][1, 2], broken["cls"][3, 0] = np.nan, np.inf
    with Journal(tmp_path / "a.h5") as of:
        of.begin(HEADER)
        assert of.append(digests("a", 4), broken)["finite"].tolist() == [True, False, True, False]
    with Journal(tmp_path / "a.h5") as of:
        assert of.find(digests("a", 4))["finite"].tolist() == [True, False, True, False]


# ----------------------------------------------------------------------------------- what is broken


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The bytes of a journal, and where its records end."""
    path = tmp_path_factory.mktemp("journal") / "a.h5"
    ends = []
    with Journal(path) as of:
        of.begin(HEADER)
        ends.append(of.path.stat().st_size)
        for name, n in BATCHES.items():
            of.append(digests(name, n), vectors(n, n))
            ends.append(of.path.stat().st_size)
    return of.path.read_bytes(), ends


def check_kept_before(folder, content, ends, where):
    """What lies before the offset is there, nothing else, and more can be written behind it."""
    path = folder / "a.h5"
    journal_path(path).write_bytes(content)
    n_records = sum(end <= where for end in ends)
    names = list(BATCHES)[: max(0, n_records - 1)]
    with Journal(path) as of:
        assert (of.header == HEADER) if n_records else (of.header is None)
        assert of.kept == sum(BATCHES[name] for name in names)
        for name in names:
            check_whole(of, name)
        of.begin(HEADER)
        of.append(digests("d", 2), vectors(2))
    with Journal(path) as of:
        assert of.kept == sum(BATCHES[name] for name in names) + 2
        of.remove()


def test_cut_anywhere_it_keeps_what_is_before(tmp_path, filled):
    content, ends = filled
    for size in [*range(0, len(content), 7), *ends, *(end - 1 for end in ends)]:
        check_kept_before(tmp_path, content[:size], ends, size)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_anywhere_it_keeps_what_is_before(tmp_path, filled, data):
    content, ends = filled
    changed = data.draw(damaged(content, start=OWNER_BYTES))
    check_kept_before(tmp_path, changed, ends, first_change(content, changed))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rest=st.binary(max_size=300), n=st.integers(0, 4))
def test_anything_behind_the_records_is_cut(tmp_path, filled, rest, n):
    content, ends = filled
    start = [OWNER_BYTES, *ends][n]
    if not content[start:].startswith(rest) or not rest:
        check_kept_before(tmp_path, content[:start] + rest, ends, start)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=600))
def test_any_bytes_are_a_new_journal_or_refused(tmp_path, content):
    path = tmp_path / "a.h5"
    journal_path(path).write_bytes(content)
    try:
        with Journal(path) as of:
            assert of.kept == 0
    except FileRefused as error:
        assert str(journal_path(path)) in str(error)
        assert journal_path(path).read_bytes() == content


def test_zeros_are_a_new_journal(tmp_path):
    """A machine that died may leave a file of its size without its content."""
    journal_path(tmp_path / "a.h5").write_bytes(bytes(4096))
    with Journal(tmp_path / "a.h5") as of:
        assert of.header is None


@pytest.mark.parametrize("overwrite", [False, True])
def test_another_version_is_refused_or_overwritten(tmp_path, monkeypatch, overwrite):
    monkeypatch.setattr(journal, "VERSION", 99)
    fill(tmp_path / "a.h5")
    monkeypatch.undo()
    if overwrite:
        with Journal(tmp_path / "a.h5", overwrite=True) as of:
            assert (of.header, of.kept) == (None, 0)
    else:
        with pytest.raises(
            FileRefused, match=r"another version of frostline; `overwrite=True` starts"
        ):
            Journal(tmp_path / "a.h5")


# ------------------------------------------------------------------------------------ who writes

HOLD = """
import sys
from pathlib import Path
from features.extraction.journal import Journal
with Journal(Path(sys.argv[1])):
    print("here", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused_by_name(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "a.h5"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "here\n"
        with pytest.raises(CannotContinue) as caught:
            Journal(tmp_path / "a.h5")
        assert f"being written already, by -c, process {process.pid} on " in str(caught.value)
        Journal(tmp_path / "b.h5").__exit__(None, None, None)
        process.kill()
    with Journal(tmp_path / "a.h5") as of:  # the lock goes with the process
        assert of.locked


def test_a_second_writer_in_this_process_is_refused(tmp_path):
    with (
        Journal(tmp_path / "a.h5") as of,
        pytest.raises(CannotContinue, match=f"process {os.getpid()} on "),
    ):
        Journal(tmp_path / "a.h5")
    assert not of.path.exists()


def test_a_file_that_was_removed_meanwhile_is_not_locked(tmp_path, monkeypatch):
    """Between opening and locking, the other run ends and removes its journal."""
    other = Journal(tmp_path / "a.h5")

    def flock(handle, operation, really=journal.fcntl.flock):
        monkeypatch.undo()
        other.__exit__(None, None, None)
        really(handle, operation)

    monkeypatch.setattr(journal.fcntl, "flock", flock)
    with Journal(tmp_path / "a.h5") as of, pytest.raises(CannotContinue):
        assert of.path.exists()
        Journal(tmp_path / "a.h5")


@pytest.mark.parametrize("code", ["ENOLCK", "EOPNOTSUPP", "ENOSYS"])
def test_without_locks_it_says_so(tmp_path, monkeypatch, code):
    def flock(handle, operation):
        raise OSError(getattr(errno, code), "no locks here")

    monkeypatch.setattr(journal.fcntl, "flock", flock)
    with Journal(tmp_path / "a.h5") as of:
        (line,) = of.remarks()
    assert "has no locks" in line


@pytest.mark.parametrize("kind", ["link", "folder", "other"])
def test_what_is_no_journal_is_left_alone(tmp_path, kind):
    path, target = journal_path(tmp_path / "a.h5"), tmp_path / "precious"
    target.write_bytes(b"precious" * 100)
    if kind == "link":
        path.symlink_to(target)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(target.read_bytes())
    with pytest.raises((OSError, FileRefused)):
        Journal(tmp_path / "a.h5", overwrite=True)
    assert target.read_bytes() == b"precious" * 100
    assert path.exists()


# ------------------------------------------------------------------------------------ the disk


def test_it_is_synced_though_nothing_more_comes(tmp_path, monkeypatch):
    synced = threading.Event()
    with Journal(tmp_path / "a.h5", sync_seconds=0.01) as of:
        of.begin(HEADER)
        monkeypatch.setattr(disk, "sync", lambda handle: synced.set())
        of.append(digests("a", 1), vectors(1))
        assert synced.wait(20)


def test_a_sync_that_fails_is_said_by_the_next_batch(tmp_path, monkeypatch):
    failed = threading.Event()

    def fail(handle):
        failed.set()
        raise OSError(errno.EIO, "Input/output error")

    with Journal(tmp_path / "a.h5", sync_seconds=0.01) as of:
        of.begin(HEADER)
        monkeypatch.setattr(disk, "sync", fail)
        of.append(digests("a", 1), vectors(1))
        assert failed.wait(20)
        of._syncer.join(20)
        with pytest.raises(OSError, match="Input/output error"):
            of.append(digests("b", 1), vectors(1))


@pytest.mark.parametrize("written", [0, 1, 15, 16, 40])
def test_a_batch_that_was_not_written_whole_is_not_there(tmp_path, monkeypatch, written):
    def full(handle, data, write=disk.write):
        write(handle, data[:written])
        raise OSError(errno.ENOSPC, "No space left on device")

    path = fill(tmp_path / "a.h5")
    with Journal(tmp_path / "a.h5") as of:
        monkeypatch.setattr(disk, "write", full)
        with pytest.raises(OSError, match="No space left"):
            of.append(digests("d", 5), vectors(5))
        monkeypatch.undo()
        assert of.kept == sum(BATCHES.values())
    with Journal(tmp_path / "a.h5") as of:
        assert of.kept == sum(BATCHES.values())
        assert of.find(digests("d", 5)) is None
    assert path.exists()


def test_after_a_sync_that_failed_nothing_is_read(tmp_path, monkeypatch):
    """What the disk did not take may be anything, once memory has let go of it."""

    def fail(handle):
        raise OSError(errno.EIO, "Input/output error")

    with Journal(tmp_path / "a.h5", sync_seconds=0.01) as of:
        of.begin(HEADER)
        monkeypatch.setattr(disk, "sync", fail)
        places = of.append(digests("a", 1), vectors(1))
        of._syncer.join(20)
        with pytest.raises(OSError, match="Input/output error"):
            of.read("mean", places)


def test_the_choice_of_a_run_is_kept_and_older_journals_do_without():
    choice = Choice(
        Candidate("openvino", "bfloat16"), 1024, 2,
        {"openvino bfloat16": 1003.5}, {"onnx float32": "slow"},
    )  # fmt: skip
    header = dataclasses.replace(HEADER, choice=choice)
    assert Header.from_json(header.to_json()) == header
    fields = json.loads(HEADER.to_json())
    del fields["choice"]
    assert Header.from_json(json.dumps(fields).encode()) == HEADER


BAD_CHOICES = [{}, [], "torch", {"candidate": {"backend": "torch"}},
               {"candidate": {"backend": 1, "dtype": 2}},
               {"candidate": {"backend": "torch", "dtype": "float32"}, "rates": {}, "left_out": {},
                "max_batch_tokens": 0, "streams": 1}]  # fmt: skip


@pytest.mark.parametrize("choice", BAD_CHOICES)
def test_a_choice_that_is_none_is_refused(choice):
    fields = {**json.loads(HEADER.to_json()), "choice": choice}
    with pytest.raises(ValueError):
        Header.from_json(json.dumps(fields).encode())
