import numpy as np
import pytest
from test_blocks import in_pieces

from features.errors import InputError
from pipeline.solver.blocks import BLOCK_ROWS, Rows, Workers
from pipeline.solver.centred import Moments, centred, moments_of_blocks, room_for
from pipeline.solver.sums import BlockResult

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
    blocks = []
    streamed.sum(lambda z: BlockResult(rows=(z.copy(),)), take=lambda rows: blocks.append(rows[0]))
    assert [len(z) for z in blocks] == [BLOCK_ROWS] * 3 + [261]
    np.testing.assert_array_equal(np.concatenate(blocks), held.held)


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


def test_moments_are_merged_within_groups_and_then_over_them():
    n_rows = 64 * BLOCK_ROWS * 2 + 5000
    X = np.random.default_rng(5).normal(3, 2, size=(n_rows, 2)) * [1, 1e6]
    weight = np.ones(n_rows)
    weight[64 * BLOCK_ROWS : 65 * BLOCK_ROWS] = 0  # a block that says nothing
    nothing_held = np.empty((0, 2))
    blocks = list(moments_of_blocks(Rows.of(X), weight, nothing_held, Workers()))

    def by_chan(parts):
        n, mean, squares = 0.0, np.zeros(2), np.zeros(2)
        for part in parts:
            if part.weight:
                both = n + part.weight
                off = part.mean - mean
                mean = mean + off * (part.weight / both)
                squares = squares + (part.squares + off**2 * (n * part.weight / both))
                n = both
        return Moments(n, mean, squares)

    assert len(blocks) == 131
    of_groups = [by_chan(blocks[:64]), by_chan(blocks[64:128]), by_chan(blocks[128:])]
    by_hand, one_by_one = by_chan(of_groups), by_chan(blocks)
    found = centred(in_pieces(X, [3000]), weight, memory=2**14, workers=Workers())
    np.testing.assert_array_equal(found.center, by_hand.mean)
    assert (found.center != one_by_one.mean).any()  # the order is seen in the bits
    np.testing.assert_array_equal(
        found.inverse_scale, 1 / np.sqrt(by_hand.squares / by_hand.weight)
    )
    kept = weight > 0
    np.testing.assert_allclose(found.center, X[kept].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(1 / found.inverse_scale, X[kept].std(axis=0), rtol=1e-12)


def test_more_vectors_than_the_machine_has_memory_are_not_held():
    rows = Rows((10**9, 10**5), np.dtype(np.float32), iter)
    with pytest.raises(InputError, match=r"`memory` allows to hold 372,529.0 GiB of vectors, and"):
        room_for(rows, 2**60)
    assert len(room_for(rows, 2**20)) == 0
