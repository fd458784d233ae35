import threading

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.solver.blocks import Rows, Workers, cut, widen


def in_pieces(X, sizes):
    """Rows that come in pieces of these sizes, again and again, and are never held as a whole."""

    def pieces(start):
        number = 0
        while start < len(X):
            step = sizes[number % len(sizes)]
            yield X[start : start + step]
            start, number = start + step, number + 1

    return Rows(X.shape, X.dtype, pieces)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 7))
def test_cut_keeps_the_rows_and_their_order(sizes, rows):
    X = np.arange(sum(sizes) * 2).reshape(-1, 2)
    pieces = np.split(X, np.cumsum(sizes)[:-1]) if sizes else []
    blocks = list(cut(pieces, rows))
    assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    assert all(0 < len(block) <= rows for block in blocks)
    np.testing.assert_array_equal(np.concatenate([X[:0], *blocks]), X)


def test_workers_keep_the_order_and_few_calls_under_way():
    workers = Workers()
    under_way, most, lock = 0, 0, threading.Lock()
    taken = []

    def calls():
        for n in range(40):
            taken.append(n)
            yield (n,)

    def square(n):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        with lock:
            under_way -= 1
        return n * n

    results = []
    for result in workers.map(square, calls()):
        results.append(result)
        assert len(taken) <= len(results) + workers.count + 1
    assert results == [n * n for n in range(40)]
    assert most <= workers.count


def test_an_error_in_a_worker_is_raised():
    def fails(n):
        if n == 3:
            raise ValueError("three")
        return n

    with pytest.raises(ValueError, match="three"):
        list(Workers().map(fails, ((n,) for n in range(10))))


def test_every_float16_is_widened_exactly():
    half = np.arange(2**16, dtype=np.uint16).view(np.float16)
    half = half[np.isfinite(half)].reshape(-1, 32)
    wide = np.empty(half.shape, np.float32)
    widen(half, wide)
    np.testing.assert_array_equal(wide.view(np.uint32), half.astype(np.float32).view(np.uint32))


def test_a_dataset_comes_in_whole_chunks(tmp_path):
    X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float16)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=X, chunks=(77, 4))
        rows = Rows.of(dataset)
        assert (rows.shape, rows.dtype, rows.in_memory) == ((300, 4), np.float16, False)
        np.testing.assert_array_equal(np.concatenate(list(rows.blocks())), X)
        np.testing.assert_array_equal(np.concatenate(list(rows.blocks(78))), X[78:])
        plain = Rows.of(file.create_dataset("y", data=X))
        np.testing.assert_array_equal(np.concatenate(list(plain.blocks())), X)
