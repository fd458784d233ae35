"""Say what each training row does to a prediction: a solved model in, one number a row out.

To leave row i out of the fit changes P (`pipeline/solver/objective.py`) to P_i, and the weights to
those where P_i is least. The first step of Newton's method from the old weights theta is
-H_i^-1 dP_i(theta), with H_i the Hessian of P_i. A prediction that is linear in theta, with
gradient g, so changes by about

    -g' H_i^-1 dP_i(theta) ~ -u' (1 + w_i G_i) dP_i(theta),    H u = g

(Cook and Weisberg, "Residuals and influence in regression", 1982; Koh and Liang, "Understanding
black-box predictions via influence functions", 2017, equation 1, with the sign turned). One system
is solved, whatever the number of rows, by conjugate gradients: each step is a pass over the data,
and the preconditioner is the solver's own. H is never built.

dP_i is exact, and has in it what else a fit without the row does: balanced class weights are those
of the rows that are left, and so are the standard deviations by which columns are penalised. That
H_i lacks the row's own curvature, which counts where rows are few, is the factor of the row's own
residual: w_i G_i = w_i (diag(p_i) - p_i p_i') M_i, where M_i (K, K) is z_i' H^-1 z_i by the
preconditioner. The series of which this is the beginning need not converge where that is rough.

This is an estimate; what a fit without the row says is the truth. No file is read here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.base.arrays import Array, Floats
from features.errors import CannotContinue
from pipeline.solver.lbfgs import Preconditioner
from pipeline.solver.objective import Objective, TrainingSet
from pipeline.solver.solve import Data, Solution, balanced_weights, softmax
from pipeline.solver.sums import BlockResult

# The residual of the linear system, relative to its right side, and the steps it may take.
_TOL = 1e-8
_MOST_STEPS = 1000


@dataclass(frozen=True)
class _Model:
    """A solved model, with what all passes over its rows need.

    Attributes
    ----------
    objective : Objective
        Of this model alone, on all rows.
    theta : float64 array (K, 1 + D)
        Its intercepts and weights, in the space where P penalises.
    proba : float64 array (N, K)
        What it says of its rows.
    row_weights : float64 array (N,)
        C times the class weight of each row.
    precondition : Preconditioner
        About the inverse of H.
    """

    objective: Objective
    theta: Floats
    proba: Floats
    row_weights: Floats
    precondition: Preconditioner

    @property
    def inverse_std(self) -> Floats:
        """What raw centred columns are multiplied by, (D,)."""
        return np.asarray(self.objective.inverse_std[0])


def influence(
    data: Data, training: TrainingSet, solution: Solution, x: Floats, direction: Floats
) -> Floats:
    """Say how much less ``direction @ logits(x)`` would be without each of the rows, (N,).

    Parameters
    ----------
    data : Data
        Rows of weight 1, N x D.
    training : TrainingSet
        All of these rows; class weights, where there are some, are balanced ones.
    solution : Solution
        The model that was fitted on them, to a certificate far below what one row changes.
    x : float array (D,)
        A raw vector.
    direction : float array (K,)
        Sums to 0.

    Returns
    -------
    float64 array (N,)
        Above 0: the row speaks for the direction.

    Raises
    ------
    CannotContinue
        The linear system is not solved in a thousand passes over the data.
    """
    model = _model(data, training, solution)
    z = (x - data.vectors.center.astype(np.float64)) * model.inverse_std
    u = _conjugate_gradients(model, np.outer(direction, np.concatenate([[1.0], z])))
    of_class, of_own, of_squares = _of_rows(model, u)
    # What a change of the standard deviations does to the penalty: those of N - 1 rows, over those
    # of N, squared, are N / (N - 1) * (1 - z^2 / (N - 1)).
    n = len(data.y)
    by_column = (u[:, 1:] * model.theta[:, 1:]).sum(axis=0)
    of_penalty = by_column.sum() / (n - 1) - of_squares * n / (n - 1) ** 2
    return np.asarray(_without_rows(model, training, of_class, of_own) + of_penalty)


def _model(data: Data, training: TrainingSet, solution: Solution) -> _Model:
    """Bring a solution back into the space where P penalises, and let it look at its rows."""
    objective = Objective(
        data.vectors, data.y, data.weight, data.n_classes, [solution.C], [training], data.scale
    )
    inverse = objective.inverse_std[0]
    center = data.vectors.center.astype(np.float64)
    theta = np.empty((data.n_classes, 1 + objective.n_columns))
    theta[:, 1:] = solution.coef / np.where(inverse > 0, inverse, np.inf)
    theta[:, 0] = solution.intercept + solution.coef @ center
    coef = theta[:, 1:] * inverse

    def of_block(z: Array, /, *_: Array) -> BlockResult:
        return BlockResult(rows=(softmax(z.astype(np.float64) @ coef.T + theta[:, 0]),))

    parts: list[Array] = []
    data.vectors.sum(of_block, take=lambda rows: parts.append(rows[0]))
    proba = np.concatenate(parts)
    weight = data.weight * float(objective.C[0])
    if training.class_weight is not None:
        weight = weight * training.class_weight[data.y]
    at = objective.evaluate(np.zeros(1, np.intp), theta[None], np.float64)
    return _Model(objective, theta, proba, weight, Preconditioner(data.gram, at.curvature))


def _conjugate_gradients(model: _Model, right: Floats) -> Floats:
    """Solve H u = right, both (K, 1 + D); algorithm 5.3 of Nocedal and Wright, 2006."""

    def preconditioned(vector: Floats) -> Floats:
        return np.asarray(model.precondition.apply(slice(0, 1), vector[None])[0])

    u, residual = np.zeros_like(right), right.copy()
    turned = preconditioned(residual)
    step, product = turned, float((residual * turned).sum())
    enough = _TOL * float(np.linalg.norm(right))
    for _ in range(_MOST_STEPS):
        if np.linalg.norm(residual) <= enough:
            return u
        curved = _hessian_times(model, step)
        length = product / float((step * curved).sum())
        u = u + length * step
        residual = residual - length * curved
        turned = preconditioned(residual)
        before, product = product, float((residual * turned).sum())
        step = turned + (product / before) * step
    raise CannotContinue(
        f"the influence of the rows is not known after {_MOST_STEPS} passes over the vectors; "
        "that of a head of a smaller `C` is found in fewer"
    )


def _hessian_times(model: _Model, v: Floats) -> Floats:
    """Multiply the Hessian of P with intercepts and weights (K, 1 + D)."""
    inverse = model.inverse_std
    of_weights = v[:, 1:] * inverse

    def of_block(z: Array, /, *columns: Array) -> BlockResult:
        p, row_weights = columns
        wide = z.astype(np.float64)
        change = wide @ of_weights.T + v[:, 0]
        change -= (p * change).sum(axis=1, keepdims=True)
        change *= p * row_weights[:, None]
        return BlockResult((change.sum(axis=0), change.T @ wide))

    sums = model.objective.vectors.sum(of_block, [model.proba, model.row_weights])
    found = np.empty_like(v)
    found[:, 0] = sums[0]
    found[:, 1:] = sums[1] * inverse + v[:, 1:]
    return found


def _of_rows(model: _Model, u: Floats) -> tuple[Floats, Floats, Floats]:
    """Go once over the rows with the solved system u.

    Returns
    -------
    of_class : float64 array (K,)
        u' of the gradient of the rows' losses, summed over each class, without weights.
    of_own : float64 array (N,)
        The same of each row, by the Hessian without it.
    of_squares : float64 array (N,)
        The sum of u W z^2 over all weights.
    """
    objective, inverse = model.objective, model.inverse_std
    n_classes = objective.n_classes
    of_weights = u[:, 1:] * inverse
    by_column = (u[:, 1:] * model.theta[:, 1:]).sum(axis=0)
    squares = by_column * objective.vectors.inverse_scale**2
    # A product with all of D x D: in the precision of the vectors, it is the pass's longest part.
    eigenvectors = model.precondition.gram.vectors.astype(objective.vectors.center.dtype)

    def of_block(z: Array, /, *columns: Array) -> BlockResult:
        y, p, row_weights = columns
        wide = z.astype(np.float64)
        change = wide @ of_weights.T + u[:, 0]
        residuals = p - np.eye(n_classes)[y]
        turned = (z * inverse.astype(z.dtype)) @ eigenvectors
        own = residuals + _own_curvature(model, p, row_weights, turned, residuals)
        of_class = np.bincount(y, (residuals * change).sum(axis=1), n_classes)
        return BlockResult(
            (of_class.astype(np.float64),), ((own * change).sum(axis=1), np.square(wide) @ squares)
        )

    columns = [objective.y, model.proba, model.row_weights]
    found: list[tuple[Array, ...]] = []
    (of_class,) = objective.vectors.sum(of_block, columns, take=found.append)
    of_own, of_squares = map(np.concatenate, zip(*found, strict=True))
    return of_class, of_own, of_squares


def _own_curvature(
    model: _Model, p: Floats, row_weights: Floats, turned: Array, residuals: Floats
) -> Floats:
    """Give w_i G_i r_i for n rows: z (n, D) by the Gram's eigenvectors and residuals (n, K) in."""
    precondition = model.precondition
    values, basis = precondition.values[0], precondition.basis[0]
    along = np.square(turned) @ (1 / (np.outer(precondition.gram.values, values) + 1))
    flat = values <= 1e-10 * values[-1]
    along += np.where(flat, 0.0, 1 / np.where(flat, 1.0, values))  # the intercepts
    moved = ((residuals @ basis) * along) @ basis.T  # M_i r_i
    moved -= (p * moved).sum(axis=1, keepdims=True)
    return np.asarray(moved * p * row_weights[:, None])


def _without_rows(model: _Model, training: TrainingSet, of_class: Floats, of_own: Floats) -> Floats:
    """Give u' of the change of the losses' gradient when a row is left out, (N,).

    The row's own part goes, and balanced weights of all classes become those of the rows left.
    """
    if training.class_weight is None:
        return -model.row_weights * of_own
    y, n_classes = model.objective.y, model.objective.n_classes
    counts = np.bincount(y, minlength=n_classes)
    own, others = np.zeros(n_classes), np.zeros(n_classes)
    for k in np.flatnonzero(counts):
        left = np.repeat(np.arange(n_classes), counts - (np.arange(n_classes) == k))
        weights = balanced_weights(left, n_classes)
        own[k] = weights[k]
        others[k] = (weights - training.class_weight) @ of_class
    return np.asarray(float(model.objective.C[0]) * (others[y] - own[y] * of_own))
