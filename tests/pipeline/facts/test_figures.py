"""Curves, bins, coordinates and scripts are those of independent implementations."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.preprocessing import StandardScaler
from stores import blobs, make_head, write_store

from features.errors import InputError
from pipeline.data.join import open_joined
from pipeline.evaluation.metrics import measure
from pipeline.facts.curves import precision_recall, reliability
from pipeline.facts.plane import components, near_to_alike, on_plane, projected
from pipeline.facts.scripts import scripts_of


def scored(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    proba = rng.dirichlet([1, 1, 1], rows) + 0.7 * np.eye(3)[y] * rng.random((rows, 1))
    return y, (proba / proba.sum(axis=1, keepdims=True)).round(2)  # with ties


def test_precision_and_recall_are_those_of_scikit_learn():
    y, proba = scored()
    for k, one in enumerate(precision_recall(y, proba, ["a", "b", "c"])):
        assert one.average_precision == pytest.approx(average_precision_score(y == k, proba[:, k]))
        precision, recall, _ = precision_recall_curve(y == k, proba[:, k])
        there = set(zip(recall.round(9), precision.round(9), strict=True))
        assert set(zip(np.round(one.recall, 9), np.round(one.precision, 9), strict=True)) <= there
        assert len(one.recall) <= 100
        assert one.recall[-1] == 1
        assert list(one.recall) == sorted(one.recall)


def test_a_class_without_rows_has_no_curve():
    y, proba = scored()
    found = precision_recall(np.minimum(y, 1), proba, ["a", "b", "c"])
    assert [one.label for one in found] == ["a", "b"]


def test_bins_give_the_calibration_error():
    y, proba = scored()
    weight = np.random.default_rng(1).random(len(y)) + 0.5
    found = reliability(y, proba, None, weight)
    assert found.before is None
    assert sum(one.rows for one in found.after) == len(y)
    even = reliability(y, proba, proba, np.ones(len(y)))
    gaps = [one.rows * abs(one.confidence - one.accuracy) for one in even.after]
    expected = measure(y, proba, ["a", "b", "c"]).calibration_error
    assert sum(gaps) / len(y) == pytest.approx(expected)
    assert even.before == even.after


def test_coordinates_are_those_of_principal_components(tmp_path):
    X, y = blobs(300, 8, 3)
    X[:, 3] = 7.0  # constant
    with open_joined(write_store(tmp_path / "s.h5", X, y)) as stores:
        found = on_plane(make_head(), stores)
    expected = PCA(2, svd_solver="full").fit_transform(StandardScaler().fit_transform(X))
    signs = np.sign((found * expected).sum(axis=0))
    assert found == pytest.approx(expected * signs, abs=1e-3)
    assert found.dtype == np.float32


def test_many_components_are_those_of_scikit_learn(tmp_path):
    X, y = blobs(300, 8, 3)
    with open_joined(write_store(tmp_path / "s.h5", X, y)) as stores:
        found = projected(make_head(), stores, 10)
    expected = PCA(8, svd_solver="full").fit_transform(StandardScaler().fit_transform(X))
    signs = np.sign((found[:, :8] * expected).sum(axis=0))
    assert found[:, :8] == pytest.approx(expected * signs, abs=1e-3)
    assert (found[:, 8:] == 0).all()


def test_umap_keeps_groups_together_and_is_the_same_each_time(monkeypatch):
    """Of rows that it was fitted on, and of those that were put there later."""
    pytest.importorskip("umap", reason="umap-learn is not installed")
    monkeypatch.setattr("pipeline.facts.plane._FITTED", 100)
    rng = np.random.default_rng(0)
    y = np.arange(150) % 3
    z = (rng.normal(size=(150, 10)) + 12 * np.eye(3, 10)[y]).astype(np.float32)
    found = near_to_alike(z)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    far = ((found[:, None] - found[None]) ** 2).sum(axis=2) + np.diag([np.inf] * 150)
    assert (y[far.argmin(axis=1)] == y).mean() > 0.97
    np.testing.assert_array_equal(near_to_alike(z), found)
    assert np.isfinite(near_to_alike(np.zeros((40, 10), np.float32))).all()


def test_umap_of_few_rows_is_refused():
    with pytest.raises(InputError, match="32 rows or more, and there are 31"):
        near_to_alike(np.zeros((31, 5), np.float32))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 2)])
def test_few_rows_or_columns_have_coordinates_too(shape):
    z = np.arange(shape[0] * shape[1], dtype=float).reshape(shape)
    found = components(z)
    assert found.shape == (shape[1], 2)
    assert np.isfinite(found).all()


def test_scripts():
    texts = ["hello", "", "😀 123", "שלום world", "你好", "สวัสดี", "a" + "\u0301" * 10_000, "مرحبا"]
    found = {one.name: one.rows for one in scripts_of(texts)}
    assert found == {
        "Latin": 3,
        "none": 2,
        "CJK": 1,
        "Thai": 1,
        "Arabic": 1,
    }
