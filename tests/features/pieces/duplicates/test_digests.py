"""Digests of pieces, their ranges and their owners, against dicts and sets of Python."""

import os
import shutil
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from features.errors import InputError
from features.pieces.duplicates.digests import (
    BITS,
    CELLS,
    DIGEST,
    cell_counts,
    distinct,
    read_range,
    write_digests,
)
from features.pieces.duplicates.folder import Folder
from features.pieces.duplicates.owners import TAKE, find_owners, read_of_piece, write_owners
from features.pieces.duplicates.ranges import BYTES_A_DIGEST, Range, cut_ranges, ranges_of

REPOSITORY = Path(__file__).parents[4]


def digest_of(number):
    return blake2b(b"%d" % number, digest_size=16).digest()


def digests_of(texts):
    return sorted({digest_of(text) for text in texts})


def as_list(digests):
    """Bytes of an array: numpy itself would leave out zeros at their ends."""
    data = digests.tobytes()
    return [data[i : i + 16] for i in range(0, len(data), 16)]


def owners_of(pieces):
    """What the files should say, by dicts: what a piece shares with others, and with what owner."""
    holders = {}
    for number, digests in enumerate(pieces):
        for digest in digests:
            holders.setdefault(digest, []).append(number)
    return {digest: held[0] for digest, held in holders.items() if len(held) > 1}


def write_pieces(folder, pieces):
    shutil.rmtree(folder)  # of an example before: what is there stays
    folder.mkdir()
    files = [folder / f"{n:05d}" for n in range(len(pieces))]
    for file, digests in zip(files, pieces, strict=True):
        write_digests(file, distinct([digests]))
    return files


def write_all(folder, files, memory):
    """Ranges, and the files of takes and of shared digests, one each a range."""
    ranges = cut_ranges(files, memory)
    folder = folder / str(memory)
    folder.mkdir()
    takes = [folder / f"takes-{n:05d}" for n in range(len(ranges))]
    shared = [folder / f"shared-{n:05d}" for n in range(len(ranges))]
    for one, other, within in zip(takes, shared, ranges, strict=True):
        write_owners(one, other, within, files)
    return ranges, takes, shared


# Hostile: in one cell, next to each other, with zeros at their ends, the lowest, the highest.
CHOSEN = [
    bytes(16),
    b"\xff" * 16,
    b"\x12\x34" + bytes(14),
    *(b"\x12\x34" + bytes(12) + n.to_bytes(2, "big") for n in range(1, 40)),
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    batches=st.lists(st.lists(st.sampled_from(CHOSEN) | st.binary(min_size=16, max_size=16))),
    borders=st.tuples(st.integers(0, 2**BITS), st.integers(0, 2**BITS)),
)
@example(batches=[], borders=(0, 2**BITS))
@example(batches=[CHOSEN], borders=(0x1234 << 112, (0x1234 << 112) + 3))
@example(batches=[CHOSEN], borders=(2**BITS - 1, 2**BITS))
def test_digests_are_kept_once_and_read_by_range(tmp_path, batches, borders):
    expected = sorted({digest for batch in batches for digest in batch})
    digests = distinct(batches)
    assert as_list(digests) == expected
    (tmp_path / "piece").unlink(missing_ok=True)
    write_digests(tmp_path / "piece", digests)
    assert (
        cell_counts(tmp_path / "piece").tolist()
        == np.bincount(
            [int.from_bytes(digest[:2], "big") >> 4 for digest in expected], minlength=CELLS
        ).tolist()
    )
    low, high = sorted(borders)
    if low < high:
        found = as_list(read_range(tmp_path / "piece", low, high))
        assert found == [one for one in expected if low <= int.from_bytes(one, "big") < high]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(
    pieces=st.lists(
        st.lists(st.integers(0, 30).map(digest_of) | st.sampled_from(CHOSEN), max_size=40),
        max_size=6,
    ),
    room=st.integers(0, 60),
)
@example(pieces=[], room=0)
@example(pieces=[[], [], []], room=0)
@example(pieces=[[digest_of(1)] * 9] * 5, room=0)  # all rows have one text
@example(pieces=[CHOSEN] * 4, room=0)  # as many ranges as there can be
@example(pieces=[[], CHOSEN, [], CHOSEN[:7]], room=3)  # a piece that has others' texts alone
def test_owners_are_those_of_a_dict_at_any_memory(tmp_path, pieces, room):
    pieces = [sorted(set(digests)) for digests in pieces]
    expected = owners_of(pieces)
    files = write_pieces(tmp_path, pieces)
    memory = (max(1, len(pieces)) + room) * BYTES_A_DIGEST
    ranges, takes, shared = write_all(tmp_path, files, memory)

    assert [ranges[0].low, *(one.high for one in ranges)] == [
        *(one.low for one in ranges),
        2**BITS,
    ]
    for within in ranges:
        held = sum(len(read_range(file, within.low, within.high)) for file in files)
        assert held * BYTES_A_DIGEST <= memory

    given_by = []
    for number in range(len(pieces)):
        of_owner, ends = read_of_piece(shared, DIGEST, number)
        assert as_list(of_owner) == sorted(d for d, owner in expected.items() if owner == number)
        given_by.append((as_list(of_owner), [0, *ends.tolist()]))
    for number, digests in enumerate(pieces):
        of_piece, ends = read_of_piece(takes, TAKE, number)
        assert as_list(np.ascontiguousarray(of_piece["digest"])) == [
            digest for digest in digests if digest in expected
        ]
        for n, one in enumerate(of_piece):
            digest = of_piece["digest"][n : n + 1].tobytes()
            texts, starts = given_by[one["owner"]]
            assert one["owner"] == expected[digest]
            assert texts[starts[np.searchsorted(ends, n, "right")] + one["place"]] == digest


def test_memory_does_not_change_what_is_found(tmp_path):
    pieces = [digests_of(range(n, 300, n % 7 + 1)) for n in range(10)]
    files = write_pieces(tmp_path, pieces)
    found = []
    for memory in (20 * BYTES_A_DIGEST, 500 * BYTES_A_DIGEST, 2**30):
        ranges, takes, shared = write_all(tmp_path, files, memory)
        found.append(
            (
                [read_of_piece(takes, TAKE, n)[0][["digest", "owner"]].tolist() for n in range(10)],
                [read_of_piece(shared, DIGEST, n)[0].tobytes() for n in range(10)],
            )
        )
    assert len(ranges) == 1
    assert found[0] == found[1] == found[2]


def test_the_same_digests_give_the_same_bytes_in_any_order(tmp_path):
    digests = digests_of(range(500))
    write_digests(tmp_path / "one", distinct([digests]))
    write_digests(tmp_path / "other", distinct([digests[n::7] for n in range(7)] * 2))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_many_digests_are_sorted_in_batches(monkeypatch):
    monkeypatch.setattr("features.pieces.duplicates.digests._BATCH", 10)
    numbers = [n % 313 for n in range(1000)]
    batches = [[digest_of(n) for n in numbers[i : i + 7]] for i in range(0, 1000, 7)]
    assert as_list(distinct(batches)) == digests_of(numbers)


def test_too_little_memory_is_refused_with_what_is_needed(tmp_path):
    files = write_pieces(tmp_path, [[digest_of(1)]] * 3)
    with pytest.raises(InputError, match=f"at least {3 * BYTES_A_DIGEST}"):
        cut_ranges(files, 3 * BYTES_A_DIGEST - 1)


@pytest.mark.parametrize(("memory", "n_ranges"), [(512 * 2**20, 2048), (8 * 2**30, 114)])
def test_ten_billion_texts_are_cut_without_reading_them(memory, n_ranges):
    # A cell has so many of them that their number is normal around its mean.
    mean = 1e10 / CELLS
    counts = np.random.default_rng(0).normal(mean, mean**0.5, CELLS).astype(np.int64).tolist()
    most = memory // BYTES_A_DIGEST
    ranges = ranges_of([], counts, most)
    assert len(ranges) == n_ranges
    width = 2**BITS // CELLS
    assert all(one.high % width == 0 for one in ranges)
    held = [sum(counts[one.low // width : one.high // width]) for one in ranges]
    assert sum(held) == sum(counts) and max(held) <= most


# The digests of pieces, half of which all have, compared where no more memory is to be had.
LIMITED = """
import resource, sys, threading
from pathlib import Path
import numpy as np
from features.pieces.duplicates.digests import DIGEST, distinct, write_digests
from features.pieces.duplicates.owners import write_owners
from features.pieces.duplicates.ranges import cut_ranges
threading.stack_size(2**18)
folder, pieces, rows, memory = Path(sys.argv[1]), *map(int, sys.argv[2:])
files = [folder / f"{n:05d}" for n in range(pieces)]
for n, file in enumerate(files):
    data = np.random.default_rng(0).bytes(8 * rows) + np.random.default_rng(n + 1).bytes(8 * rows)
    write_digests(file, np.unique(np.frombuffer(data, DIGEST)))
del data
# What threads take for themselves is not what grows with the input.
ranges = cut_ranges(files, memory)
write_owners(folder / "takes-first", folder / "shared-first", ranges[0], files)
held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (held + memory, held + memory))
for n, within in enumerate(ranges):
    write_owners(folder / f"takes-{n}", folder / f"shared-{n}", within, files)
print(len(ranges))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by RLIMIT_DATA")
@pytest.mark.parametrize(
    ("pieces", "rows", "memory"),
    [(4, 100_000, 2**22), pytest.param(100, 50_000, 2**24, marks=pytest.mark.slow)],
)
def test_texts_are_compared_in_the_memory_that_is_given(tmp_path, pieces, rows, memory):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path, str(pieces), str(rows), str(memory)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "MALLOC_ARENA_MAX": "1"}
        | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    n_ranges = int(done.stdout)
    assert n_ranges >= pieces * rows * BYTES_A_DIGEST / memory
    takes = [tmp_path / f"takes-{n}" for n in range(n_ranges)]
    assert all(len(read_of_piece(takes, TAKE, n)[0]) == rows // 2 for n in range(pieces))


def test_all_jobs_take_the_ranges_of_the_first_or_are_refused(tmp_path):
    folder = Folder(tmp_path, 1)
    folder.make()
    write_digests(folder.digests(0), distinct([[digest_of(n) for n in range(50)]]))
    folder.cut(20 * BYTES_A_DIGEST)
    cut = folder.ranges()
    folder.cut(2**30)
    assert folder.ranges(2**30) == cut and len(cut) > 1
    with pytest.raises(InputError, match=r"`memory` is 1,000 bytes, .* was given 1,920, which"):
        folder.ranges(1000)


def test_no_pieces_have_one_range(tmp_path):
    assert cut_ranges([]) == [Range(0, 2**BITS)]
    takes, takes_ends, shared, shared_ends = find_owners([])
    assert len(takes) == len(takes_ends) == len(shared) == len(shared_ends) == 0
