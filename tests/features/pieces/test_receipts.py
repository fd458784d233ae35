"""Pieces are committed once, by whoever is first, file by file: the receipt is of what is there."""

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from pieces_stores import write_order
from stores import LABELS, blobs, write_store

from features.base import storage
from features.errors import FileRefused
from features.pieces.receipts import describe, put_piece, put_receipt
from features.store.joined import layout
from features.store.joined.order import read_order
from features.store.verify import verify

ROOT = Path(__file__).parents[3]
ROWS = (20, 31, 7)


def write_made(folder: Path, piece: int, machine: int, rows=ROWS) -> Path:
    """Make a piece as a kind of machine does: the same rows, and vectors with other bits."""
    folder.mkdir(parents=True)
    for number, n_rows in enumerate(rows):
        X, y = blobs(max(30, n_rows), 8, 3, seed=100 * piece + number)
        write_store(
            folder / f"part-{number:05d}.h5",
            {"cls": np.nextafter(X[:n_rows], np.inf) if machine else X[:n_rows]},
            y[:n_rows],
            LABELS,
            ids=[f"{piece}:{number}:{row}" for row in range(n_rows)],
            texts=[f"text {piece} {number} {row}" for row in range(n_rows)],
        )
    return folder


def order_at(url: str, folder: Path, pieces: int):
    """Give the order of a store, which is there then."""
    write_order(folder, pieces)
    storage.put(layout.order_path(url), layout.order_path(folder).read_bytes())
    return read_order(url)


def test_files_of_two_machines_end_as_one_piece(s3, tmp_path):
    """Each machine was first with some of the files; both describe what is there."""
    order, said = order_at(s3, tmp_path / "order", 1), []
    one, other = (write_made(tmp_path / f"{machine}", 0, machine) for machine in (0, 1))
    seals = [[shard.seal for shard in describe(order, 0, made).shards] for made in (one, other)]
    assert all(a != b for a, b in zip(*seals, strict=True)), "the bits differ"
    place = layout.piece_folder(s3, 0)
    assert storage.put_file_new(other / "part-00001.h5", f"{place}/part-00001.h5")
    first = put_piece(s3, order, 0, one, said.append)
    second = put_piece(s3, order, 0, other, said.append)
    assert first == second
    assert [shard.seal for shard in first.shards] == [seals[0][0], seals[1][1], seals[0][2]]
    assert len(said) == 2 and all("the first ones stay" in line for line in said)
    put_receipt(s3, order, first, tmp_path, said.append)
    assert verify(s3).whole


def test_a_piece_is_put_twice_without_a_word(s3, tmp_path):
    order, said = order_at(s3, tmp_path / "order", 1), []
    made = write_made(tmp_path / "made", 0, 0)
    assert put_piece(s3, order, 0, made, said.append) == put_piece(s3, order, 0, made, said.append)
    assert said == []


@pytest.mark.parametrize("case", ["a shard more", "other rows", "damaged"])
def test_files_of_another_run_are_refused(case, s3, tmp_path):
    order = order_at(s3, tmp_path / "order", 1)
    rows = {"a shard more": (*ROWS, 3), "other rows": (21, 30, 7), "damaged": ROWS}[case]
    theirs = write_made(tmp_path / "theirs", 0, 0, rows)
    if case == "damaged":
        (theirs / "part-00001.h5").write_bytes(b"nothing of ours")
    storage.put_folder_new(theirs, layout.piece_folder(s3, 0))
    with pytest.raises(FileRefused, match=r"remove .*piece-00000|remove the folder") as caught:
        put_piece(s3, order, 0, write_made(tmp_path / "mine", 0, 0), print)
    assert s3 in str(caught.value) and "\n" not in str(caught.value)


MAKER = """
import sys, time
from pathlib import Path
from features.pieces.receipts import put_piece, put_receipt
from features.store.joined.order import read_order
url, mine, go = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
order = read_order(url)
(mine / "ready").touch()
while not go.exists():
    time.sleep(0.001)
for piece in range(order.pieces):
    receipt = put_piece(url, order, piece, mine / str(piece), lambda line: None)
    put_receipt(url, order, receipt, mine, lambda line: None)
"""


@pytest.mark.slow
def test_two_processes_put_the_same_pieces_at_the_same_time(s3, tmp_path):
    """Real processes, each of another kind of machine: the store is whole, whoever was first."""
    pieces = 4
    order_at(s3, tmp_path / "order", pieces)
    with ExitStack() as stack:
        makers = []
        for machine in (0, 1):
            mine = tmp_path / f"{machine}"
            for piece in range(pieces):
                write_made(mine / f"{piece}", piece, machine)
            command = [sys.executable, "-c", MAKER, s3, str(mine), str(tmp_path / "go")]
            maker = stack.enter_context(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE))
            stack.callback(maker.kill)
            makers.append(maker)
        until = time.monotonic() + 120
        while not all((tmp_path / f"{machine}" / "ready").exists() for machine in (0, 1)):
            assert time.monotonic() < until and all(maker.poll() is None for maker in makers)
            time.sleep(0.01)
        (tmp_path / "go").touch()
        for maker in makers:
            assert maker.communicate(timeout=120)[1] == b""
    found = verify(s3)
    assert found.whole, found.faults
