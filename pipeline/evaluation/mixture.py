"""Find the likeliest shares of the classes from likelihood ratios of rows. Pure.

Row i speaks for class k by a ratio r_ik, proportional to p(x_i | k). If the classes have the shares
q, its density is proportional to r_i . q, so that the likeliest shares maximise

    L(q) = sum_i w_i log(r_i . q),    q >= 0,  sum q = 1.

L is concave. The EM algorithm of Saerens, Latinne and Decaestecker, "Adjusting the outputs of a
classifier to new a priori probabilities", 2002, section 2.2, climbs it by

    q_k  <-  q_k * sum_i w_i r_ik / (r_i . q)

which never goes down, but creeps where the classes are hard to tell apart. So each step is Newton's
where that climbs at least as high, and EM's otherwise: Newton's on the shares that are not held at
0 (Bertsekas, "Projected Newton methods for optimization problems with simple constraints", 1982),
of L(q) - sum q, whose maximum over q >= 0 sums to 1 by itself.
"""

from __future__ import annotations

import numpy as np

from features.base.arrays import Floats

_MOST_STEPS = 200
_TOLERANCE = 1e-7
# A share that EM may start from again: it multiplies, so that it can't leave 0.
_LEAST = 1e-9


def likeliest_shares(
    ratios: Floats, weight: Floats | None = None, start: Floats | None = None
) -> Floats:
    """Find the shares of the classes under which rows are likeliest, of many mixtures at once.

    Parameters
    ----------
    ratios : float array (K, B, N)
        Of the rows of B mixtures: above 0, those of a row up to a factor of its own. The classes
        come first, so that all steps run along the rows.
    weight : float array (B, N), optional
        Of the rows, which sum to 1 in each mixture. Default: all alike.
    start : float array (K,), optional
        A guess, such as the shares in rows of which these were drawn.

    Returns
    -------
    float array (B, K)
        Shares that sum to 1; 0 where nothing speaks for a class.

    Examples
    --------
    Where rows show their class, the shares are those that are counted:

    >>> ratios = np.array([[[1, 1e-12, 1e-12, 1e-12]], [[1e-12, 1, 1, 1]]])
    >>> likeliest_shares(ratios).round(6).tolist()
    [[0.25, 0.75]]
    """
    n_classes, n_mixtures, n_rows = ratios.shape
    guess = np.full(n_classes, 1 / n_classes) if start is None else np.maximum(start, 1e-4)
    shares = np.repeat(_to_one(guess[None]), n_mixtures, axis=0)
    density = _density(ratios, shares)
    for _ in range(_MOST_STEPS):
        relative = ratios / density
        weighted = relative / n_rows if weight is None else relative * weight
        curvature = weighted.transpose(1, 0, 2) @ relative.transpose(1, 2, 0)
        slope = (curvature @ shares[:, :, None])[:, :, 0]  # as relative . shares is 1
        before = shares
        shares = _newton(shares, slope - 1, curvature)
        found = _density(ratios, shares)
        if not _is_surely_higher(density, found, before, shares):
            by_em = _to_one(np.maximum(before, _LEAST) * slope)
            of_em = _density(ratios, by_em)
            gain = np.log(found / of_em)
            higher = (gain.mean(axis=1) if weight is None else (weight * gain).sum(axis=1)) >= 0
            shares = np.where(higher[:, None], shares, by_em)
            found = np.where(higher[:, None], found, of_em)
        density = found
        if np.abs(shares - before).max(initial=0.0) < _TOLERANCE:
            break
    return np.where(shares > 10 * _LEAST, shares, 0.0)


def _is_surely_higher(before: Floats, after: Floats, was: Floats, shares: Floats) -> bool:
    """Say whether Newton's step surely leads up, in all mixtures.

    With t the relative changes of the densities, it promises a gain of sum w t^2 / 2, and what the
    parabola leaves out is at most 0.28 t^2 for |t| <= 1/2. Of a step that ran into a bound nothing
    is known.
    """
    change = np.abs(after / before - 1).max(initial=0.0)
    return bool(change <= 0.5 and (shares > 0).all() and (was > _LEAST).all())


def _density(ratios: Floats, shares: Floats) -> Floats:
    """Give r_i . q, (B, N), above 0."""
    density = ratios[0] * shares[:, :1]
    for of_class, share in zip(ratios[1:], shares.T[1:], strict=True):
        density += of_class * share[:, None]
    return np.asarray(np.maximum(density, np.finfo(float).tiny))


def _newton(shares: Floats, slope: Floats, curvature: Floats) -> Floats:
    """Step to the top of the parabola through (B, K) shares, on those that may move."""
    n_classes = shares.shape[1]
    moves = (shares > _LEAST) | (slope > 0)
    both = moves[:, :, None] & moves[:, None, :]
    # As good as singular where two classes look alike.
    scale = np.einsum("bkk->b", curvature)[:, None, None] * 1e-12 + np.finfo(float).tiny
    diagonal = np.eye(n_classes) * np.where(moves[:, :, None], scale, 1.0)
    system = np.where(both, curvature, 0.0) + diagonal
    step = np.linalg.solve(system, np.where(moves, slope, 0.0)[:, :, None])[:, :, 0]
    landed = np.maximum(shares + step, 0.0)
    # Nowhere to land: stay, and EM goes on.
    empty = landed.sum(axis=1, keepdims=True) <= 0
    return _to_one(np.where(empty, shares, landed))


def _to_one(shares: Floats) -> Floats:
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
