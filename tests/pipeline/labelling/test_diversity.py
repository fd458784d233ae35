"""Rows that differ are chosen: distances against the explicit ones, draws, near duplicates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labelling.diversity import (
    NEAR,
    Pool,
    at_random,
    errors_of,
    squared_distances,
    typical,
    uncertain,
)


def made(n=80, width=6, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    pool = Pool(rng.normal(size=(n, width)).astype(np.float32), np.arange(n))
    return pool, rng.dirichlet(np.ones(n_classes), n)


WAYS = {
    "random": lambda pool, proba, n, rng: at_random(pool, n, rng),
    "uncertain": lambda pool, proba, n, rng: uncertain(pool, proba, all_of(pool), n, rng),
    "typical": lambda pool, proba, n, rng: typical(pool, all_of(pool), n, rng),
}


def all_of(pool):
    return np.ones(len(pool.x), bool)


def test_errors_by_hand():
    found = errors_of(np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]))
    np.testing.assert_allclose(found, [[-0.3, 0.2, 0.1], [0.3, 0.3, -0.6]])


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 9))
def test_factorised_distances_are_the_explicit_ones(seed, n_classes, width):
    pool, proba = made(30, width, n_classes, seed)
    errors = errors_of(proba)
    gradients = np.einsum("nk,nd->nkd", errors, pool.x.astype(float)).reshape(30, -1)
    sizes = np.square(errors).sum(axis=1) * pool.squares
    np.testing.assert_allclose(sizes, np.square(gradients).sum(axis=1), rtol=1e-5)
    for row in (0, 29):
        explicit = np.square(gradients - gradients[row]).sum(axis=1)
        found = squared_distances(errors, sizes, pool.products(row), row)
        np.testing.assert_allclose(found, explicit, rtol=1e-4, atol=1e-4)


def test_the_gradient_is_that_of_the_loss():
    """With the predicted class as the true one, numerically, for a head of zero intercepts."""
    rng = np.random.default_rng(4)
    x, W = rng.normal(size=5), rng.normal(size=(3, 5))

    def loss(W, c):
        z = W @ x
        return np.log(np.exp(z).sum()) - z[c]

    z = W @ x
    p = np.exp(z) / np.exp(z).sum()
    c, step = int(p.argmax()), 1e-6
    numeric = np.array(
        [
            [(loss(W + step * at, c) - loss(W - step * at, c)) / (2 * step) for at in of_class]
            for of_class in np.eye(15).reshape(3, 5, 3, 5)
        ]
    )
    np.testing.assert_allclose(np.outer(errors_of(p[None])[0], x), numeric, atol=1e-6)


def test_the_first_has_the_largest_gradient_and_one_sure_row_stands_for_all():
    pool, proba = made()
    proba[10:] = [1.0, 0.0, 0.0]  # no gradient
    proba[:10] = [0.4, 0.3, 0.3]
    chosen = uncertain(pool, proba, all_of(pool), 11, np.random.default_rng(0))
    assert chosen[0] == pool.squares[:10].argmax()
    assert sorted(chosen)[:10] == list(range(10))


def test_equal_rows_are_drawn_as_well():
    """No gradient is left, and rows are."""
    pool, proba = made(5)
    proba[:] = [1.0, 0.0, 0.0]
    assert sorted(uncertain(pool, proba, all_of(pool), 9, np.random.default_rng(0))) == [*range(5)]


def test_typical_rows_are_those_of_the_clusters():
    rng = np.random.default_rng(0)
    middles = np.eye(4) * 10
    sizes = [40, 30, 20, 10]
    x = np.concatenate([m + rng.normal(size=(n, 4)) for m, n in zip(middles, sizes, strict=True)])
    pool = Pool(x.astype(np.float32), np.arange(100))
    chosen = typical(pool, all_of(pool), 4, rng)
    assert [int(x[row].argmax()) for row in chosen] == [0, 1, 2, 3]  # the largest first
    for row in chosen:
        of_cluster = x.argmax(axis=1) == x[row].argmax()
        unit = x[of_cluster] / np.linalg.norm(x[of_cluster], axis=1, keepdims=True)
        cosine = unit @ unit.mean(axis=0)
        assert x[row] @ unit.mean(axis=0) / np.linalg.norm(x[row]) >= np.quantile(cosine, 0.8)


@pytest.mark.parametrize("way", WAYS)
def test_near_duplicates_are_never_chosen_twice(way):
    pool, proba = made(20, width=30)
    rng = np.random.default_rng(1)
    near = pool.x + 0.01 * rng.normal(size=pool.x.shape).astype(np.float32)
    same_text = -pool.x  # as another normaliser or a digest might have it
    wide = Pool(np.concatenate([pool.x, near, same_text]), np.tile(np.arange(20), 3))
    wide.text[20:40] += 100
    chosen = WAYS[way](wide, np.tile(proba, (3, 1)), 60, rng)
    assert len(chosen) == len(set(chosen)) >= 20
    unit = wide.x[chosen] / np.linalg.norm(wide.x[chosen], axis=1, keepdims=True)
    cosine = unit @ unit.T - np.eye(len(chosen))
    assert cosine.max() < NEAR
    assert len(set(wide.text[chosen])) == len(chosen)


@pytest.mark.parametrize("way", WAYS)
def test_a_seed_gives_the_same_rows(way):
    pool, proba = made()
    first, again, other = (
        WAYS[way](pool, proba, 12, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert first == again
    assert len(first) == len(set(first)) == 12
    assert first != other


@pytest.mark.parametrize("way", WAYS)
def test_more_than_there_are(way):
    pool, proba = made(7, width=40)
    assert sorted(WAYS[way](pool, proba, 50, np.random.default_rng(0))) == list(range(7))


@pytest.mark.parametrize("way", ["uncertain", "typical"])
def test_rows_that_are_not_free_are_not_chosen(way):
    pool, proba = made(40, width=40)
    free = np.arange(40) % 2 == 0
    rng = np.random.default_rng(0)
    chosen = (
        uncertain(pool, proba, free, 30, rng)
        if way == "uncertain"
        else typical(pool, free, 30, rng)
    )
    assert sorted(chosen) == list(range(0, 40, 2))


def test_vectors_without_a_direction_are_chosen_too():
    pool = Pool(np.zeros((4, 3), np.float32), np.arange(4))
    rng = np.random.default_rng(0)
    assert sorted(typical(pool, all_of(pool), 4, rng)) == list(range(4))


def test_random_rows_have_equal_chances():
    pool, _ = made(10, width=40)
    drawn = [row for seed in range(400) for row in at_random(pool, 2, np.random.default_rng(seed))]
    counts = np.bincount(drawn, minlength=10)
    assert (np.abs(counts - 80) < 40).all()  # 5 standard deviations
