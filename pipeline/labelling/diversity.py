"""Choose rows that tell much and differ from each other: vectors and probabilities in, rows out.

`uncertain` is BADGE (Ash et al., "Deep batch active learning by diverse, uncertain gradient lower
bounds", 2020, algorithm 1): rows are spread by the seeding of k-means++ over the gradients that the
loss would have if the predicted class were the true one. For a linear head this gradient is a
product of two short vectors,

    g = a (x) x    with    a = p - e_c,  c the predicted class

so that |g - g'|^2 = |a|^2 |x|^2 + |a'|^2 |x'|^2 - 2 (a . a') (x . x'), and no g is formed.

`typical` asks no probabilities: the rows nearest to the centres of k-means over the directions of
the vectors. A head of few rows does not know yet what it is unsure about.

Of rows of one text, or whose vectors have a cosine of `NEAR` or more, one is chosen at most. All
draws come from the generator that is given. Nothing is read or scored here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.base.arrays import Array, Codes, Floats, Indices, Mask

# From this cosine on, two rows are the same tweet with a word more or less.
NEAR = 0.95
# Steps of k-means; it needs no more to find centres that are only pointed at.
_STEPS = 10


@dataclass(frozen=True)
class Pool:
    """Rows to choose from.

    Attributes
    ----------
    x : float32 array (N, D)
        Standardised vectors.
    text : int array (N,)
        Equal numbers are one text.
    """

    x: Array
    text: Codes

    @cached_property
    def squares(self) -> Floats:
        """Squared lengths of the vectors, (N,)."""
        return np.asarray(np.einsum("nd,nd->n", self.x, self.x, dtype=np.float64))

    def products(self, row: int) -> Floats:
        """Give the products, (N,), of all vectors with that of a row."""
        return np.asarray(self.x @ self.x[row], np.float64)

    def like(self, row: int, products: Floats | None = None) -> Mask:
        """Say which rows are of the same text as a row, or nearly so; itself among them.

        `products` are those with the row, where they are known.
        """
        found = self.products(row) if products is None else products
        near = found >= NEAR * np.sqrt(self.squares * self.squares[row])
        return np.asarray(near & (found > 0) | (self.text == self.text[row]))


def at_random(pool: Pool, n: int, rng: np.random.Generator) -> list[int]:
    """Draw n rows, each with the same chance; fewer, where others are nearly the same."""
    free = np.ones(len(pool.x), bool)
    chosen: list[int] = []
    for row in rng.permutation(len(free)).tolist():
        if len(chosen) == n:
            break
        if free[row]:
            chosen.append(row)
            free &= ~pool.like(row)
    return chosen


def uncertain(pool: Pool, proba: Floats, free: Mask, n: int, rng: np.random.Generator) -> list[int]:
    """Choose n rows by BADGE, in the order of the draws.

    Parameters
    ----------
    pool : Pool
    proba : float64 array (N, K)
    free : bool array (N,)
        Rows to choose from; fewer than n are chosen where others are nearly the same.
    n : int
    rng : numpy Generator
    """
    errors = errors_of(proba)
    sizes = np.square(errors).sum(axis=1) * pool.squares
    free, nearest = free.copy(), np.full(len(free), np.inf)
    chosen: list[int] = []
    while len(chosen) < n and free.any():
        if chosen:
            row = _drawn(np.where(free, nearest, 0.0), free, rng)
        else:  # as the authors begin: with the largest gradient
            row = int(np.where(free, sizes, -1.0).argmax())
        chosen.append(row)
        products = pool.products(row)
        free &= ~pool.like(row, products)
        nearest = np.minimum(nearest, squared_distances(errors, sizes, products, row))
    return chosen


def errors_of(proba: Floats) -> Floats:
    """Give p - e_c, (N, K), with c the most probable class."""
    errors = proba.copy()
    errors[np.arange(len(proba)), proba.argmax(axis=1)] -= 1.0
    return errors


def squared_distances(errors: Floats, sizes: Floats, products: Floats, row: int) -> Floats:
    """Give the squared distances, (N,), of all gradients to that of a row.

    Parameters
    ----------
    errors : float64 array (N, K)
        See `errors_of`.
    sizes : float64 array (N,)
        Squared lengths of the gradients.
    products : float64 array (N,)
        Of all vectors with that of the row.
    row : int
    """
    both = (errors @ errors[row]) * products
    return np.asarray(np.maximum(sizes + sizes[row] - 2 * both, 0.0))


def typical(pool: Pool, free: Mask, n: int, rng: np.random.Generator) -> list[int]:
    """Choose n rows near the centres of as many clusters, those of the largest cluster first.

    Fewer are chosen where others are nearly the same.
    """
    length = np.sqrt(pool.squares)
    directions = pool.x / np.where(length > 0, length, 1).astype(np.float32)[:, None]
    free = free.copy()
    chosen: list[int] = []
    while len(chosen) < n and free.any():
        rows = np.flatnonzero(free)
        for centre in _centres(directions[rows], n - len(chosen), rng):
            cosine = np.where(free, directions @ centre, -np.inf)
            row = int(cosine.argmax())
            if free[row]:
                chosen.append(row)
                free &= ~pool.like(row)
    return chosen


def _centres(directions: Array, n: int, rng: np.random.Generator) -> Array:
    """Find the centres of at most n clusters by k-means, the largest cluster first."""
    everywhere = np.ones(len(directions), bool)
    seeds = [int(rng.integers(len(directions)))]
    nearest = np.full(len(directions), np.inf)
    while len(seeds) < min(n, len(directions)):
        distance = 1.0 - (directions @ directions[seeds[-1]]).astype(np.float64)
        nearest = np.minimum(nearest, np.maximum(distance, 0.0))
        seeds.append(_drawn(nearest, everywhere, rng))
    centres = directions[seeds]
    for _ in range(_STEPS):
        cluster = (directions @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, cluster, directions)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 0, sums / np.where(length > 0, length, 1), centres)
    sizes = np.bincount((directions @ centres.T).argmax(axis=1), minlength=len(centres))
    order: Indices = np.argsort(-sizes, kind="stable")
    return np.asarray(centres[order])


def _drawn(weight: Floats, free: Mask, rng: np.random.Generator) -> int:
    """Draw a row by weight; where all weights are 0, any that is free."""
    total = weight.sum()
    share = weight / total if total > 0 else free / free.sum()
    return int(rng.choice(len(weight), p=share))
