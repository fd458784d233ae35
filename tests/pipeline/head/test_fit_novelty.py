import dataclasses

import joblib
import numpy as np
import pytest
from stores import make_head

from features.errors import FileRefused
from pipeline.head.head import load_head, save_head
from pipeline.head.novelty import Novelty, fit_novelty
from pipeline.solver.blocks import Rows, Workers
from pipeline.solver.centred import centred

WIDTH = 24


def clouds(n_rows=2000, seed=0, *, constant=False):
    """Three classes of one covariance, of which some directions hardly vary."""
    rng = np.random.default_rng(seed)
    shape = np.random.default_rng(99)
    turned, _ = np.linalg.qr(shape.normal(size=(WIDTH, WIDTH)))
    scale = np.geomspace(3, 0.1, WIDTH)
    means = shape.normal(size=(3, WIDTH))
    y = np.arange(n_rows) % 3
    X = means[y] + (rng.normal(size=(n_rows, WIDTH)) * scale) @ turned.T + 5
    if constant:
        X[:, 3] = 1.5
    return X.astype(np.float32), y


def prepared(X):
    return centred(Rows.of(X), np.ones(len(X)), memory=2**30, workers=Workers())


@pytest.fixture(scope="module")
def novelty():
    X, y = clouds(5000)
    return fit_novelty(prepared(X), y, 3)


def mahalanobis(novelty, X):
    """With the whole matrix, as the formula stands."""
    z = (X - novelty.center) * novelty.inverse_scale
    V = novelty.directions.astype(float)
    S = V @ np.diag(novelty.variances) @ V.T + novelty.rest * (np.eye(WIDTH) - V @ V.T)
    inverse = np.linalg.inv(S)
    of_class = [np.einsum("ij,jk,ik->i", z - mean, inverse, z - mean) for mean in novelty.means]
    return np.sqrt(np.min(of_class, axis=0)) / novelty.threshold


def test_distances_are_those_of_the_formula(novelty):
    X, _ = clouds(50, seed=1)
    np.testing.assert_allclose(novelty.of(X), mahalanobis(novelty, X), rtol=5e-3)


def test_one_in_twenty_of_the_same_kind_is_far(novelty):
    X, _ = clouds(20_000, seed=2)
    assert (novelty.of(X) > 1).mean() == pytest.approx(0.05, abs=0.02)


def test_another_kind_is_far(novelty):
    """Of the same mean and the same variance in each column, but in directions that do not vary."""
    X, _ = clouds(500, seed=3)
    rng = np.random.default_rng(4)
    shuffled = np.column_stack([rng.permutation(column) for column in X.T])
    assert (novelty.of(shuffled) > 1).mean() > 0.9
    assert (novelty.of(X + 3) > 1).all()


def test_the_nearest_class_counts(novelty):
    X = novelty.means / np.where(novelty.inverse_scale > 0, novelty.inverse_scale, 1)
    np.testing.assert_allclose(novelty.of((X + novelty.center).astype(np.float32)), 0, atol=0.05)


def test_variances_are_the_largest_of_all(novelty):
    """Against the eigenvalues of the whole matrix."""
    X, y = clouds(5000)
    z = (X - X.mean(axis=0)) / X.std(axis=0)
    z = z[np.arange(len(z)) % 5 > 0]
    of_row = y[np.arange(len(y)) % 5 > 0]
    within = z - np.stack([z[of_row == k].mean(axis=0) for k in range(3)])[of_row]
    values, vectors = np.linalg.eigh(within.T @ within / len(within))
    n = len(novelty.variances)
    np.testing.assert_allclose(novelty.variances, values[::-1][:n], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(novelty.rest, values[:-n].mean(), rtol=1e-2, atol=1e-6)
    overlap = np.abs(vectors[:, ::-1][:, :3].T @ novelty.directions[:, :3].astype(float))
    np.testing.assert_allclose(np.diag(overlap), 1, atol=1e-2)


def test_the_rows_that_are_held_out_set_the_threshold_alone():
    X, y = clouds()
    held_out = np.arange(len(y)) % 2 == 0
    one = fit_novelty(prepared(X), y, 3, held_out)
    again = fit_novelty(prepared(X), y, 3, held_out)
    assert one.threshold == again.threshold  # nothing is left to chance
    assert (one.of(X[held_out]) > 1).mean() == pytest.approx(0.05, abs=2e-3)


def test_constant_columns_are_looked_over():
    X, y = clouds(constant=True)
    found = fit_novelty(prepared(X), y, 3)
    assert np.isfinite(found.of(X)).all()
    assert (found.of(clouds(2000, seed=5, constant=True)[0]) > 1).mean() < 0.1


def test_few_rows_and_more_columns_than_rows():
    X, y = clouds(150)
    assert fit_novelty(prepared(X), y, 3) is None
    assert fit_novelty(prepared(np.ones((500, 4), np.float32)), np.arange(500) % 3, 3) is None
    wide = np.random.default_rng(6).normal(size=(250, 600)).astype(np.float32)
    found = fit_novelty(prepared(wide), np.arange(250) % 3, 3)
    new = np.random.default_rng(7).normal(size=(2000, 600)).astype(np.float32)
    assert (found.of(new) > 1).mean() < 0.15


def test_rows_are_taken_evenly_from_many(novelty):
    """More than are looked at, sorted by class."""
    X, y = clouds(30_000)
    order = np.argsort(y, kind="stable")
    found = fit_novelty(prepared(X[order]), y[order], 3)
    new, _ = clouds(5000, seed=8)
    assert (found.of(new) > 1).mean() == pytest.approx(0.05, abs=0.02)
    assert np.isfinite(found.means).all() and found.means.any(axis=1).all()


def with_novelty(novelty):
    head = make_head(3, widths=(WIDTH,))
    return dataclasses.replace(head, novelty=novelty)


def test_a_file_keeps_it(novelty, tmp_path):
    head = with_novelty(novelty)
    save_head(head, tmp_path / "head.joblib")
    found = load_head(tmp_path / "head.joblib").novelty
    X, _ = clouds(20, seed=9)
    np.testing.assert_array_equal(found.of(X), novelty.of(X))
    assert joblib.load(tmp_path / "head.joblib")["novelty"].keys() == novelty.to_dict().keys()


BROKEN = {
    "no record": lambda n: [1],
    "nothing in it": lambda n: {},
    "something more in it": lambda n: n | {"more": 1.0},
    "another width": lambda n: n | {"center": np.zeros(WIDTH + 1, np.float32)},
    "a mean too few": lambda n: n | {"means": n["means"][:2]},
    "directions as a list": lambda n: n | {"directions": [[1.0]]},
    "other directions than variances": lambda n: n | {"variances": n["variances"][:-1]},
    "a variance of 0": lambda n: n | {"variances": n["variances"] * 0},
    "not finite": lambda n: n | {"means": n["means"] * np.float32(np.nan)},
    "whole numbers": lambda n: n | {"center": np.zeros(WIDTH, int)},
    "no threshold": lambda n: n | {"threshold": 0.0},
    "a threshold without end": lambda n: n | {"threshold": float("inf")},
    "a rest of text": lambda n: n | {"rest": "1"},
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_says_something_else_is_refused(kind, novelty, tmp_path):
    path = tmp_path / "head.joblib"
    save_head(with_novelty(novelty), path)
    content = joblib.load(path)
    content["novelty"] = BROKEN[kind](content["novelty"])
    joblib.dump(content, path, protocol=4)
    with pytest.raises(FileRefused, match="its novelty is not that of its classes and columns"):
        load_head(path)


def test_a_head_without_it_is_read_as_before(tmp_path):
    save_head(make_head(), tmp_path / "head.joblib")
    assert load_head(tmp_path / "head.joblib").novelty is None
    assert isinstance(Novelty.from_dict(None, 3, 8), type(None))
