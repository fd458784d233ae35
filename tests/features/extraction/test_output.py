"""A folder of shards: what is in it, that it goes on where it was, and what is refused."""

import csv
import errno
import json
import os
import shutil
from contextlib import suppress

import numpy as np
import pytest
from contracts import check_output_contract

from features import FeatureStore, FrozenEncoder, extract
from features.base import disk
from features.errors import CannotContinue, FileRefused, InputError
from features.extraction.disk_space import shortage
from features.store.checksum import check_seal
from features.store.shard_folder import Part, aside_path, check_whole, part_path

N = 8
TWEETS = [(f"id {i}", f"tweet number {i % 17} of some", "xy"[i % 2]) for i in range(21)]


@pytest.fixture
def run(tmp_path, tiny_model):
    """Extract tweets into the folder `out`, or another; give the summary."""

    def run(tweets=TWEETS, output="out", **options):
        path = tmp_path / "tweets.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("id", "text", "label"), *tweets])
        fixed = {"model": tiny_model("bert"), "dtype": "float32", "pooling": ["cls", "mean"]}
        fixed |= {"max_batch_tokens": 40, "window_rows": 5, "shard_rows": N, "device": "cpu"}
        return extract(path, tmp_path / output, **(fixed | options))

    return run


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def states(folder):
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def flip(path, where):
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)


# ---------------------------------------------------------------------------------- what comes out


def test_a_folder_holds_the_rows_of_a_file(tmp_path, run):
    summary = run()
    single = run(output="one.h5", shard_rows=None)
    assert (summary.outcome, summary.rows, summary.unique) == ("written", 21, 17)
    assert summary.encoded == 17
    assert summary.file_bytes == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert names_in(tmp_path) == ["one.h5", "out", "tweets.csv"]
    with FeatureStore(tmp_path / "out") as store, FeatureStore(single.output) as file:
        assert [path.name for path in store.paths] == [f"part-0000{i}.h5" for i in range(3)]
        assert [shard.part for shard in store.shards] == [
            Part(i, i * N, N, last=i == 2) for i in range(3)
        ]
        assert file.shards[0].part is None
        assert store.ids() == file.ids()
        np.testing.assert_array_equal(store.labels(), file.labels())
        np.testing.assert_array_equal(store.digests(), file.digests())
        np.testing.assert_array_equal(store.flags(), file.flags())
        np.testing.assert_array_equal(store.n_tokens(), file.n_tokens())
        for view in store.views:
            # float16, and other batches.
            np.testing.assert_allclose(store.read(view), file.read(view), atol=2e-3)
            # A text that an earlier shard has is read from there, to the bit.
            np.testing.assert_array_equal(store.read(view)[17:], store.read(view)[:4])
    for path in (tmp_path / "out").iterdir():
        check_seal(path)


@pytest.mark.parametrize(("n_tweets", "sizes"), [(1, [1]), (8, [8]), (16, [8, 8]), (17, [8, 8, 1])])
def test_rows_of_each_shard(tmp_path, run, n_tweets, sizes):
    run(TWEETS[:n_tweets])
    with FeatureStore(tmp_path / "out") as store:
        parts = [shard.part for shard in store.shards]
        assert [part.last for part in parts] == [False] * (len(sizes) - 1) + [True]
        assert store.n_rows == n_tweets
    for path, size in zip(store.paths, sizes, strict=True):
        assert FeatureStore(path).n_rows == size


def test_rejects_do_not_count(tmp_path, tiny_model):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": text}) for _, text, _ in TWEETS[:N]]
    path.write_text("\n".join(["{", *lines[:4], "nonsense", *lines[4:], *["{"] * 12]) + "\n")
    options = {"model": tiny_model("bert"), "dtype": "float32", "shard_rows": N, "device": "cpu"}
    options |= {"allow_rejects": True, "window_rows": 5}
    summary = extract(path, tmp_path / "out", **options)
    assert (summary.rows, summary.rejected) == (N, 14)
    assert names_in(tmp_path / "out") == ["part-00000.h5"]
    assert names_in(tmp_path) == ["a.jsonl", "out", "out.rejects.jsonl"]


# --------------------------------------------------------------------------------------- run again


def test_the_same_again_does_nothing(tmp_path, run):
    run()
    before = content(tmp_path / "out"), states(tmp_path / "out")
    summary = run()
    assert (summary.outcome, summary.encoded, summary.unique) == ("unchanged", 0, 17)
    assert (content(tmp_path / "out"), states(tmp_path / "out")) == before
    assert names_in(tmp_path) == ["out", "tweets.csv"]


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("damage", ["a bit", "cut", "gone", "no HDF5"])
def test_a_damaged_shard_is_made_again_alone(tmp_path, run, number, damage):
    run()
    folder = tmp_path / "out"
    before, path = content(folder), part_path(folder, number)
    if damage == "a bit":
        flip(path, path.stat().st_size // 2)
    elif damage == "cut":
        os.truncate(path, 1000)
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"nonsense")
    untouched = {name: state for name, state in states(folder).items() if name != path.name}
    lines = []
    summary = run(say=lines.append)
    assert summary.outcome == "extended"
    assert content(folder) == before
    assert untouched.items() <= states(folder).items()
    assert [
        line for line in lines if path.name in line and "made again" in line
    ] or damage == "gone"
    assert len(lines) == (damage != "gone")


def test_a_longer_input(tmp_path, run):
    folder = tmp_path / "out"
    run(TWEETS[:16])
    first, old = states(folder)["part-00000.h5"], content(folder)["part-00001.h5"]
    summary = run(TWEETS)
    # The second one was the last, and is not any more.
    assert (summary.outcome, summary.rows, summary.encoded) == ("extended", 21, 1)
    assert states(folder)["part-00000.h5"] == first
    assert content(folder)["part-00001.h5"] != old
    assert run(TWEETS).outcome == "unchanged"


def test_a_shorter_input(tmp_path, run):
    folder = tmp_path / "out"
    run()
    summary = run(TWEETS[:6])
    assert (summary.outcome, summary.rows, summary.encoded) == ("extended", 6, 0)
    assert names_in(folder) == ["part-00000.h5"]
    run()
    summary = run(TWEETS[:8])
    assert (summary.rows, names_in(folder)) == (8, ["part-00000.h5"])


def test_other_rows(tmp_path, run):
    folder = tmp_path / "out"
    run()
    with FeatureStore(folder) as store:
        row_of = {bytes(d): row for row, d in reversed(list(enumerate(store.digests())))}
        old = {view: store.read(view) for view in store.views}
    summary = run(TWEETS[::-1])
    assert summary.rows == 21
    with FeatureStore(folder) as store:
        assert store.ids() == [identity for identity, _, _ in TWEETS[::-1]]
        rows = [row_of[bytes(d)] for d in store.digests()]
        for view, matrix in old.items():
            np.testing.assert_allclose(store.read(view), matrix[rows], atol=2e-3)
    assert not [name for name in names_in(folder) if "aside" in name]


# ------------------------------------------------------------------------- a run that is stopped


FUNCTIONS = ("write", "truncate", "sync", "sync_folder", "rename", "unlink", "mkdir")


def stop_after(monkeypatch, n):
    """Let `n` operations on the disk happen, and have all others fail; give the counter."""
    done = [0]
    for name, function in [(name, getattr(disk, name)) for name in FUNCTIONS]:

        def operation(*arguments, real=function):
            done[0] += 1
            if done[0] > n:
                raise OSError(errno.EIO, "the disk is gone")
            return real(*arguments)

        monkeypatch.setattr(disk, name, operation)
    return done


def rows_of(folder):
    with FeatureStore(folder) as store:
        return tuple(store.ids())


OPTIONS = {
    "new": (None, {}),
    "longer": (TWEETS[:16], {}),
    "reversed": (TWEETS[::-1], {}),
    "replaced": (TWEETS[:20], {"pooling": "max", "overwrite": True}),
}


@pytest.mark.parametrize("points", [4, pytest.param(10**9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", OPTIONS)
def test_stopped_anywhere_it_ends_in_the_same_bytes(tmp_path, run, monkeypatch, case, points):
    before, options = OPTIONS[case]
    folder = tmp_path / "out"
    again = options | {"shard_rows": N}

    def prepare(stop):
        shutil.rmtree(folder, ignore_errors=True)
        (tmp_path / ".out.journal").unlink(missing_ok=True)
        if before:
            run(before)
        with monkeypatch.context() as patch:
            done = stop_after(patch, stop)
            try:
                run(**again)
            except CannotContinue:
                return True, done[0]
        return False, done[0]

    _, total = prepare(10**9)
    expected = content(folder)
    complete = {tuple(i for i, _, _ in TWEETS), tuple(i for i, _, _ in before or ())}
    for stop in range(2, total, max(1, total // points)):
        assert prepare(stop)[0]
        with suppress(FileRefused, InputError):  # nothing is there, or it says that it is not whole
            assert rows_of(folder) in complete, stop
        run(**again)
        assert content(folder) == expected, stop
        assert names_in(tmp_path) == ["out", "tweets.csv"], stop


@pytest.mark.parametrize(
    ("renames", "wording"), [(0, "what was at that name is untouched"), (1, "has changed already")]
)
def test_what_is_said_of_a_disk_that_fails(run, monkeypatch, renames, wording):
    done = []

    def rename(path, to, real=disk.rename):
        if len(done) == renames:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(to)
        real(path, to)

    monkeypatch.setattr(disk, "rename", rename)
    message = refusal(CannotContinue, run)
    assert wording in message
    assert "No space left on device" in message
    assert "run the same command to" in message


def test_a_new_shard_is_never_beside_an_old_last_one(tmp_path, run, monkeypatch):
    run()
    folder, seen = tmp_path / "out", []

    def rename(path, to, real=disk.rename):
        real(path, to)
        with suppress(FileRefused):
            seen.append(rows_of(folder))

    monkeypatch.setattr(disk, "rename", rename)
    run(TWEETS[::-1])
    assert seen == [tuple(identity for identity, _, _ in TWEETS[::-1])]


def test_what_the_journal_has_of_a_later_shard_outlives_one_that_is_made_again(
    tmp_path, run, monkeypatch
):
    run()
    folder, expected = tmp_path / "out", content(tmp_path / "out")
    part_path(folder, 1).unlink()
    part_path(folder, 2).unlink()

    def stop(progress):
        if progress.rows > N:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(progress=stop)
    flip(part_path(folder, 0), 5000)
    summary = run()
    assert summary.resumed > 0
    assert content(folder) == expected


# ----------------------------------------------------------------------------------- the free space


@pytest.mark.parametrize(
    ("free", "fraction", "shard_rows", "existing", "warned"),
    [
        # 21 rows of two views of 32 float16 numbers: 2,688 bytes, twice in a file, and columns of
        # 1,344. All are read, or half of them.
        (6_720, 1.0, None, 0, False),
        (6_719, 1.0, None, 0, True),
        (6_719, 1.0, None, 1, False),
        (4_160, 1.0, 1, 0, False),
        (4_159, 1.0, 1, 0, True),
        (13_440, 0.5, None, 0, False),
        (13_439, 0.5, None, 0, True),
        (0, None, None, 0, False),
    ],
)
def test_what_a_run_will_write_is_estimated_to_the_byte(
    monkeypatch, tmp_path, free, fraction, shard_rows, existing, warned
):
    monkeypatch.setattr(disk, "free", lambda folder: free)
    found = shortage(
        tmp_path,
        rows_read=21,
        fraction_read=fraction,
        vector_bytes=128,
        shard_rows=shard_rows,
        existing_bytes=existing,
    )
    assert (found is not None) == warned


@pytest.mark.parametrize(
    ("free", "shard_rows", "warned"),
    [
        # How many rows there are is estimated from those read so far: some to either side.
        (14_000, None, False),
        (3_000, None, True),
        (2_000, N, True),
        (14_000, N, False),
        (0, None, True),
    ],
)
def test_a_disk_that_is_too_small_is_named_before_the_model_is_loaded(
    run, monkeypatch, free, shard_rows, warned
):
    monkeypatch.setattr(disk, "free", lambda folder: free)
    events = []
    load = FrozenEncoder.from_spec

    def loaded(*arguments, **options):
        events.append("loaded")
        return load(*arguments, **options)

    monkeypatch.setattr(FrozenEncoder, "from_spec", loaded)
    run(shard_rows=shard_rows, output="a.h5" if shard_rows is None else "out", say=events.append)
    assert events[-1] == "loaded"
    assert [("free" in event and "continue" in event) for event in events[:-1]] == [True] * warned
    # Where nothing is to be encoded, nothing is expected.
    events.clear()
    run(shard_rows=shard_rows, output="a.h5" if shard_rows is None else "out", say=events.append)
    assert events == []


# ---------------------------------------------------------------------------------- what is refused


def refusal(kind, call, *arguments, **options):
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "wording"),
    [
        ({"shard_rows": 9}, "`shard_rows=8`, not with `shard_rows=9`"),
        ({"pooling": "cls"}, "views: cls, mean in the file, cls asked for"),
        ({"store_dtype": "float32"}, "store dtype: float16 in the file, float32 asked for"),
        ({"shard_rows": None}, "`shard_rows` for a folder"),
        ({"shard_rows": 0}, "shard rows is 0; it must be at least 1"),
    ],
)
def test_another_run_does_not_touch_it(tmp_path, run, options, wording):
    run()
    before = states(tmp_path / "out")
    message = refusal(InputError, run, **options)
    assert wording in message
    assert states(tmp_path / "out") == before
    assert names_in(tmp_path) == ["out", "tweets.csv"]
    if options.get("shard_rows", N):
        assert "`overwrite=True`" in message
        assert run(**options, overwrite=True).outcome == "written"


def test_other_feature_files_in_the_folder(tmp_path, run):
    folder = tmp_path / "out"
    run(output="other.h5", shard_rows=None)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (tmp_path / "other.h5").rename(folder / "other.h5")
    for overwrite in (False, True):
        assert "holds other.h5" in refusal(InputError, run, overwrite=overwrite)
    (folder / "other.h5").unlink()
    run()
    assert "notes.txt" in names_in(folder)


def test_a_file_is_no_folder(tmp_path, run):
    (tmp_path / "out").write_text("mine")
    for overwrite in (False, True):
        assert "`shard_rows` makes a folder" in refusal(InputError, run, overwrite=overwrite)


@pytest.mark.parametrize(
    ("change", "wording"),
    [
        (lambda folder: part_path(folder, 0).unlink(), "lacks shard 0 (part-00000.h5)"),
        (lambda folder: part_path(folder, 1).unlink(), "lacks shard 1 (part-00001.h5)"),
        (lambda folder: part_path(folder, 2).unlink(), "part-00001.h5 is not the last"),
        (
            lambda folder: part_path(folder, 2).rename(aside_path(folder, 2)),
            "part-00001.h5 is not the last",
        ),
    ],
)
def test_a_folder_that_lacks_a_shard_is_not_read(tmp_path, run, change, wording):
    run()
    change(tmp_path / "out")
    message = refusal(FileRefused, FeatureStore, tmp_path / "out")
    assert wording in message
    assert "run the same `frostline extract` again" in message
    # Files that are named are taken as they are.
    assert FeatureStore(sorted((tmp_path / "out").glob("*.h5"))).n_rows
    run()
    assert FeatureStore(tmp_path / "out").n_rows == len(TWEETS)


@pytest.mark.parametrize(
    ("parts", "wording"),
    [
        ([Part(0, 0, 8, True), None], "is not one of the shards"),
        ([Part(0, 0, 8, False), Part(1, 8, 9, True)], "begins at row 8 in shards of 9"),
        ([Part(0, 0, 8, False), Part(1, 7, 8, True)], "begins at row 7"),
        ([Part(0, 0, 8, True), Part(1, 8, 8, True)], "says that it is the last"),
    ],
)
def test_shards_that_do_not_follow_each_other(tmp_path, parts, wording):
    paths = [part_path(tmp_path, number) for number in range(len(parts))]
    assert wording in refusal(FileRefused, check_whole, tmp_path, paths, parts, [8] * len(parts))


@pytest.mark.parametrize(
    "text",
    ["", "5", "{}", "[1]", '{"number": 0}', Part(0, 0, 8, True).to_json().replace("8", '"8"')],
)
def test_a_part_that_is_none(text):
    with pytest.raises(ValueError):
        Part.from_json(text)


@pytest.mark.parametrize("shard_rows", [None, 2, 3, 100])
def test_an_output_keeps_its_contract(tiny_model, tmp_path, shard_rows):
    rows = [f"text number {n}" + " and more" * (n % 4) for n in range(11)]
    options = {"model": tiny_model("bert"), "pooling": ["cls", "mean"], "dtype": "float32"}
    check_output_contract(rows, tmp_path / "out", shard_rows=shard_rows, **options)
