import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import blobs
from test_blocks import in_pieces

from pipeline.solver.blocks import BLOCK_ROWS, Rows, Workers
from pipeline.solver.centred import centred
from pipeline.solver.objective import Objective, TrainingSet, every_block, mean_gram
from pipeline.solver.sums import BlockResult, group_blocks, groups, sum_in_groups


@given(st.integers(1, 10**12))
def test_groups_are_whole_blocks_and_few(n_rows):
    blocks = group_blocks(n_rows)
    n_blocks = -(-n_rows // BLOCK_ROWS)
    assert blocks >= 64
    assert -(-n_blocks // blocks) <= 256
    assert blocks == 64 or n_blocks > 64 * 256


@given(st.integers(1, 10**8))
def test_groups_follow_each_other(n_rows):
    found = groups(n_rows)
    step = group_blocks(n_rows) * BLOCK_ROWS
    assert [one.start for one in found] == list(range(0, n_rows, step))
    assert [one.stop for one in found] == [*(one.start for one in found[1:]), n_rows]


def uneven(n, dtype):
    """Numbers whose sum depends on the order."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=n) * 10.0 ** rng.integers(-6, 7, n)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_blocks", [1, 64, 65, 200])
def test_blocks_are_added_within_groups_and_groups_then(n_blocks, dtype):
    values, wider = uneven(n_blocks, dtype), uneven(n_blocks, np.float64)
    results = ((n, BlockResult(both)) for n, both in enumerate(zip(values, wider, strict=True)))
    found, wide = sum_in_groups(results, n_blocks * BLOCK_ROWS)

    def one_by_one(some, start):
        for value in some:
            start = start + value
        return start

    of_groups = [
        one_by_one(values[start : start + 64], dtype(0)) for start in range(0, n_blocks, 64)
    ]
    assert found == one_by_one(map(float, of_groups), 0.0)
    assert found.dtype == np.float64
    in_order = one_by_one(wider, 0.0)
    if n_blocks <= 64:
        assert wide == in_order
    elif n_blocks == 200:
        assert wide != in_order  # so that the order is seen in the bits


def test_what_is_given_for_rows_comes_in_order_and_blocks_may_be_left_out():
    X = np.arange(3 * BLOCK_ROWS + 5, dtype=np.float32)[:, None]
    vectors = centred(Rows.of(X), np.ones(len(X)), memory=0, workers=Workers())
    column = np.arange(len(X))
    for every, blocks in ((1, [0, 1, 2, 3]), (2, [0, 2])):
        taken = []
        (n,) = vectors.sum(
            lambda z, at: BlockResult((len(z),), (at[at % 2 == 1],)),
            [column],
            every=every,
            take=lambda rows, taken=taken: taken.append(rows[0]),
        )
        wanted = np.concatenate([column[b * BLOCK_ROWS : (b + 1) * BLOCK_ROWS] for b in blocks])
        assert n == len(wanted)
        np.testing.assert_array_equal(np.concatenate(taken), wanted[wanted % 2 == 1])


def _sums(rows, y, training, *, memory, threads):
    """All that the solver adds up, in one list of arrays."""
    weight = np.ones(len(y))
    vectors = centred(rows, weight, memory=memory, workers=Workers(threads))
    objective = Objective(vectors, y, weight, 3, [0.1, 10.0], training)
    scores = [np.empty((one.n_held_out, 3), np.float32) for one in training]
    theta = np.random.default_rng(1).normal(size=(2, 3, 1 + rows.shape[1]))
    found = objective.evaluate(np.arange(2), theta, np.float32, scores)
    assert every_block(vectors) > 1
    return [
        vectors.center,
        vectors.inverse_scale,
        objective.inverse_std,
        mean_gram(vectors, weight),
        found.value,
        found.gradient,
        found.curvature,
        *scores,
    ]


def test_sums_over_several_groups_tell_neither_threads_nor_memory_nor_pieces():
    X, y = blobs(64 * BLOCK_ROWS * 2 + 3000, 4, 3)
    X = X.astype(np.float16)
    fold = np.random.default_rng(3).integers(0, 3, len(y))
    training = [TrainingSet(fold == 0), TrainingSet(fold == 1, np.array([0.5, 1, 2]))]
    plain = _sums(Rows.of(X), y, training, memory=2**30, threads=1)
    half = X.size * 2
    for memory, threads, sizes in ((2**30, 2, [7000]), (half, 2, [5000, 1]), (0, 1, [100_000])):
        other = _sums(in_pieces(X, sizes), y, training, memory=memory, threads=threads)
        for a, b in zip(plain, other, strict=True):
            np.testing.assert_array_equal(a, b)
