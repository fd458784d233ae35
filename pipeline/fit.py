"""Stage two on one screen: load cached vectors → select C → solve → measure → head. No torch.

In comes a feature store with labels, out go a `Head` and the figures that it was chosen and judged
by. It never reads tweets and never runs a model.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.errors import InputError
from features.store import FeatureStore
from features.version import __version__
from pipeline.head import Head, Source, views_for
from pipeline.metrics import Metrics, macro_recall, measure
from pipeline.selection import C_GRID, Candidate, choose, make_folds
from pipeline.solver import Solution, balanced_weights, solve_path

_FOLDS = 5
# Held-out figures don't change in the fourth digit below this.
_SELECTION_TOL = 1e-6
CLASS_WEIGHTS = ("none", "balanced")


@dataclass(frozen=True)
class FitResult:
    """What `fit` gives.

    Attributes
    ----------
    head : Head
    metrics : Metrics
        On rows that the judged models were not fitted on.
    measured_on : str
        Which rows those are.
    candidates : tuple of Candidate
        The figures behind the choice of C; empty where C was given.
    unlabelled : int
        Rows that were left out because they have no label.
    converged : bool
        False if `max_iter` ended the last fit before `tol` was reached.
    seconds : dict of str to float
        `load`, `select`, `solve`, `total`.
    """

    head: Head
    metrics: Metrics
    measured_on: str
    candidates: tuple[Candidate, ...]
    unlabelled: int
    converged: bool
    seconds: dict[str, float]


@dataclass(frozen=True)
class _Rows:
    """Labelled rows of a store: X (N, D), y (N,), digests (N, 16)."""

    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.intp]
    digests: npt.NDArray[np.uint8]
    unlabelled: int


def fit(
    features: str | Path | Sequence[str | Path],
    *,
    pooling: str | Sequence[str] | None = None,
    C: float | str = "auto",
    cv: int | None = None,
    validation: str | Path | None = None,
    class_weight: str = "balanced",
    seed: int = 0,
    max_iter: int = 1000,
    tol: float = 1e-8,
) -> FitResult:
    """Fit a multinomial logistic regression on cached vectors.

    Parameters
    ----------
    features : path or sequence of paths
        What `extract` wrote, with labels.
    pooling : str or sequence of str, optional
        The view, or several to be put side by side. Needed where the store has several.
    C : float or "auto"
        Inverse penalty. `auto` takes the one of `C_GRID` with the best cross-validated macro recall,
        or with the best on `validation`, if that is given.
    cv : int, optional
        Folds of the cross-validation; see `make_folds`. Default 5; with a fixed C only the first of
        the five is held out and measured on, so that a refit takes seconds.
    validation : path, optional
        Labelled vectors of the same encoder to choose C and to measure on, instead of folds.
    class_weight : str
        `balanced` weighs all classes alike, whatever their sizes; `none` weighs all rows alike.
    seed : int
        Of the folds and of the bootstrap.
    max_iter, tol : int, float
        When to stop; see `solve_path`.

    Raises
    ------
    InputError
        Fewer than two classes have rows, a view is not there, a class has fewer rows than folds.
    FileRefused
        A file is not a feature store, or `validation` is of another encoder.

    Examples
    --------
    >>> from features import extract
    >>> from pipeline import fit
    >>> summary = extract("examples/tweets.csv", "tweets.h5")
    >>> result = fit("tweets.h5", C=0.01)
    >>> result.metrics.macro_recall > 0.5, result.head.labels
    (True, ('negative', 'neutral', 'positive'))
    """
    started = time.perf_counter()
    grid = _grid(C)
    if class_weight not in CLASS_WEIGHTS:
        raise InputError(
            f"unknown class weight {class_weight!r}: choose {' or '.join(CLASS_WEIGHTS)}"
        )
    if max_iter < 1 or not tol > 0:
        raise InputError(f"max iter {max_iter} and tol {tol} must be above 0")
    with FeatureStore(features) as store:
        views = store.choose_views([pooling] if isinstance(pooling, str) else pooling)
        labels = _classes(store)
        rows = _labelled(store, views, labels)
        sources = tuple(
            Source(store.spec, view, store.views[view], store.precision, store.store_dtype)
            for view in views
        )
    held_out = None if validation is None else _validation_rows(validation, sources, labels)
    loaded = time.perf_counter()

    def solutions(
        X: npt.NDArray[np.float32], y: npt.NDArray[np.intp], Cs: Sequence[float], tol: float
    ) -> Iterator[Solution]:
        weight = balanced_weights(y, len(labels)) if class_weight == "balanced" else None
        return solve_path(
            X, y, Cs, n_classes=len(labels), sample_weight=weight, max_iter=max_iter, tol=tol
        )

    selection_tol = max(tol, _SELECTION_TOL)
    if held_out is not None:
        measured_on = f"the {len(held_out.y)} rows of {validation}"
        proba = [
            solution.predict_proba(held_out.X)
            for solution in solutions(rows.X, rows.y, grid, selection_tol)
        ]
        judged, folds = held_out.y, np.zeros(len(held_out.y), np.intp)
    else:
        n_folds = _FOLDS if cv is None else cv
        folds = make_folds(rows.y, rows.digests, labels, n_folds=n_folds, seed=seed)
        tried = range(1) if cv is None and C != "auto" else range(n_folds)
        proba = [np.empty((len(rows.y), len(labels))) for _ in grid]
        for fold in tried:
            out = folds == fold
            for scores, solution in zip(
                proba, solutions(rows.X[~out], rows.y[~out], grid, selection_tol), strict=True
            ):
                scores[out] = solution.predict_proba(rows.X[out])
        held = np.isin(folds, tried)
        judged, folds, proba = rows.y[held], folds[held], [scores[held] for scores in proba]
        measured_on = (
            f"{n_folds}-fold cross-validation, each text by a model that did not see it"
            if len(tried) > 1
            else f"a held-out fold of {len(judged)} rows, by a model fitted on the rest"
        )
    candidates = tuple(
        Candidate(C, _fold_scores(judged, scores, folds, len(labels)))
        for C, scores in zip(grid, proba, strict=True)
    )
    best = choose(candidates)
    selected = time.perf_counter()
    solution = next(solutions(rows.X, rows.y, [best.C], tol))
    metrics = measure(judged, proba[grid.index(best.C)], labels, seed=seed)
    ended = time.perf_counter()
    seconds = {
        "load": loaded - started,
        "select": selected - loaded,
        "solve": ended - selected,
        "total": ended - started,
    }
    metadata = {
        "frostline": __version__,
        "versions": {p: version(p) for p in ("scikit-learn", "numpy")}
        | {"python": platform.python_version()},
        "rows": len(rows.y),
        "class_rows": np.bincount(rows.y, minlength=len(labels)).tolist(),
        "unlabelled": rows.unlabelled,
        "C": best.C,
        "class_weight": class_weight,
        "seed": seed,
        "iterations": solution.iterations,
        "converged": solution.converged,
        "gap": solution.gap,
        "measured_on": measured_on,
        "grid": [
            {"C": c.C, "macro_recall": c.score, "fold_scores": list(c.fold_scores)}
            for c in candidates
        ],
        "metrics": metrics.to_dict(),
        "seconds": seconds,
    }
    head = Head(tuple(labels), solution.coef, solution.intercept, sources, metadata)
    return FitResult(
        head,
        metrics,
        measured_on,
        candidates if C == "auto" else (),
        rows.unlabelled,
        solution.converged,
        seconds,
    )


def _grid(C: float | str) -> tuple[float, ...]:
    if C == "auto":
        return C_GRID
    try:
        value = float(C)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise InputError(f"C is {C!r}; it must be a number above 0, or auto")
    return (value,)


def _classes(store: FeatureStore) -> list[str]:
    """Names of the classes that have rows, at least two."""
    codes = store.labels()
    counts = np.bincount(codes[codes >= 0], minlength=len(store.label_names))
    names = [name for name, count in zip(store.label_names, counts, strict=True) if count]
    if not names:
        raise InputError(
            f"{store} has no labels; extract tweets with a label column, or name it with --label-column"
        )
    if len(names) == 1:
        raise InputError(f"{store} has one class only, {names[0]!r}; a head needs at least two")
    return names


def _labelled(store: FeatureStore, views: Sequence[str], labels: Sequence[str]) -> _Rows:
    """Read the rows whose label is one of `labels`, with codes into these."""
    codes = store.labels()
    known = np.array([*(labels.index(n) if n in labels else -1 for n in store.label_names), -1])
    y = known[codes]
    has_label = y >= 0
    return _Rows(
        store.read(views, has_label),
        y[has_label],
        store.digests()[has_label],
        int(np.count_nonzero(codes < 0)),
    )


def _validation_rows(path: str | Path, sources: Sequence[Source], labels: Sequence[str]) -> _Rows:
    with FeatureStore(path) as store:
        views = views_for(sources, store)
        unknown = sorted(set(_classes_there(store)) - set(labels))
        if unknown:
            raise InputError(
                f"{store} has labels that are not in the training rows: {', '.join(unknown)}"
            )
        rows = _labelled(store, views, labels)
    if not len(rows.y):
        raise InputError(f"{path} has no labelled rows to measure on")
    return rows


def _classes_there(store: FeatureStore) -> list[str]:
    return [store.label_names[code] for code in np.unique(store.labels()) if code >= 0]


def _fold_scores(
    y: npt.NDArray[np.intp],
    proba: npt.NDArray[np.float64],
    folds: npt.NDArray[np.intp],
    n_classes: int,
) -> tuple[float, ...]:
    predicted = proba.argmax(axis=1)
    return tuple(
        macro_recall(y[folds == fold], predicted[folds == fold], n_classes)
        for fold in range(int(folds.max()) + 1)
    )
