import threading

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError
from pipeline.solver.blocks import (
    BLOCK_ROWS,
    Rows,
    Workers,
    _widen,
    centred,
    cut,
    default_memory,
    parse_memory,
)


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


CASES = {
    "normal": lambda rng: rng.normal(size=(2500, 5)) * [1, 1e-3, 1e3, 1, 1] + [0, 1, 1e4, -50, 3],
    "one row": lambda rng: rng.normal(size=(1, 3)),
    "one block": lambda rng: rng.normal(size=(BLOCK_ROWS, 3)),
    "sorted": lambda rng: np.sort(rng.normal([0, 100, -5], 1, size=(5000, 3)), axis=0),
    "constant": lambda rng: np.tile([0.0, 0.1, 4096.0, 1e-20], (3000, 1)),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_moments(case, dtype):
    X = CASES[case](np.random.default_rng(0)).astype(dtype)
    vectors = centred(Rows.of(X), np.ones(len(X)), memory=2**30, workers=Workers())
    exact = X.astype(np.float64)
    constant = exact.std(axis=0) <= 1e-6 * np.abs(exact.mean(axis=0))
    np.testing.assert_array_equal(vectors.inverse_scale == 0, constant)
    Z = vectors.held * vectors.inverse_scale
    assert vectors.held.dtype == (np.float64 if dtype is np.float64 else np.float32)
    rough = np.float32 if dtype is np.float16 else dtype
    off = (
        30
        * np.finfo(rough).eps
        * (1 + np.abs(exact.mean(axis=0) / np.maximum(exact.std(axis=0), 1e-30)))
    )
    assert (np.abs(Z.mean(axis=0, dtype=float)) <= off)[~constant].all()
    assert (np.abs(Z.std(axis=0, dtype=float) - 1) <= off)[~constant].all()
    assert (Z[:, constant] == 0).all()


@pytest.mark.parametrize("sizes", [[1000], [1], [BLOCK_ROWS], [7, 5000, 1], [BLOCK_ROWS + 1]])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("n_held", [0, 2 * BLOCK_ROWS - 1, 2 * BLOCK_ROWS, 3 * BLOCK_ROWS + 260])
def test_streamed_blocks_are_the_held_ones_to_the_bit(sizes, dtype, n_held):
    X = (np.random.default_rng(1).normal(size=(3 * BLOCK_ROWS + 261, 6)) * 7 + 2).astype(dtype)
    weight = np.random.default_rng(2).integers(0, 3, len(X)).astype(float)
    held = centred(Rows.of(X), weight, memory=2**30, workers=Workers())
    memory = n_held * X.shape[1] * 4
    streamed = centred(in_pieces(X, sizes), weight, memory=memory, workers=Workers())
    assert len(streamed.held) == n_held // BLOCK_ROWS * BLOCK_ROWS
    assert not streamed.in_memory
    blocks = list(streamed.sweep(lambda at, z: (at, z.copy())))
    assert [at.start for at, _ in blocks] == list(range(0, len(X), BLOCK_ROWS))
    np.testing.assert_array_equal(np.concatenate([z for _, z in blocks]), held.held)


def test_every_float16_is_widened_exactly():
    half = np.arange(2**16, dtype=np.uint16).view(np.float16)
    half = half[np.isfinite(half)].reshape(-1, 32)
    wide = np.empty(half.shape, np.float32)
    _widen(half, wide)
    np.testing.assert_array_equal(wide.view(np.uint32), half.astype(np.float32).view(np.uint32))


def test_weights_are_copies_of_rows():
    X = np.random.default_rng(3).normal(size=(1500, 4)) + 10
    weight = np.random.default_rng(4).integers(0, 4, len(X))
    weighted = centred(Rows.of(X), weight.astype(float), memory=2**30, workers=Workers())
    copies = X.repeat(weight, axis=0)
    repeated = centred(Rows.of(copies), np.ones(len(copies)), memory=2**30, workers=Workers())
    np.testing.assert_allclose(weighted.center, repeated.center, rtol=1e-12)
    np.testing.assert_allclose(weighted.inverse_scale, repeated.inverse_scale, rtol=1e-12)


def test_what_is_not_finite_is_refused():
    for value in (np.nan, np.inf, -np.inf):
        X = np.zeros((2000, 3), np.float32)
        X[1500, 1] = value
        with pytest.raises(InputError, match="not finite"):
            centred(Rows.of(X), np.ones(2000), memory=2**30, workers=Workers())


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


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), (17, 17), ("512MiB", 2**29), ("1.5 GB", 3 * 2**29), ("2k", 2048), ("1t", 2**40)],
)
def test_sizes(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1X", "1 2", "MiB", "nan", -5])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="not a size"):
        parse_memory(text)


def test_default_memory_is_less_than_there_is():
    assert 2**20 < default_memory() < 2**50
