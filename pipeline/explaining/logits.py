"""Divide the logits of a vector among the views that it is made of; give log-odds. Pure.

A head is linear, so nothing is estimated: with the mean m of the training vectors,

    logits(x) = logits(m) + sum over views v of coef_v (x_v - m_v)

and the terms of the sum are the shares of the views. A view that stands for several layers side by
side is divided into them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from features.base.arrays import Floating, Floats
from features.spec.pooling import parse_pooling
from pipeline.head.head import Head

TRAINING_MEAN, ZERO = "the mean of the training vectors", "the vector 0"


@dataclass(frozen=True)
class ViewShares:
    """What each of V parts of a vector adds to the logits of K classes.

    Attributes
    ----------
    names : tuple of str, (V,)
    parts : float64 array (V, K)
    base : float64 array (K,)
        Logits of what the parts are measured from; with the parts they add up to those of the
        vector.
    measured_from : str
        What that is, in words.
    """

    names: tuple[str, ...]
    parts: Floats
    base: Floats
    measured_from: str

    def between(self, a: int, b: int) -> tuple[float, Floats]:
        """Give base and parts, (V,), of the logit of class a less that of class b."""
        return float(self.base[a] - self.base[b]), self.parts[:, a] - self.parts[:, b]


def view_shares(head: Head, x: Floating, mean: Floating | None = None) -> ViewShares:
    """Divide the logits of a raw vector (D,).

    Parameters
    ----------
    head : Head
    x : float array (D,)
    mean : float array (D,), optional
        That of the training vectors. Default: what the head knows of it; heads that do not know it
        are measured from 0.
    """
    if mean is None and head.novelty is not None:
        mean = head.novelty.center
    known = mean is not None
    center = np.zeros(len(x)) if mean is None else mean.astype(np.float64)
    terms = head.coef * (x.astype(np.float64) - center)
    names, widths = zip(*_parts(head), strict=True)
    starts = np.cumsum([0, *widths[:-1]])
    parts = np.add.reduceat(terms, starts, axis=1).T
    base = head.coef @ center + head.intercept
    return ViewShares(tuple(names), parts, base, TRAINING_MEAN if known else ZERO)


def log_odds(logits: Floating, k: int) -> float:
    """Give log(p / (1 - p)) of a class, from logits (K,); exact where p rounds to 1.

    Examples
    --------
    >>> round(log_odds(np.log([0.75, 0.125, 0.125]), 0), 6)  # log(3)
    1.098612
    """
    others = np.delete(logits.astype(np.float64), k)
    top = others.max()
    return float(logits[k] - top - np.log(np.exp(others - top).sum()))


def _parts(head: Head) -> Iterator[tuple[str, int]]:
    """Name the parts of a head's vectors, each with its columns; encoders by numbers."""
    numbers = {one[0].spec.fingerprint: n for n, one in enumerate(head.encoders, 1)}
    for source in head.sources:
        prefix = f"{numbers[source.spec.fingerprint]}:" if len(numbers) > 1 else ""
        pooling = parse_pooling(source.view)
        layers = pooling.layers.removeprefix("last")
        if pooling.combine == "concat" and layers.isdecimal() and source.width % int(layers) == 0:
            for layer in range(-int(layers), 0):
                yield f"{prefix}{pooling.tokens}@{layer}", source.width // int(layers)
        else:
            yield f"{prefix}{source.view}", source.width
