"""Put all rows on a plane: stores in, two coordinates for each row out.

`pca` takes the two principal components of the head's views, standardised and scaled as its penalty
sees them, of some thousands of rows. Rows are read twice, block by block. `umap` keeps some tens of
components and puts each row near those that are nearest to it among them. UMAP is not a part of
frostline and is imported only where it is asked for.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array, Floats
from features.errors import InputError
from pipeline.data.join import Joined
from pipeline.head.head import Head
from pipeline.head.settings import view_scales, widths

# Rows, taken evenly, that the components are found from.
_ROWS = 4000
# Directions that the search takes along, so that those that are kept are right, and its steps.
_BESIDE, _STEPS = 10, 20
MAPS = ("pca", "umap")
# Of UMAP: principal components that it sees, rows that it is fitted on, as its time grows with
# both; rows that are near to a row, and the fewest rows that have such neighbourhoods; fitted rows
# that a row is put between.
_COMPONENTS, _FITTED, _NEAR, _FEWEST, _BETWEEN = 50, 5000, 15, 32, 5
# Rows whose distances are there at once.
_BLOCK = 1000


def on_plane(head: Head, stores: Joined, kind: str = "pca") -> npt.NDArray[np.float32]:
    """Give the coordinates of all rows, (N, 2).

    Parameters
    ----------
    head : Head
    stores : Joined
    kind : str
        One of `MAPS`.

    Raises
    ------
    InputError
        umap-learn is missing, or the rows are too few for it.
    """
    if kind == "pca":
        return projected(head, stores, 2)
    check_map(kind)
    return near_to_alike(projected(head, stores, _COMPONENTS))


def check_map(kind: str) -> None:
    """Refuse a map that can't be made here, before the work.

    Raises
    ------
    InputError
        It needs umap-learn, which is missing.
    """
    if kind == "pca":
        return
    try:
        import umap  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"`map=umap` is made by umap-learn, which can't be imported ({error}): pip install "
            "'frostline[umap]', or give `map=pca`"
        ) from error


def described_map(kind: str) -> dict[str, Any]:
    """Say, as JSON types, how the coordinates were made."""
    if kind == "pca":
        return {"kind": kind}
    return {
        "kind": kind,
        "umap-learn": version("umap-learn"),
        "principal_components": _COMPONENTS,
        "fitted_on_rows": f"at most {_FITTED:,}, taken evenly",
        "neighbours": _NEAR,
        "seed": 0,
    }


def projected(head: Head, stores: Joined, n: int) -> npt.NDArray[np.float32]:
    """Give the principal components of all rows, (N, n)."""
    sources = stores.like(head.sources)
    every = -(-stores.n_rows // _ROWS)
    some: list[Array] = []
    start = 0
    for block in stores.blocks(sources, np.float32):
        some.append(block[-start % every :: every])
        start += len(block)
    sample = np.concatenate(some)
    center, factor = sample.mean(axis=0, dtype=np.float64), _factor(head, sample)
    axes = factor[:, None] * components((sample - center) * factor, n)
    found = [
        (block - center.astype(np.float32)) @ axes.astype(np.float32)
        for block in stores.blocks(sources, np.float32)
    ]
    return np.concatenate(found).astype(np.float32)


def near_to_alike(z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Give UMAP's coordinates (N, 2) of rows (N, D), the same ones each time.

    It is fitted on some thousands of rows, beginning at their first two components, so that groups
    lie about as on the map of these. Each of the others is put at the median of the fitted rows
    that are nearest to it, which is quick for many rows.
    """
    if len(z) < _FEWEST:
        raise InputError(
            f"`map=umap` needs {_FEWEST} rows or more, and there are {len(z)}; give `map=pca`"
        )
    from umap import UMAP

    is_fitted = np.arange(len(z)) % -(-len(z) // _FITTED) == 0
    first = z[is_fitted, :2]
    # UMAP divides by the spread of where it begins: noise gives it one in both directions.
    begin = np.random.default_rng(0).normal(scale=1e-3, size=first.shape)
    begin += 10 * first / max(float(np.abs(first).max()), 1e-30)
    model = UMAP(n_neighbors=_NEAR, min_dist=0.1, init=begin, random_state=0, n_jobs=1)
    found = np.empty((len(z), 2), np.float32)
    with warnings.catch_warnings():  # of deprecated calls within its packages
        warnings.simplefilter("ignore")
        found[is_fitted] = model.fit_transform(z[is_fitted])
    for rows in np.array_split(np.flatnonzero(~is_fitted), -(-len(z) // _BLOCK)):
        found[rows] = np.median(found[is_fitted][_nearest(z[rows], z[is_fitted])], axis=1)
    return found


def _nearest(z: npt.NDArray[np.float32], fitted: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Give the fitted rows that are nearest to each row, (n, 5)."""
    far = (fitted**2).sum(axis=1) - 2 * (z @ fitted.T)
    return np.argpartition(far, _BETWEEN, axis=1)[:, :_BETWEEN]


def _factor(head: Head, sample: Array) -> Floats:
    """Say what each column is multiplied with; a constant one with 0."""
    deviation = sample.std(axis=0, dtype=np.float64)
    varies = deviation > 1e-6 * np.abs(sample).max(axis=0)
    scale = np.repeat(view_scales(head), widths(head))
    return np.where(varies, scale / np.where(varies, deviation, 1.0), 0.0)


def components(z: Floats, n: int = 2) -> Floats:
    """Give the directions (D, n) of largest variance of centred rows (N, D).

    They are found by subspace iteration (Halko, Martinsson and Tropp, "Finding structure with
    randomness", 2011, algorithm 4.4). The largest part of each is positive, so that a map does not
    turn over by chance. Where there are fewer directions, the rest is 0.
    """
    rng = np.random.default_rng(0)
    z = z.astype(np.float32)
    basis = rng.normal(size=(z.shape[1], min(n + _BESIDE, *z.shape))).astype(np.float32)
    for _ in range(_STEPS):
        basis, _ = np.linalg.qr(z.T @ (z @ basis))
    inside = (z @ basis).astype(np.float64)
    values, turned = np.linalg.eigh(inside.T @ inside)
    there = values[::-1][:n] > 1e-9 * max(float(values[-1]), 1e-30)
    found = (basis @ turned[:, ::-1][:, :n]) * there
    found = found * np.where(found[np.abs(found).argmax(axis=0), np.arange(len(there))] < 0, -1, 1)
    return np.hstack([found, np.zeros((len(found), n - len(there)))])
