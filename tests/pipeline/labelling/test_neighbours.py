"""Shares of neighbours with another label, by hand and against plain loops."""

import numpy as np
import pytest
from stores import blobs

from features.errors import InputError
from pipeline.labelling.neighbours import directions, disagreement, share_of_others, standardised
from pipeline.solver.blocks import Rows
from pipeline.solver.solve import prepare


def prepared(X, y, **options):
    return prepare(Rows.of(X), y, n_classes=int(y.max()) + 1, memory=2**30, **options)


def unit(*angles):
    turn = np.deg2rad(angles)
    return np.column_stack([np.cos(turn), np.sin(turn)]).astype(np.float32)


def test_by_hand():
    x, y = unit(0, 60, 90, 200), np.array([0, 1, 0, 1])
    found = share_of_others(x, y, np.arange(4), 2)
    # Row 0: cosines .5 to row 1, of another class, and 0 to row 2. Row 1: .5 to 0, .866 to 2.
    # Row 2: .866 to row 1, 0 to row 0. Row 3 lies away from all: nobody is asked.
    np.testing.assert_allclose(found, [1, 1, 1, 0.5], atol=1e-6)


def test_rows_of_one_text_are_not_asked():
    x, y, text = unit(0, 0, 10, 20), np.array([0, 1, 1, 0]), np.array([5, 5, 2, 3])
    near = np.cos(np.deg2rad([10, 20]))
    np.testing.assert_allclose(
        share_of_others(x, y, text, 2)[:2], [near[0], near[1]] / near.sum(), rtol=1e-5
    )


def test_like_a_plain_loop():
    X, y = blobs(700, 6, 3)  # more rows than are compared at a time
    data = prepared(X, y)
    z = (X - X.mean(0)) / X.std(0)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(directions(standardised(data.vectors, data.scale)), z, atol=1e-4)
    expected = []
    for i in range(len(y)):
        cosine = z @ z[i]
        cosine[i] = -1
        near = np.argsort(-cosine)[:20]
        weight = np.maximum(cosine[near], 0)
        expected.append(weight[y[near] != y[i]].sum() / weight.sum())
    found = disagreement(data, np.arange(len(y))[:, None], memory=2**30)
    # Rounding moves who is the twentieth here and there.
    assert np.mean(np.abs(found - expected) < 1e-3) > 0.98


def test_a_constant_column_and_a_scale_of_a_view():
    X, y = blobs(60, 4, 2)
    wide = np.column_stack([X, np.full(60, 7.0, np.float32)])
    scale = np.array([1, 1, 4, 4, 1.0])
    data = prepared(wide, y, scale=scale)
    found = directions(standardised(data.vectors, data.scale))
    z = (X - X.mean(0)) / X.std(0) * scale[:4]
    np.testing.assert_allclose(
        found[:, :4], z / np.linalg.norm(z, axis=1, keepdims=True), atol=1e-4
    )
    assert (found[:, 4] == 0).all()


def test_vectors_that_do_not_fit_are_refused():
    X, y = blobs(60, 4, 2)
    with pytest.raises(InputError, match="raise `memory`"):
        disagreement(prepared(X, y), np.arange(60)[:, None], memory=100)
