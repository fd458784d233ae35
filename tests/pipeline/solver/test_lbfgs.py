"""The preconditioner, against the matrix that it is the inverse of."""

import numpy as np
import pytest

from pipeline.solver.lbfgs import Gram, Preconditioner

K, D = 3, 40


@pytest.mark.parametrize("n_rows", [1, 5, 19, 20, 21, 39, 40, 90])
def test_it_is_the_inverse_of_curvature_times_gram_and_one(n_rows):
    random = np.random.default_rng(n_rows)
    z = random.normal(size=(n_rows, D))
    matrix = z.T @ z / n_rows
    root = random.normal(size=(2, K, K))
    curvature = 50 * root @ root.transpose(0, 2, 1)
    vector = random.normal(size=(2, K, 1 + D))
    found = Preconditioner(Gram.of(matrix, n_rows), curvature).apply(slice(0, 2), vector)
    for one, by, given in zip(found, curvature, vector, strict=True):
        whole = np.kron(by, matrix) + np.eye(K * D)
        expected = np.linalg.solve(whole, given[:, 1:].ravel()).reshape(K, D)
        np.testing.assert_allclose(one[:, 1:], expected, atol=1e-11)
        np.testing.assert_allclose(by @ one[:, 0], given[:, 0], atol=1e-10)


def test_fewer_rows_than_columns_leave_directions_without_curvature():
    z = np.random.default_rng(0).normal(size=(7, D)).astype(np.float32)
    gram = Gram.of((z.T @ z / 7).astype(np.float64), 7)
    assert (gram.values[: D - 7] == 0).all()
    assert (gram.values[D - 7 :] > 0.1).all()
    rebuilt = gram.vectors * gram.values @ gram.vectors.T
    np.testing.assert_allclose(rebuilt, z.T @ z / 7, atol=1e-5)
