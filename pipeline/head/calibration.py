"""Probabilities that mean what they say: a temperature for the evidence. Pure.

Out-of-fold logits and the true classes in; out come the temperature T, the probabilities at it, and
the coefficients into which it is folded. With the evidence e = logits - log(prior), where the
logits answer for that prior,

    p = softmax(e / T + log(prior))

For a uniform prior this is temperature scaling as in Guo et al., "On Calibration of Modern Neural
Networks", 2017, section 4.2. For another one it leaves the prior alone: evidence that is worth
nothing gives back the prior, not equal shares, and moving the result to another prior is the same
as tempering there. The loss is convex in 1/T, as log-sum-exp of an affine function.
"""

from __future__ import annotations

import numpy as np

from features.base.arrays import Codes, Floats
from pipeline.solver.solve import softmax

METHODS = ("temperature", "none")
# 1/T is kept within these: rows that are all right, or evidence that is all wrong, have no optimum.
_LEAST, _MOST = 0.01, 100.0


def fit_temperature(logits: Floats, y: Codes, prior: Floats, weight: Floats) -> float:
    """Find the temperature of least log-loss, by Newton's method with a bracket.

    Parameters
    ----------
    logits : float array (N, K)
        Of rows that the model did not see, for `prior`.
    y : int array (N,)
    prior : float array (K,)
    weight : float array (N,)
        Of the rows.

    Returns
    -------
    float
        1 without rows, or without any evidence in them.
    """
    log_prior = np.log(prior)
    evidence = logits - log_prior
    evidence = evidence - evidence.mean(axis=1, keepdims=True)
    if not evidence.any():
        return 1.0
    of_truth = evidence[np.arange(len(y)), y]
    weight = weight / weight.sum()
    low, high, inverse = _LEAST, _MOST, 1.0
    while high - low > 1e-12 * high:
        p = softmax(inverse * evidence + log_prior)
        mean = (p * evidence).sum(axis=1)
        slope = weight @ (mean - of_truth)
        if slope > 0:
            high = inverse
        else:
            low = inverse
        curvature = weight @ ((p * evidence**2).sum(axis=1) - mean**2)
        step = slope / curvature if curvature > 0 else np.inf
        if abs(step) <= 1e-12 * inverse:
            break
        inverse -= step
        if not low < inverse < high:
            inverse = float(np.sqrt(low * high))
    return float(1 / inverse)


def at_temperature(logits: Floats, temperature: float, prior: Floats) -> Floats:
    """Give the probabilities (N, K) of logits that answer for `prior`."""
    log_prior = np.log(prior)
    return softmax((logits - log_prior) / temperature + log_prior)


def cross_fitted(logits: Floats, y: Codes, groups: Codes, prior: Floats, weight: Floats) -> Floats:
    """Give probabilities (N, K), of each group of rows at the temperature of the other groups.

    So that the figures of calibrated probabilities are of rows that the temperature did not see.

    Parameters
    ----------
    logits, y, prior, weight
        As for `fit_temperature`.
    groups : int array (N,)
    """
    tempered = np.empty_like(logits)
    for group in np.unique(groups):
        here = groups == group
        temperature = fit_temperature(logits[~here], y[~here], prior, weight[~here])
        tempered[here] = at_temperature(logits[here], temperature, prior)
    return tempered


def folded(
    coef: Floats, intercept: Floats, *, temperature: float, fitted: Floats, stated: Floats
) -> tuple[Floats, Floats]:
    """Put a temperature, and another prior, into coefficients.

    Parameters
    ----------
    coef, intercept : float arrays (K, D), (K,)
        As fitted.
    temperature : float
    fitted, stated : float arrays (K,)
        The prior that these answer for, and the one that the result shall.

    Returns
    -------
    coef, intercept : float arrays (K, D), (K,)
    """
    return coef / temperature, (intercept - np.log(fitted)) / temperature + np.log(stated)
