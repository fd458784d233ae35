"""Read class priors, and move probabilities from one prior to another. Pure.

A classifier that was fitted where the classes have the shares `old` gives p(class | x) for such
rows. For rows where they have the shares `new`, and where tweets of one class look as they did, the
same evidence gives

    p_new(k | x)  ~  p_old(k | x) * new[k] / old[k],    that is, logits + log(new) - log(old)

(Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori
probabilities", 2002, equation 2.4). Class weights are a prior as well: balanced ones make a fit
answer for classes of equal shares, whatever theirs are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Floats
from features.errors import InputError


def fitted_prior(class_rows: Sequence[int], class_weight: str) -> Floats:
    """Give the prior that a fit answers for, (K,): uniform if balanced, else that of its rows."""
    counts = np.asarray(class_rows, np.float64)
    return np.full(len(counts), 1 / len(counts)) if class_weight == "balanced" else _shares(counts)


def parse_prior(
    prior: str | Mapping[str, float], labels: Sequence[str], class_rows: Sequence[int]
) -> Floats:
    """Read a prior, (K,).

    Parameters
    ----------
    prior : str or mapping
        `uniform`; `training`: that of the rows of the fit; or a share, or a number of rows, for
        each class, as a mapping or as ``a=0.2,b=0.5,c=0.3``. They are divided by their sum.
    labels : sequence of str, (K,)
    class_rows : sequence of int, (K,)
        Rows of each class in the fit.

    Raises
    ------
    InputError
        A class is missing, unknown or named twice, or a share is not above 0.

    Examples
    --------
    >>> parse_prior("no=1,yes=3", ["no", "yes"], [10, 10])
    array([0.25, 0.75])
    """
    if prior == "uniform":
        return np.full(len(labels), 1 / len(labels))
    if prior == "training":
        return _shares(np.asarray(class_rows, np.float64))
    shares = _named(prior) if isinstance(prior, str) else dict(prior)
    if set(shares) != set(labels):
        odd = sorted(set(shares) ^ set(labels))
        raise InputError(
            f"the prior and the classes differ in {', '.join(map(repr, odd))}; give a share for "
            f"each of {', '.join(labels)}"
        )
    found = np.array([shares[label] for label in labels], np.float64)
    if not (np.isfinite(found) & (found > 0)).all():
        raise InputError(f"the prior has shares {found.tolist()}; each must be above 0")
    return _shares(found)


def _named(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        label, equals, value = part.rpartition("=")
        try:
            share = float(value)
        except ValueError:
            equals = ""
        if not equals or label in shares:
            raise InputError(
                f"prior {text!r} can't be read: give uniform, training, or a share for each class "
                "once, e.g. negative=0.2,neutral=0.5,positive=0.3"
            )
        shares[label] = share
    return shares


def _shares(counts: Floats) -> Floats:
    return np.asarray(counts / counts.sum())


def shift(old: Floats, new: Floats) -> Floats:
    """Give what moves logits from one prior to another, (K,)."""
    return np.asarray(np.log(new) - np.log(old))


def importance(y: npt.NDArray[np.integer[Any]], prior: Floats) -> Floats:
    """Weigh rows, (N,), so that the classes have the shares of a prior; the mean weight is 1.

    Means over rows with these weights are what rows of that prior would give. A class without rows
    stays without; the others then share its part.
    """
    counts = np.bincount(y, minlength=len(prior))
    there = counts > 0
    weight = np.zeros(len(prior))
    weight[there] = prior[there] / prior[there].sum() * len(y) / counts[there]
    return np.asarray(weight[y])
