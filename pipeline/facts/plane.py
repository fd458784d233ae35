"""Put all rows on a plane: stores in, two coordinates for each row out.

They are the two principal components of the head's views, standardised and scaled as its penalty
sees them, of some thousands of rows. Rows are read twice, block by block.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array, Floats
from pipeline.data.join import Joined
from pipeline.head.head import Head
from pipeline.head.settings import view_scales, widths

# Rows, taken evenly, that the components are found from.
_ROWS = 4000
# Directions that the search takes along, so that the two that are kept are right, and its steps.
_TRIED, _STEPS = 12, 20


def on_plane(head: Head, stores: Joined) -> npt.NDArray[np.float32]:
    """Give the coordinates of all rows, (N, 2)."""
    sources = stores.like(head.sources)
    every = -(-stores.n_rows // _ROWS)
    some: list[Array] = []
    start = 0
    for block in stores.blocks(sources, np.float32):
        some.append(block[-start % every :: every])
        start += len(block)
    sample = np.concatenate(some)
    center, factor = sample.mean(axis=0, dtype=np.float64), _factor(head, sample)
    axes = factor[:, None] * components((sample - center) * factor)
    found = [
        (block - center.astype(np.float32)) @ axes.astype(np.float32)
        for block in stores.blocks(sources, np.float32)
    ]
    return np.concatenate(found).astype(np.float32)


def _factor(head: Head, sample: Array) -> Floats:
    """Say what each column is multiplied with; a constant one with 0."""
    deviation = sample.std(axis=0, dtype=np.float64)
    varies = deviation > 1e-6 * np.abs(sample).max(axis=0)
    scale = np.repeat(view_scales(head), widths(head))
    return np.where(varies, scale / np.where(varies, deviation, 1.0), 0.0)


def components(z: Floats) -> Floats:
    """Give the directions (D, 2) of largest variance of centred rows (n, D).

    They are found by subspace iteration (Halko, Martinsson and Tropp, "Finding structure with
    randomness", 2011, algorithm 4.4). The largest part of each is positive, so that a map does not
    turn over by chance. Where there are fewer than two directions, the rest is 0.
    """
    rng = np.random.default_rng(0)
    z = z.astype(np.float32)
    basis = rng.normal(size=(z.shape[1], min(_TRIED, *z.shape))).astype(np.float32)
    for _ in range(_STEPS):
        basis, _ = np.linalg.qr(z.T @ (z @ basis))
    inside = (z @ basis).astype(np.float64)
    values, turned = np.linalg.eigh(inside.T @ inside)
    there = values[::-1][:2] > 1e-9 * max(float(values[-1]), 1e-30)
    found = (basis @ turned[:, ::-1][:, :2]) * there
    found = found * np.where(found[np.abs(found).argmax(axis=0), np.arange(len(there))] < 0, -1, 1)
    return np.hstack([found, np.zeros((len(found), 2 - len(there)))])
