"""Stage two on one screen: load cached vectors → select C → solve → calibrate → head. No torch.

In comes a feature store with labels, out go a `Head` and the figures that it was chosen and judged
by. It never reads tweets and never runs a model.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import InputError
from features.version import __version__
from pipeline.data.join import open_joined
from pipeline.data.labelled_rows import classes_of, labelled_rows, validation_rows
from pipeline.data.matching import Matching
from pipeline.data.near_duplicates import group_near
from pipeline.evaluation.cross_validation import (
    FOLDS,
    SELECTION_TOL,
    Trial,
    bytes_of,
    check_options,
    fold_trials,
    judge,
    training_set,
)
from pipeline.evaluation.folds import C_GRID, Candidate
from pipeline.evaluation.metrics import Metrics, measure
from pipeline.head.calibration import METHODS, cross_fitted, fit_temperature, folded
from pipeline.head.head import Head
from pipeline.head.priors import fitted_prior, importance, parse_prior
from pipeline.solver.solve import Problem, mixed, prepare, softmax, solve, solve_grid


@dataclass(frozen=True)
class FitResult:
    """What `fit` gives.

    Attributes
    ----------
    head : Head
    metrics : Metrics
        On rows that neither the judged models nor their temperature were fitted on, under the prior
        that the head answers for.
    measured_on : str
        Which rows those are.
    candidates : tuple of Candidate
        The figures behind the choice of C; empty where C was given.
    unlabelled : int
        Rows that were left out because they have no label.
    matching : Matching, optional
        What came of joining the stores of several encoders.
    gap : float
        The certificate of the head: how far it can be from the optimum, relative to the objective.
    converged : bool
        False if `max_iter`, or rounding, ended the fit before `tol` was reached.
    seconds : dict of str to float
        `load`, `select`, `solve`, `total`. With a fixed C the models that are measured are solved
        together with the head's, in `solve`.
    """

    head: Head
    metrics: Metrics
    measured_on: str
    candidates: tuple[Candidate, ...]
    unlabelled: int
    matching: Matching | None
    gap: float
    converged: bool
    seconds: dict[str, float]


def fit(
    features: str | Path | Sequence[str | Path],
    *,
    pooling: str | Sequence[str] | None = None,
    C: float | str = "auto",
    cv: int | None = None,
    repeats: int = 1,
    near_identical: float | None = None,
    validation: str | Path | Sequence[str | Path] | None = None,
    metric: str = "macro-recall",
    one_standard_error: bool = False,
    class_weight: str = "balanced",
    prior: str | Mapping[str, float] | None = None,
    calibrate: str | None = None,
    seed: int = 0,
    max_iter: int = 1000,
    tol: float = 1e-6,
    memory: int | str | None = None,
) -> FitResult:
    """Fit a multinomial logistic regression on cached vectors.

    Parameters
    ----------
    features : path or sequence of paths
        What `extract` wrote, with labels: files of one encoder are shards, those of different
        encoders are put side by side, see `pipeline/data/join.py`.
    pooling : str or sequence of str, optional
        The view, or several to be put side by side. Needed where a store has several. With several
        encoders, `2:mean` is a view of the second one, and `mean` that of each.
    C : float or "auto"
        Inverse penalty. `auto` takes the one of `C_GRID` that is best by `metric` in cross-validation,
        or on `validation`, if that is given.
    cv : int, optional
        Folds of the cross-validation; see `make_folds`. Default 5; with a fixed C only the first of
        the five is held out and measured on, so that a refit takes seconds.
    repeats : int
        Times that the rows are cut into folds, with seeds `seed`, `seed + 1`, …; C is chosen by the
        mean over all, and the metrics are those of the first.
    near_identical : float, optional
        A cosine: texts whose vectors are at least as close are in the same fold, as identical texts
        always are; see `pipeline/data/near_duplicates.py`.
    validation : path or sequence of paths, optional
        Labelled vectors of the same encoders to choose C and to measure on, instead of folds.
    metric : str
        One of `METRICS`.
    one_standard_error : bool
        Whether to take the smallest C within one standard error of the best, instead of the best.
    class_weight : str
        `balanced` weighs all classes alike, whatever their sizes; `none` weighs all rows alike.
    prior : str or mapping, optional
        The shares of the classes that the head's probabilities answer for, see `parse_prior`. Default:
        uniform after balanced weights, that of the training rows otherwise, which moves nothing.
    calibrate : str, optional
        `temperature`: fit one on the held-out rows and fold it into the head, see
        `pipeline/head/calibration.py`. `none`: leave the probabilities as they are. Default: `temperature`
        where all rows are held out once, or `validation` is given; so not with a fixed C alone.
    seed : int
        Of the folds and of the bootstrap.
    max_iter : int
        Passes of the solver over the data at most.
    tol : float
        The certificate that ends the fit, relative to the objective; see `pipeline/solver/solve.py`.
    memory : int or str, optional
        Bytes of vectors to hold, e.g. `2GiB`; default a quarter of the memory that is free. A store
        that takes more, in float32, is read anew in each pass.

    Raises
    ------
    InputError
        Fewer than two classes have rows, a view is not there, a class has fewer rows than folds, an
        option is none of those allowed.
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
    >>> result.converged, result.gap <= 1e-6
    (True, True)
    """
    started = time.perf_counter()
    grid = _grid(C)
    check_options(
        class_weight=class_weight, metric=metric, max_iter=max_iter, tol=tol, repeats=repeats
    )
    if validation is not None and (one_standard_error or repeats > 1 or near_identical is not None):
        raise InputError(
            "--one-standard-error, --repeats and --near-identical need folds: leave out --validation, or "
            "leave them out"
        )
    n_folds = FOLDS if cv is None else cv
    fixed = C != "auto"
    n_tried = 1 if fixed and cv is None else n_folds
    calibrate = _calibration(calibrate, possible=n_tried > 1 or validation is not None)
    with ExitStack() as files:
        stores = files.enter_context(open_joined(features))
        sources = stores.choose([pooling] if isinstance(pooling, str) else pooling)
        stores.check_all_taken(sources)
        labels = classes_of(stores)
        rows = labelled_rows(stores, sources, labels)
        everything = training_set(rows.y, len(labels), class_weight)
        class_rows = np.bincount(rows.y, minlength=len(labels)).tolist()
        fitted = fitted_prior(class_rows, class_weight)
        stated = fitted if prior is None else parse_prior(prior, labels, class_rows)
        if validation is not None:
            held_stores = files.enter_context(open_joined(validation))
            held = validation_rows(held_stores, sources, labels)
            trials = [Trial(everything, held.y)]
            groups = held.texts[:, 0] % FOLDS  # copies of a text stay together
            measured_on = f"the {len(held.y)} rows of {held_stores}"
            if unmatched := _unmatched(held_stores.matching):
                measured_on += f", without {unmatched} that do not match"
        else:
            held = None
            texts, judged_by = rows.texts, "each text by a model that did not see it"
            if near_identical is not None:
                texts = group_near(rows.X, texts, near_identical, memory=bytes_of(memory))
                judged_by += f", nor one nearly the same ({len(np.unique(texts)):,} groups)"
            trials = fold_trials(
                rows.y,
                texts,
                labels,
                class_weight=class_weight,
                n_folds=n_folds,
                n_tried=n_tried,
                repeats=repeats,
                seed=seed,
            )
            groups = np.repeat(np.arange(n_tried), [len(one.y) for one in trials[:n_tried]])
            measured_on = (
                f"{n_folds}-fold cross-validation, {judged_by}"
                if n_tried > 1
                else f"a held-out fold of {len(trials[0].y)} rows, by a model fitted on the rest"
            )
        data = prepare(
            rows.X,
            rows.y,
            n_classes=len(labels),
            memory=bytes_of(memory),
            class_weight=everything.class_weight,
        )
        loaded = time.perf_counter()

        judging = [trial.training for trial in trials]
        if fixed:  # the head's own goes along with those that judge it
            problems = [Problem(grid[0], one, tol) for one in (*judging, everything)]
            solutions = solve(data, problems, max_iter=max_iter)
        else:
            enough = max(tol, SELECTION_TOL)
            solutions = solve_grid(data, grid, judging, tol=enough, max_iter=max_iter)
        outcome = judge(
            grid,
            trials,
            solutions,
            metric=metric,
            fitted=fitted,
            stated=stated,
            one_standard_error=one_standard_error,
            repeats=repeats,
            validation=None if held is None else held.X,
        )
        selected = time.perf_counter()
        solution = solutions[-1]
        if not fixed:
            problem = Problem(outcome.best.C, everything, tol, mixed(outcome.solutions))
            (solution,) = solve(data, [problem], max_iter=max_iter)
    judged = slice(0, len(trials) // repeats)
    y = np.concatenate([trial.y for trial in trials[judged]])
    logits = np.concatenate(outcome.logits[judged]).astype(np.float64)
    weight = importance(y, stated)
    metrics = measure(y, softmax(logits), labels, seed=seed, weight=weight)
    calibration: dict[str, Any] = {"method": calibrate}
    temperature = 1.0
    if calibrate == "temperature":
        temperature = fit_temperature(logits, y, stated, weight)
        before, proba = metrics, cross_fitted(logits, y, groups, stated, weight)
        metrics = measure(y, proba, labels, seed=seed, weight=weight)
        calibration |= {
            "temperature": temperature,
            "before": _of_calibration(before),
            "after": _of_calibration(metrics),
        }
    coef, intercept = folded(
        solution.coef, solution.intercept, temperature=temperature, fitted=fitted, stated=stated
    )
    ended = time.perf_counter()
    seconds = {
        "load": loaded - started,
        "select": 0.0 if fixed else selected - loaded,
        "solve": ended - (loaded if fixed else selected),
        "total": ended - started,
    }
    metadata = {
        "frostline": __version__,
        "versions": {p: version(p) for p in ("scikit-learn", "numpy")}
        | {"python": platform.python_version()},
        "rows": len(rows.y),
        "class_rows": class_rows,
        "unlabelled": rows.unlabelled,
        "matching": None if stores.matching is None else dataclasses.asdict(stores.matching),
        "C": outcome.best.C,
        "class_weight": class_weight,
        "prior": stated.tolist(),
        "calibration": calibration,
        "seed": seed,
        "near_identical": near_identical,
        "iterations": solution.iterations,
        "converged": solution.converged,
        "gap": solution.gap,
        "tol": tol,
        "max_iter": max_iter,
        "in_memory": data.vectors.in_memory,
        "measured_on": measured_on,
        "metric": metric,
        "grid": [
            {"C": c.C, "score": c.score, "fold_scores": list(c.fold_scores)}
            for c in outcome.candidates
        ],
        "metrics": metrics.to_dict(),
        "seconds": seconds,
    }
    head = Head(tuple(labels), coef, intercept, tuple(sources), metadata)
    return FitResult(
        head,
        metrics,
        measured_on,
        () if fixed else outcome.candidates,
        rows.unlabelled,
        stores.matching,
        solution.gap,
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


def _unmatched(matching: Matching | None) -> int:
    return 0 if matching is None else sum(matching.left_out.values())


def _calibration(asked: str | None, *, possible: bool) -> str:
    """Give the method; the default is the one that there are enough rows for."""
    if asked is None:
        return "temperature" if possible else "none"
    if asked not in METHODS:
        raise InputError(f"unknown calibration {asked!r}: choose {' or '.join(METHODS)}")
    if asked == "temperature" and not possible:
        raise InputError(
            "--calibrate temperature needs more rows than the one fold that a fixed C is measured on: "
            "give --cv 5 or --validation as well"
        )
    return asked


def _of_calibration(metrics: Metrics) -> dict[str, float]:
    return {"log_loss": metrics.log_loss, "calibration_error": metrics.calibration_error}
