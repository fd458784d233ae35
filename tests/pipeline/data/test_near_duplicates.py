"""Texts that are nearly the same are one group, whatever their order and however they are read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components
from stores import blobs, write_store

from features.errors import InputError
from pipeline import fit
from pipeline.data.near_duplicates import group_near
from pipeline.evaluation.folds import make_folds
from pipeline.solver.blocks import Rows


def groups(X, texts, cosine, memory=2**30, **options):
    X, texts = np.asarray(X, np.float32), np.asarray(texts).reshape(-1, 1)
    return group_near(Rows.of(X), texts, cosine, memory=memory, **options)[:, 0]


def same(a, b):
    """Whether two numberings cut the rows into the same groups."""
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


def by_definition(X, texts, cosine):
    """All pairs at once, in float64."""
    _, first = np.unique(texts, return_index=True)
    Z = X.astype(float) - X[first].astype(float).mean(axis=0)
    length = np.linalg.norm(Z, axis=1, keepdims=True)
    Z = Z / np.where(length > 0, length, 1)
    near = (cosine <= Z @ Z.T) | (texts[:, None] == texts)
    return connected_components(near, directed=False)[1]


def test_by_hand():
    # Their mean is 0. The first two are 0.98 apart, the others opposite to them or upright.
    X = [[5, 1], [5, 0], [-5, -1], [-5, 0], [0, 3], [0, -3]]
    assert same(groups(X, range(6), 0.98), [0, 0, 1, 1, 2, 3])
    assert same(groups(X, range(6), 0.99), range(6))


def test_it_is_the_direction_from_the_mean_that_counts():
    X = np.add([[5, 1], [5, 0], [-5, -1], [-5, 0], [0, 3], [0, -3]], [1000, -2000])
    assert same(groups(X, range(6), 0.98), [0, 0, 1, 1, 2, 3])


def test_chains_hang_together():
    angle = np.arange(12) * np.pi / 6
    X = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert same(groups(X, range(12), 0.86), [0] * 12)
    assert same(groups(X, range(12), 0.87), range(12))


def test_the_same_text_is_one_group_and_counts_once():
    X = [[1, 0], [1, 0], [1, 0], [-1, 0]]
    # Counted once, the two texts are opposite to each other; the mean is 0.
    assert same(groups(X, [7, 7, 7, 2], 0.5), [0, 0, 0, 1])


def test_vectors_at_the_mean_are_near_to_nothing():
    assert same(groups([[1, 1], [1, 1], [1, 1]], [0, 1, 2], 0.5), [0, 1, 2])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.99), st.integers(1, 30), st.integers(1, 50))
def test_it_is_all_pairs_in_any_tiles(seed, cosine, tile, pairs):
    rng = np.random.default_rng(seed)
    texts = rng.integers(0, 40, 60)
    # On a grid, so that no cosine lies within rounding of the bound by more than chance.
    X = rng.integers(-3, 4, (40, 3))[texts].astype(np.float32)
    found = groups(X, texts, cosine, tile=tile, most_pairs=pairs)
    assert same(found, by_definition(X, texts, cosine))
    order = rng.permutation(len(texts))
    assert same(groups(X[order], texts[order], cosine), found[order])


@pytest.mark.parametrize("cosine", [0, 1, -0.5, 2, float("nan")])
def test_what_is_no_cosine_is_refused(cosine):
    with pytest.raises(InputError, match="above 0 and below 1"):
        groups(np.eye(3), range(3), cosine)


def test_too_many_for_the_memory_are_refused_with_the_cure():
    with pytest.raises(InputError, match="raise `memory`"):
        groups(np.eye(300), range(300), 0.9, memory=300 * 300 * 4 - 1)


def test_no_group_is_divided():
    X, y = blobs(90, 5, 3)
    versions = np.repeat(X, 4, axis=0) + np.random.default_rng(0).normal(size=(360, 5)) * 1e-3
    found = groups(versions, range(360), 0.999)[:, None]
    folds = make_folds(np.repeat(y, 4), found, ["a", "b", "c"], n_folds=5, seed=0)
    assert (folds.reshape(90, 4) == folds.reshape(90, 4)[:, :1]).all()


def test_a_fit_is_not_judged_on_what_it_nearly_saw(tmp_path):
    """Labels by chance: only who has seen a text's other version knows them."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(60, 80)), 5, axis=0) + rng.normal(size=(300, 80)) * 0.01
    y = np.repeat(rng.integers(0, 2, 60), 5)
    store = write_store(tmp_path / "x.h5", X.astype(np.float32), y)
    seen = fit(store, C=10, cv=5)
    unseen = fit(store, C=10, cv=5, near_identical=0.95)
    assert seen.metrics.accuracy > 0.95
    assert unseen.metrics.accuracy < 0.7
    assert "(60 groups)" in unseen.measured_on
    assert unseen.head.metadata["near_identical"] == 0.95


def test_it_needs_folds(tmp_path):
    X, y = blobs(60, 4, 2)
    store = write_store(tmp_path / "x.h5", X, y)
    with pytest.raises(InputError, match="`near_identical` need folds"):
        fit(store, validation=store, near_identical=0.9)
