"""Run stage two on one screen: load vectors → select C → solve → calibrate → head. No torch.

In comes a feature store with labels, out go a `Head` and the figures that it was chosen and judged
by. It never reads tweets and never runs a model. The steps that `compare` takes as well are in
`pipeline/evaluation/trials.py` and `pipeline/evaluation/cross_validation.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from features.base.machine import bytes_of
from features.engines.engine import Engine
from features.errors import InputError
from pipeline.data.conflicts import Conflicts
from pipeline.data.corrections import Corrections
from pipeline.data.matching import Matching
from pipeline.data.shared_rows import Sharing
from pipeline.evaluation.choice import Candidate
from pipeline.evaluation.cross_validation import Outcome, judge, select
from pipeline.evaluation.metrics import Metrics
from pipeline.evaluation.options import Options
from pipeline.fitting.changes import Changes, changes_of, earlier
from pipeline.fitting.record import Measured, measured_by, metadata_of
from pipeline.fitting.task import Task, load, plan_of
from pipeline.head.calibration import METHODS, TEMPERATURE, folded
from pipeline.head.head import Head, load_head
from pipeline.head.novelty import fit_novelty
from pipeline.head.training_texts import TrainingTexts
from pipeline.solver import blas
from pipeline.solver.solve import Problem, Solution, mixed, solve


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
    corrections : Corrections
        Labels that were given by hand, and what is to be said of them.
    conflicts : Conflicts
        Texts that come with several labels, and what was done with their rows.
    changes : Changes, optional
        What has changed against an earlier head, if one was given.
    gap : float
        The certificate of the head: how far it can be from the optimum, relative to the objective.
    converged : bool
        False if `max_iter`, or rounding, ended the fit before `tol` was reached.
    in_memory : bool
        Whether all vectors were held, or some were read anew in each pass.
    seconds : dict of str to float
        `load`, `select`, `solve`, `total`. With a fixed C the models that are measured are solved
        together with the head's, in `solve`. What `against` takes is in `total` alone.
    """

    head: Head
    metrics: Metrics
    measured_on: str
    candidates: tuple[Candidate, ...]
    unlabelled: int
    matching: Matching | None
    corrections: Corrections
    conflicts: Conflicts
    changes: Changes | None
    gap: float
    converged: bool
    in_memory: bool
    seconds: dict[str, float]


@blas.one_thread()
def fit(
    features: str | Path | Sequence[str | Path],
    *,
    pooling: str | Sequence[str] | None = None,
    C: float | str = "auto",
    cv: int | None = None,
    repeats: int = 1,
    near_identical: float | None = None,
    validation: str | Path | Sequence[str | Path] | None = None,
    corrections: str | Path | Sequence[str | Path] | None = None,
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
    against: str | Path | None = None,
    engine: Engine | None = None,
    progress: Callable[[float, int], None] | None = None,
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
    corrections : path or sequence of paths, optional
        Tables of `id`, `row` and `label`: labels that these rows have instead of their own, see
        `correct`. Not of `validation`.
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
        that takes more, in float32, is read anew in each pass. With an engine, all workers together
        may hold so much; by default each holds up to its share of a quarter of what is free on its
        machine.
    against : path, optional
        An earlier head to measure the new one against, on the same rows and by the corrected
        labels; see `pipeline/fitting/changes.py`.
    engine : Engine, optional
        Runs workers that go through the vectors instead of this process, e.g. `LocalEngine` of
        `features/engines/local.py`. The head has the same bits.
    progress : callable, optional
        Called with the number of models that are fitted, and of all; the models are those that C
        is chosen by, and then that of the head.

    Raises
    ------
    InputError
        Fewer than two classes have rows, a view is not there, a class has fewer rows than folds, an
        option is none of those allowed, corrections do not fit the rows.
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
    old = None if against is None else load_head(against)
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
    plan = plan_of(cv, near_identical, validation, options, is_fixed=fixed is not None)
    method = _calibration(calibrate, possible=plan.n_tried > 1 or validation is not None)
    with ExitStack() as files:
        task = load(
            files,
            features,
            pooling,
            corrections=corrections,
            conflicts=conflicts,
            plan=plan,
            options=options,
            sharing=Sharing(engine, None if memory is None else options.memory),
        )
        before = None if old is None else earlier(old, str(against), task)
        task = dataclasses.replace(task, data=dataclasses.replace(task.data, told=progress))
        loaded = perf_counter()
        outcome, solution, selected = _solved(task, fixed, options)
        measured = measured_by(outcome, task.target.labels, method, seed)
        metadata = metadata_of(task, outcome, solution, measured, options)
        head = _head(task, solution, measured, metadata)
        ended = perf_counter()
        changes = None if before is None else changes_of(before, head, task, options)

    seconds = {
        "load": loaded - started,
        "select": selected - loaded,
        "solve": ended - selected,
        "total": perf_counter() - started,
    }
    # Without what is of the run alone: the same rows and options give a file of the same bytes.
    said = {"changes": None if changes is None else changes.to_dict()}
    return FitResult(
        dataclasses.replace(head, metadata=metadata | said),
        measured.metrics,
        task.trials.measured_on,
        outcome.candidates if fixed is None else (),
        task.rows.unlabelled,
        task.stores.matching,
        task.corrections,
        task.conflicts,
        changes,
        solution.gap,
        solution.converged,
        task.data.vectors.in_memory,
        seconds,
    )


def _number(C: float | str) -> float:
    """Read an inverse penalty."""
    try:
        value = float(C)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise InputError(f"C is {C!r}; it must be a number above 0, or auto")
    return value


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


def _solved(task: Task, fixed: float | None, options: Options) -> tuple[Outcome, Solution, float]:
    """Choose C, unless it is given, and solve for the head; also when the choice was made."""
    if fixed is not None:
        started = perf_counter()
        return *_solve_fixed(task, fixed, options), started
    outcome = select(task.data, task.target, task.trials, options)
    selected = perf_counter()
    return outcome, _solve_best(task, outcome, options), selected


def _solve_best(task: Task, outcome: Outcome, options: Options) -> Solution:
    """Fit the head on all rows, from the mean of the models that chose its C."""
    start = mixed(outcome.solutions)
    problem = Problem(outcome.best.C, task.target.everything, options.tol, start)
    (solution,) = solve(task.data, [problem], max_iter=options.max_iter)
    return solution


def _solve_fixed(task: Task, C: float, options: Options) -> tuple[Outcome, Solution]:
    """Fit the head on all rows together with the models that judge it."""
    sets = [*task.trials.training, task.target.everything]
    problems = [Problem(C, one, options.tol) for one in sets]
    *judges, solution = solve(task.data, problems, max_iter=options.max_iter)
    return judge((C,), judges, task.target, task.trials, options), solution


def _head(task: Task, solution: Solution, measured: Measured, metadata: Mapping[str, Any]) -> Head:
    """Fold calibration and prior into the weights, and learn the kind and texts of the rows."""
    coef, intercept = folded(
        solution.coef,
        solution.intercept,
        calibration=measured.calibration,
        fitted=task.target.fitted,
        stated=task.target.stated,
    )
    held_out = task.trials.training[0].held_out
    novelty = fit_novelty(task.data.vectors, task.target.y, len(task.target.labels), held_out)
    texts = TrainingTexts.of(task.rows.texts)
    return Head(task.target.labels, coef, intercept, task.sources, metadata, novelty, texts)
