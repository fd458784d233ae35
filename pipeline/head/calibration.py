"""Make probabilities mean what they say, by a temperature and maybe biases of the evidence. Pure.

Out-of-fold logits and the true classes in; out come a `Calibration`, the probabilities at it, and
the coefficients into which it is folded. With the evidence e = logits - log(prior), where the
logits answer for that prior,

    p = softmax(e / T + b + log(prior))

For a uniform prior and b = 0 this is temperature scaling as in Guo et al., "On Calibration of
Modern Neural Networks", 2017, section 4.2. With a bias for each class, of which K - 1 count, it is
bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar, "Maximum likelihood with
bias-corrected calibration is hard-to-beat at label shift adaptation", 2020, section 3). Either
leaves the prior alone: evidence that is worth nothing gives back the prior, not equal shares, and
moving the result to another prior is the same as calibrating there. The loss is convex in 1/T and
b, as log-sum-exp of an affine function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.base.arrays import Codes, Floats
from pipeline.solver.solve import softmax

TEMPERATURE, BIAS_CORRECTED = "temperature", "bias-corrected"
# `auto` is the one of the two that is better on rows that it was not fitted on.
METHODS = ("auto", TEMPERATURE, BIAS_CORRECTED, "none")
# 1/T is kept within these: rows that are all right, or evidence that is all wrong, have no optimum.
_LEAST, _MOST = 0.01, 100.0
_MOST_STEPS = 100
# Rows whose products are there at a time.
_AT_ONCE = 2**14


@dataclass(frozen=True)
class Calibration:
    """What is done to evidence.

    Attributes
    ----------
    temperature : float
        1 leaves it as it is.
    bias : float array (K,)
        What is added then; it sums to 0.
    """

    temperature: float
    bias: Floats

    @classmethod
    def none(cls, n_classes: int) -> Calibration:
        """Leave everything as it is."""
        return cls(1.0, np.zeros(n_classes))

    def probabilities(self, logits: Floats, prior: Floats) -> Floats:
        """Give the probabilities (N, K) of logits that answer for `prior`."""
        log_prior = np.log(prior)
        moved = logits - log_prior
        moved /= self.temperature
        moved += self.bias
        moved += log_prior
        return softmax(moved)


def fit_calibration(
    method: str, logits: Floats, y: Codes, prior: Floats, weight: Floats
) -> Calibration:
    """Find the calibration of least log-loss.

    Parameters
    ----------
    method : str
        `temperature` or `bias-corrected`.
    logits : float array (N, K)
        Of rows that the model did not see, for `prior`.
    y : int array (N,)
    prior : float array (K,)
    weight : float array (N,)
        Of the rows.
    """
    if method == TEMPERATURE:
        return Calibration(fit_temperature(logits, y, prior, weight), np.zeros(len(prior)))
    return _fit_with_bias(logits, y, prior, weight)


def fit_temperature(logits: Floats, y: Codes, prior: Floats, weight: Floats) -> float:
    """Find the temperature of least log-loss, by Newton's method with a bracket.

    Parameters
    ----------
    logits, y, prior, weight
        As for `fit_calibration`.

    Returns
    -------
    float
        1 without rows, or without any evidence in them.
    """
    log_prior = np.log(prior)
    evidence = _evidence(logits, prior)
    if not evidence.any():
        return 1.0
    of_truth = evidence[np.arange(len(y)), y]
    weight = weight / weight.sum()
    low, high, inverse = _LEAST, _MOST, 1.0
    mean, of_squares = np.empty(len(y)), np.empty(len(y))
    while high - low > 1e-12 * high:
        for start in range(0, len(y), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            some = evidence[rows]
            p = softmax(inverse * some + log_prior)
            mean[rows] = _over_classes(p * some)
            of_squares[rows] = _over_classes(p * some**2)
        slope = float(weight @ (mean - of_truth))
        if slope > 0:
            high = inverse
        else:
            low = inverse
        curvature = float(weight @ (of_squares - mean**2))
        step = slope / curvature if curvature > 0 else np.inf
        if abs(step) <= 1e-12 * inverse:
            break
        inverse -= step
        if not low < inverse < high:
            inverse = float(np.sqrt(low * high))
    return float(1 / inverse)


def _fit_with_bias(logits: Floats, y: Codes, prior: Floats, weight: Floats) -> Calibration:
    """Find temperature and biases, by Newton's method that halves steps which lead up.

    The biases have a standard normal prior that counts as one row, so that there always is an
    optimum and their sum is 0.
    """
    n_rows, n_classes = logits.shape
    start = fit_temperature(logits, y, prior, weight)
    if not n_rows:
        return Calibration(start, np.zeros(n_classes))
    evidence, log_prior = _evidence(logits, prior), np.log(prior)
    weight = weight / weight.sum()
    ridge = np.diag([0.0, *[1 / n_rows] * n_classes])

    def loss(theta: Floats) -> float:
        p = softmax(theta[0] * evidence + theta[1:] + log_prior)
        found = np.maximum(p[np.arange(n_rows), y], np.finfo(float).tiny)
        return float(-weight @ np.log(found) + 0.5 * theta @ ridge @ theta)

    theta = np.array([1 / start, *[0.0] * n_classes])
    value = loss(theta)
    for _ in range(_MOST_STEPS):
        p = softmax(theta[0] * evidence + theta[1:] + log_prior)
        scores, curvature = _derivatives(evidence, p, y, weight)
        slope = scores.sum(axis=0) + ridge @ theta
        step = np.linalg.lstsq(curvature + ridge, slope, rcond=None)[0]
        size = 1.0
        while size > 1e-9:
            tried = theta - size * step
            tried[0] = np.clip(tried[0], _LEAST, _MOST)
            if (lower := loss(tried)) < value:
                break
            size /= 2
        else:
            break
        theta, value = tried, lower
    return Calibration(float(1 / theta[0]), theta[1:] - theta[1:].mean())


def uncertainty(logits: Floats, y: Codes, prior: Floats, weight: Floats) -> Floats:
    """Say how well rows settle the scale of the evidence and the biases: their covariance.

    For evidence e that is calibrated, of scale 1 and bias 0, these rows would give scale 1 + s and
    biases b, with (s, b) of this covariance about where they are: the sandwich of White, "Maximum
    likelihood estimation of misspecified models", 1982. Rows are drawn within their classes, whose
    shares are the prior's by the weights.

    Parameters
    ----------
    logits, y, prior, weight
        As for `fit_calibration`, the logits calibrated.

    Returns
    -------
    float array (1 + K, 1 + K)
        Of s and b; b sums to 0.
    """
    weight = weight / weight.sum()
    scores, curvature = _derivatives(_evidence(logits, prior), softmax(logits), y, weight)
    spread = np.zeros_like(curvature)
    for k in np.unique(y):
        of_class = scores[y == k]
        of_class -= of_class.mean(axis=0)
        spread += of_class.T @ of_class
    inverse = np.linalg.pinv(curvature, rcond=1e-9, hermitian=True)
    return np.asarray(inverse @ spread @ inverse)


def _evidence(logits: Floats, prior: Floats) -> Floats:
    """Give evidence (N, K) whose mean over the classes is 0."""
    evidence = logits - np.log(prior)
    evidence -= (_over_classes(evidence) / evidence.shape[1])[:, None]
    return np.asarray(evidence)


def _over_classes(values: Floats) -> Floats:
    """Add up (N, K) over the classes, (N,), with the bits of `values.sum(axis=1)`.

    Up to 7 numbers are added one after another there; column by column that is many times faster.
    """
    if values.shape[1] >= 8:
        return np.asarray(values.sum(axis=1))
    total = values[:, 0].copy()
    for column in values.T[1:]:
        total += column
    return total


def _derivatives(evidence: Floats, p: Floats, y: Codes, weight: Floats) -> tuple[Floats, Floats]:
    """Of the log-loss in (1/T, b): the gradient of each row, (N, 1 + K), and the Hessian."""
    n_rows, n_classes = p.shape
    mean = _over_classes(p * evidence)
    weighted = p * weight[:, None]
    products = evidence**2
    products *= weighted
    curvature = np.empty((1 + n_classes, 1 + n_classes))
    curvature[0, 0] = products.sum() - weight @ mean**2
    np.subtract(evidence, mean[:, None], out=products)
    products *= weighted
    curvature[0, 1:] = curvature[1:, 0] = products.sum(axis=0)
    curvature[1:, 1:] = np.diag(weighted.sum(axis=0)) - weighted.T @ p
    del weighted
    scores = np.empty((n_rows, 1 + n_classes))
    scores[:, 1:] = p
    scores[np.arange(n_rows), 1 + y] -= 1
    np.multiply(scores[:, 1:], evidence, out=products)
    scores[:, 0] = _over_classes(products)
    scores *= weight[:, None]
    return scores, curvature


def cross_fitted(
    method: str, logits: Floats, y: Codes, groups: Codes, prior: Floats, weight: Floats
) -> Floats:
    """Give probabilities (N, K), of each group of rows at the calibration of the other groups.

    So that the figures of calibrated probabilities are of rows that the calibration did not see.

    Parameters
    ----------
    method, logits, y, prior, weight
        As for `fit_calibration`.
    groups : int array (N,)
    """
    calibrated = np.empty_like(logits)
    for group in np.unique(groups):
        here = groups == group
        of_others = fit_calibration(method, logits[~here], y[~here], prior, weight[~here])
        calibrated[here] = of_others.probabilities(logits[here], prior)
    return calibrated


def folded(
    coef: Floats, intercept: Floats, *, calibration: Calibration, fitted: Floats, stated: Floats
) -> tuple[Floats, Floats]:
    """Put a calibration, and another prior, into coefficients.

    Parameters
    ----------
    coef, intercept : float arrays (K, D), (K,)
        As fitted.
    calibration : Calibration
    fitted, stated : float arrays (K,)
        The prior that these answer for, and the one that the result shall.

    Returns
    -------
    coef, intercept : float arrays (K, D), (K,)
    """
    temperature = calibration.temperature
    constant = (intercept - np.log(fitted)) / temperature + calibration.bias + np.log(stated)
    return coef / temperature, constant
