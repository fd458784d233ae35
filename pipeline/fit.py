"""Run stage two on one screen: load vectors → select C → solve → calibrate → head. No torch.

In comes a feature store with labels, out go a `Head` and the figures that it was chosen and judged
by. It never reads tweets and never runs a model. The steps that `compare` takes as well are in
`pipeline/evaluation/trials.py` and `pipeline/evaluation/cross_validation.py`.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from features.errors import InputError
from features.spec.vector_spec import VectorSpec
from features.version import __version__
from pipeline.data.conflicts import Conflicts, settle
from pipeline.data.join import Joined, open_joined
from pipeline.data.labelled_rows import Labelled, classes_of, labelled_rows, validation_rows
from pipeline.data.matching import Matching
from pipeline.data.near_duplicates import group_near
from pipeline.evaluation.choice import Candidate
from pipeline.evaluation.cross_validation import FOLDS, Outcome, judge, select
from pipeline.evaluation.folds import number_texts
from pipeline.evaluation.metrics import Metrics, measure
from pipeline.evaluation.options import Options, bytes_of
from pipeline.evaluation.trials import (
    Target,
    Trial,
    Trials,
    are_few,
    fold_trials,
    target_of,
    weighed,
)
from pipeline.head.calibration import METHODS, TEMPERATURE, Calibration, folded
from pipeline.head.head import Head
from pipeline.head.held_out_figures import HeldOutFigures
from pipeline.head.novelty import fit_novelty
from pipeline.solver.solve import Data, Problem, Solution, mixed, softmax, solve


@dataclass(frozen=True)
class FitResult:
    """What `fit` gives.

    Attributes
    ----------
    head : Head
    metrics : Metrics
        On rows that neither the judged models nor their calibration were fitted on, under the prior
        that the head answers for.
    measured_on : str
        Which rows those are.
    candidates : tuple of Candidate
        The figures behind the choice of C; empty where C was given.
    unlabelled : int
        Rows that were left out because they have no label.
    matching : Matching, optional
        What came of joining the stores of several encoders.
    conflicts : Conflicts
        Texts that come with several labels, and what was done with their rows.
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
    conflicts: Conflicts
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
    conflicts: str = "keep",
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
        The view, or several to be put side by side; unless C is given, each gets the scale that
        suits it, see `pipeline/solver/view_scales.py`. Needed where a store has several. With
        several encoders, `2:mean` is a view of the second one, and `mean` that of each.
    C : float or "auto"
        Inverse penalty. `auto` takes the smallest of `C_GRID` that the rows can't tell, by
        `metric`, from the best one, in cross-validation or on `validation`, if that is given; see
        `pipeline/evaluation/choice.py`. The metrics are nested: no row judges the C that it is
        measured with.
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
    conflicts : str
        What becomes of texts that come with several labels, see `settle`: `keep` them, `drop` all
        their rows, or keep the rows of the label that the `majority` has. Not of `validation`.
    metric : str
        One of `METRICS`.
    one_standard_error : bool
        Whether to take the smallest C within one standard error of the best score itself, which is
        the stronger rule, instead of one of the difference.
    class_weight : str
        `balanced` weighs all classes alike, whatever their sizes; `none` weighs all rows alike.
    prior : str or mapping, optional
        The shares of the classes that the head's probabilities answer for, see `parse_prior`.
        Default: uniform after balanced weights, that of the training rows otherwise, which moves
        nothing.
    calibrate : str, optional
        `temperature`: fit one on the held-out rows and fold it into the head, see
        `pipeline/head/calibration.py`. `bias-corrected`: fit a bias for each class with it. `auto`:
        the one of the two with the smaller log-loss on rows that it was not fitted on. `none`:
        leave the probabilities as they are. Default: `temperature` where all rows are held out
        once, or `validation` is given; so not with a fixed C alone.
    seed : int
        Of the folds and of the bootstrap.
    max_iter : int
        Passes of the solver over the data at most.
    tol : float
        The certificate that ends the fit, relative to the objective; see
        `pipeline/solver/solve.py`.
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
    started = perf_counter()
    fixed = None if C == "auto" else _number(C)
    options = Options(
        metric=metric,
        class_weight=class_weight,
        prior=prior,
        seed=seed,
        max_iter=max_iter,
        tol=tol,
        memory=bytes_of(memory),
        repeats=repeats,
        one_standard_error=one_standard_error,
    )
    plan = _plan(cv, near_identical, validation, options, is_fixed=fixed is not None)
    method = _calibration(calibrate, possible=plan.n_tried > 1 or validation is not None)

    with ExitStack() as files:
        stores, found = settle(files.enter_context(open_joined(features)), conflicts)
        task = _load(files, stores, pooling, plan, options)
        loaded = perf_counter()
        if fixed is None:
            outcome = select(task.data, task.target, task.trials, options)
            selected = perf_counter()
            solution = _solve_best(task, outcome, options)
        else:
            outcome, solution = _solve_fixed(task, fixed, options)
            selected = loaded
        held_out = task.trials.training[0].held_out
        novelty = fit_novelty(task.data.vectors, task.target.y, len(task.target.labels), held_out)

    measured = _measure(outcome, task.target.labels, method, seed)
    coef, intercept = folded(
        solution.coef,
        solution.intercept,
        calibration=measured.calibration,
        fitted=task.target.fitted,
        stated=task.target.stated,
    )
    ended = perf_counter()
    seconds = {
        "load": loaded - started,
        "select": selected - loaded,
        "solve": ended - selected,
        "total": ended - started,
    }
    metadata = _metadata(task, outcome, solution, measured, options)
    metadata |= {"conflicts": found.counts(), "seconds": seconds}
    return FitResult(
        Head(task.target.labels, coef, intercept, task.sources, metadata, novelty),
        measured.metrics,
        task.trials.measured_on,
        outcome.candidates if fixed is None else (),
        task.rows.unlabelled,
        task.matching,
        found,
        solution.gap,
        solution.converged,
        seconds,
    )


@dataclass(frozen=True)
class _Plan:
    """Which rows judge.

    Attributes
    ----------
    n_folds, n_tried : int
        Folds that the rows are cut into, and those of them that are held out.
    is_fixed : bool
        Whether C is given.
    near_identical : float, optional
        The cosine from which on texts are held out together.
    validation : path or sequence of paths, optional
        Stores whose rows judge instead of folds.
    """

    n_folds: int
    n_tried: int
    is_fixed: bool
    near_identical: float | None
    validation: str | Path | Sequence[str | Path] | None


@dataclass(frozen=True)
class _Task:
    """All that a fit takes from files: rows, what is to be learned from them, and who judges it."""

    sources: tuple[VectorSpec, ...]
    rows: Labelled
    matching: Matching | None
    target: Target
    trials: Trials
    near_identical: float | None
    data: Data


@dataclass(frozen=True)
class _Measured:
    """Figures of held-out rows, what was done to their probabilities, and the records of it."""

    metrics: Metrics
    calibration: Calibration
    record: dict[str, Any]
    held_out: HeldOutFigures | None


def _number(C: float | str) -> float:
    """Read an inverse penalty."""
    try:
        value = float(C)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise InputError(f"C is {C!r}; it must be a number above 0, or auto")
    return value


def _plan(
    cv: int | None,
    near_identical: float | None,
    validation: str | Path | Sequence[str | Path] | None,
    options: Options,
    *,
    is_fixed: bool,
) -> _Plan:
    """Settle which rows judge; with a fixed C one fold of those of the default is enough."""
    of_folds = options.one_standard_error or options.repeats > 1 or near_identical is not None
    if validation is not None and of_folds:
        raise InputError(
            "`one_standard_error`, `repeats` and `near_identical` need folds: leave out "
            "`validation`, or leave them out"
        )
    n_folds = FOLDS if cv is None else cv
    n_tried = 1 if is_fixed and cv is None else n_folds
    return _Plan(n_folds, n_tried, is_fixed, near_identical, validation)


def _calibration(asked: str | None, *, possible: bool) -> str:
    """Give the method; the default is the one that there are enough rows for."""
    if asked is None:
        return TEMPERATURE if possible else "none"
    if asked not in METHODS:
        raise InputError(f"unknown calibration {asked!r}: choose {' or '.join(METHODS)}")
    if asked != "none" and not possible:
        raise InputError(
            f"`calibrate={asked}` needs more rows than the one fold that a fixed C is measured "
            "on: give `cv=5` or `validation` as well"
        )
    return asked


def _load(
    files: ExitStack,
    stores: Joined,
    pooling: str | Sequence[str] | None,
    plan: _Plan,
    options: Options,
) -> _Task:
    """Take the labelled rows of the views that are asked for, and settle who judges them."""
    sources = stores.choose([pooling] if isinstance(pooling, str) else pooling)
    stores.check_all_taken(sources)
    labels = classes_of(stores)
    rows = labelled_rows(stores, sources, labels)
    target = target_of(rows.y, labels, options)
    if plan.validation is None:
        trials = _in_folds(rows, target, plan, options)
    else:
        held_stores = files.enter_context(open_joined(plan.validation))
        trials = _on_validation(held_stores, sources, target)
    data = target.prepared(rows.X, options.memory)
    if not plan.is_fixed:
        data = weighed(data, target, [source.width for source in sources], rows.texts)
    return _Task(tuple(sources), rows, stores.matching, target, trials, plan.near_identical, data)


def _in_folds(rows: Labelled, target: Target, plan: _Plan, options: Options) -> Trials:
    """Hold out folds of the rows themselves."""
    texts, remark = rows.texts, ""
    if plan.near_identical is not None:
        texts = group_near(rows.X, texts, plan.near_identical, memory=options.memory)
        remark = f", nor one nearly the same ({len(np.unique(texts)):,} groups)"
    return fold_trials(
        target,
        texts,
        options,
        n_folds=plan.n_folds,
        n_tried=plan.n_tried,
        nested=not plan.is_fixed and are_few(*rows.X.shape, len(target.labels)),
        remark=remark,
    )


def _on_validation(stores: Joined, sources: Sequence[VectorSpec], target: Target) -> Trials:
    """Judge on the rows of other stores, by a model of all rows that are fitted."""
    held = validation_rows(stores, sources, target.labels)
    measured_on = f"the {len(held.y)} rows of {stores}"
    if stores.matching is not None and (unmatched := sum(stores.matching.left_out.values())):
        measured_on += f", without {unmatched} that do not match"
    groups = held.texts[:, 0].astype(np.intp) % FOLDS  # copies of a text stay together
    trial = Trial(target.everything, held.y, number_texts(held.texts))
    return Trials((trial,), groups, measured_on, validation=held.X)


def _solve_best(task: _Task, outcome: Outcome, options: Options) -> Solution:
    """Fit the head on all rows, from the mean of the models that chose its C."""
    start = mixed(outcome.solutions)
    problem = Problem(outcome.best.C, task.target.everything, options.tol, start)
    (solution,) = solve(task.data, [problem], max_iter=options.max_iter)
    return solution


def _solve_fixed(task: _Task, C: float, options: Options) -> tuple[Outcome, Solution]:
    """Fit the head on all rows together with the models that judge it."""
    sets = [*task.trials.training, task.target.everything]
    problems = [Problem(C, one, options.tol) for one in sets]
    *judges, solution = solve(task.data, problems, max_iter=options.max_iter)
    return judge((C,), judges, task.target, task.trials, options), solution


def _measure(outcome: Outcome, labels: Sequence[str], method: str, seed: int) -> _Measured:
    """Measure held-out rows, after calibration where that is the method."""
    rows, chosen = outcome.nested, outcome.held_out
    weight, method = rows.weight, chosen.chosen(method)
    calibration = chosen.calibration(method)
    before = measure(rows.y, softmax(rows.logits), labels, seed=seed, weight=weight)
    if method == "none":
        figures = chosen.figures(calibration, before.confusion)
        return _Measured(before, calibration, {"method": method}, figures)
    after = measure(rows.y, rows.calibrated(method), labels, seed=seed, weight=weight)
    record = {
        "method": method,
        "temperature": calibration.temperature,
        "bias": calibration.bias.tolist(),
        "before": _of_calibration(before),
        "after": _of_calibration(after),
    }
    return _Measured(after, calibration, record, chosen.figures(calibration, after.confusion))


def _of_calibration(metrics: Metrics) -> dict[str, float]:
    return {"log_loss": metrics.log_loss, "calibration_error": metrics.calibration_error}


def _view_scales(task: _Task) -> list[float]:
    """Give the scale of each view, see `pipeline/solver/view_scales.py`."""
    if task.data.scale is None:
        return [1.0] * len(task.sources)
    first = np.cumsum([0, *(source.width for source in task.sources[:-1])])
    return [float(scale) for scale in task.data.scale[first]]


def _metadata(
    task: _Task, outcome: Outcome, solution: Solution, measured: _Measured, options: Options
) -> dict[str, Any]:
    """Say, as JSON types, what a head is made from, how, and what it is worth."""
    matching = task.matching
    return {
        "frostline": __version__,
        "versions": {p: version(p) for p in ("scikit-learn", "numpy")}
        | {"python": platform.python_version()},
        "rows": len(task.rows.y),
        "class_rows": task.target.class_rows,
        "unlabelled": task.rows.unlabelled,
        "matching": None if matching is None else dataclasses.asdict(matching),
        "C": outcome.best.C,
        "view_scales": _view_scales(task),
        "class_weight": options.class_weight,
        "prior": task.target.stated.tolist(),
        "calibration": measured.record,
        "held_out": None if measured.held_out is None else measured.held_out.to_dict(),
        "seed": options.seed,
        "near_identical": task.near_identical,
        "iterations": solution.iterations,
        "converged": solution.converged,
        "gap": solution.gap,
        "tol": options.tol,
        "max_iter": options.max_iter,
        "in_memory": task.data.vectors.in_memory,
        "measured_on": task.trials.measured_on,
        "metric": options.metric,
        "grid": [
            {
                "C": c.C,
                "score": c.score,
                "fold_scores": list(c.fold_scores),
                "difference_error": c.difference_error,
                "log_loss": c.log_loss,
                "log_loss_error": c.log_loss_error,
            }
            for c in outcome.candidates
        ],
        "nested_choices": list(outcome.nested_choices),
        "metrics": measured.metrics.to_dict(),
    }
