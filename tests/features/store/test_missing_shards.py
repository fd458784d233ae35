"""Folders that lack shards: verify names all that is missing, and extract makes it again."""

import csv
import dataclasses
import os

import pytest

from features import extract, verify
from features.store.missing_shards import gaps
from features.store.shard_folder import Part, part_path

N = 8


def name(number):
    return f"part-{number:05d}.h5"


@pytest.fixture
def run(tmp_path, tiny_model):
    path = tmp_path / "tweets.csv"
    with path.open("w", newline="") as file:
        rows = [(f"id {i}", f"tweet number {i % 17} of some", "xy"[i % 2]) for i in range(30)]
        csv.writer(file).writerows([("id", "text", "label"), *rows])
    fixed = {"model": tiny_model("bert"), "dtype": "float32", "pooling": ["cls", "mean"]}
    fixed |= {"max_batch_tokens": 40, "window_rows": 5, "shard_rows": N, "device": "cpu"}
    lines = []

    def run():
        extract(path, tmp_path / "out", say=lines.append, **fixed)
        return lines

    return run


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a bit": flip,
    "cut": lambda path: os.truncate(path, 3000),
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
}
# The first, one between others, and the last; each damage to some of them.
DAMAGED = [("a bit", 0), ("gone", 0), ("cut", 1), ("empty", 1), ("cut", 3), ("gone", 3)]


@pytest.mark.parametrize(
    ("damage", "number"),
    [
        pytest.param(damage, n, marks=[] if (damage, n) in DAMAGED else [pytest.mark.slow])
        for damage in DAMAGES
        for n in (0, 1, 3)
    ],
)
def test_what_verify_names_extract_makes_again_alone(tmp_path, run, damage, number):
    run()
    folder = tmp_path / "out"
    assert verify(folder).whole
    before = content(folder)
    states = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()}
    DAMAGES[damage](folder / name(number))
    (fault,) = verify(folder).faults
    assert name(number) in fault.reason or "behind shard 2" in fault.reason
    run()
    assert content(folder) == before
    assert verify(folder).whole
    untouched = {p.name for p in folder.iterdir()} - {name(number)}
    for path in folder.iterdir():
        if path.name in untouched:
            assert (path.stat().st_mtime_ns, path.stat().st_ino) == states[path.name], path.name


def test_one_shard_by_itself_is_whole(tmp_path, run):
    run()
    assert verify(tmp_path / "out" / name(1)).faults == ()


FOLDER_FILES = [Part(i, i * N, N, last=i == 3) for i in range(4)]


def found(folder, parts, broken=()):
    """What is said of files by name: `parts` by the number of the name."""
    files = sorted([part_path(folder, n) for n in (*parts, *broken)])
    read = {part_path(folder, n): (part, N) for n, part in parts.items()}
    return [reason for _, reason in gaps(folder, files, read)]


def complete(*without):
    return {part.number: part for part in FOLDER_FILES if part.number not in without}


def other(number, **changes):
    return dataclasses.replace(FOLDER_FILES[number], **changes)


CASES = {
    "whole": (complete(), (), []),
    "no parts at all": ({0: None, 1: None}, (), []),
    "one missing": (complete(1), (), ["lacks shard 1 (part-00001.h5)"]),
    "all but one missing": (
        complete(0, 1, 2),
        (),
        ["lacks shard 0", "lacks shard 1", "lacks shard 2"],
    ),
    "the last missing": (
        complete(3),
        (),
        ["lacks the shards behind shard 2, which is not the last"],
    ),
    "a broken one is there": (complete(1), (1,), []),
    "the last is broken": (complete(3), (3,), []),
    "a broken one behind the last": (complete(), (4,), ["part-00004.h5 is surplus"]),
    "surplus": (
        {**complete(), 4: Part(4, 4 * N, N, last=True)},
        (),
        ["part-00004.h5 is surplus: shard 3 says that it is the last"],
    ),
    "twice": (
        {**complete(), 7: FOLDER_FILES[1]},
        (),
        ["part-00007.h5 is shard 1, which part-00001.h5 is as well"],
    ),
    "renamed": (
        {**complete(1), 5: FOLDER_FILES[1]},
        (),
        ["is shard 1: rename it to part-00001.h5"],
    ),
    "a stranger": ({**complete(), 9: None}, (), ["part-00009.h5 is not one of the shards"]),
    "cut otherwise": (
        {**complete(), 2: other(2, shard_rows=9)},
        (),
        ["shards of 9 rows, not of 8"],
    ),
    "a row too far": (
        {**complete(), 3: other(3, first_row=25)},
        (),
        ["begins at row 25, part-00002.h5 ends at row 24"],
    ),
    "several faults": (
        {**complete(0, 2), 7: FOLDER_FILES[1]},
        (),
        ["which part-00001.h5 is as well", "lacks shard 0", "lacks shard 2"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_gaps(tmp_path, case):
    parts, broken, wording = CASES[case]
    reasons = found(tmp_path, parts, broken)
    assert len(reasons) == len(wording), reasons
    for reason, part in zip(reasons, wording, strict=True):
        assert part in reason
