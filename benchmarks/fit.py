"""How fast a head is fitted, beside scikit-learn's solvers, in interleaved rounds of one run.

    python benchmarks/fit.py FEATURES.h5 --pooling VIEW [--C 0.01 --C 1] [--rounds 3] [--grid]

Same rows, same objective (standardised columns, balanced classes), same machine. Every round runs
every contender once; the figures are medians, the ratios are to frostline. frostline's seconds
contain the standardisation and the Gram matrix, scikit-learn's begin with standardised float32
columns. The gap is what is left to the optimum, relatively: (P - min P) / min P in float64, where
min P is the least that any contender finds, or frostline at a certificate of 1e-12.

`--grid` times 20 C x 5 folds and the refit on all rows. Beside it stands LogisticRegressionCV on
the same C and one of the five folds, times five, as all of it takes too long, at its default `tol`
and at `--tol`; the gaps are the largest and the median of the 20 models of that fold. Timings on a
busy machine scatter: compare within one run only.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

from features import FeatureStore
from pipeline.evaluation.cross_validation import SELECTION_TOL
from pipeline.solver.blocks import Rows
from pipeline.solver.objective import TrainingSet
from pipeline.solver.solve import (
    Data,
    Problem,
    Solution,
    balanced_weights,
    in_two,
    prepare,
    solve,
    solve_grid,
)

MEMORY = 2**35


@click.command()
@click.argument("features", type=click.Path(exists=True, path_type=Path))
@click.option("--pooling", help="The view, if there are several.")
@click.option("--C", "Cs", type=float, multiple=True, default=[0.01, 1.0], show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--solver",
    multiple=True,
    default=["lbfgs", "newton-cg", "newton-cholesky"],
    show_default=True,
    help="scikit-learn's.",
)
@click.option("--tol", default=1e-6, show_default=True, help="Of scikit-learn's iterative solvers.")
@click.option("--grid/--no-grid", help="Time 20 C x 5 folds instead of single fits.")
@click.option("--peer/--no-peer", default=True, help="Whether --grid runs scikit-learn's as well.")
def main(
    features: Path,
    pooling: str | None,
    Cs: Sequence[float],
    rounds: int,
    solver: Sequence[str],
    tol: float,
    grid: bool,
    peer: bool,
) -> None:
    """Time the solver beside scikit-learn's."""
    with FeatureStore(features) as store:
        views = store.choose_views([pooling] if pooling else None)
        labelled = store.labels() >= 0
        X = store.read(views, labelled)
        _, y = np.unique(store.labels()[labelled], return_inverse=True)
    print(f"{features.name}, {' + '.join(views)}: {X.shape[0]:,} x {X.shape[1]}, {rounds} rounds")
    if grid:
        time_grid(X, y, rounds, (1e-4, tol) if peer else ())
        return
    print("| C | solver | seconds | ratio | passes or iterations | gap |")
    print("|---|---|---|---|---|---|")
    for C in Cs:
        time_single(X, y, C, rounds, solver, tol)


def time_single(
    X: np.ndarray, y: np.ndarray, C: float, rounds: int, solvers: Sequence[str], tol: float
) -> None:
    n_classes = int(y.max()) + 1
    weights = balanced_weights(y, n_classes)
    training = TrainingSet(None, weights)
    Z, std, mean = standardised(X), scale(X), X.mean(axis=0, dtype=np.float64)

    def ours(tol: float) -> tuple[np.ndarray, np.ndarray, int]:
        data = prepare(
            Rows.of(X), y, n_classes=n_classes, memory=MEMORY, class_weight=training.class_weight
        )
        (one,) = solve(data, [Problem(C, training, tol)])
        # From raw columns to standardised ones.
        return one.coef * std, one.intercept + one.coef @ mean, one.iterations

    def theirs(solver: str) -> tuple[np.ndarray, np.ndarray, int]:
        model = LogisticRegression(
            C=C, solver=solver, tol=tol, class_weight="balanced", max_iter=5000
        ).fit(Z, y)
        coef, intercept = model.coef_, model.intercept_
        if len(coef) == 1:
            coef, intercept = np.vstack([-coef, coef]) / 2, np.hstack([-intercept, intercept]) / 2
        return coef, intercept, int(model.n_iter_[0])

    contenders: dict[str, Callable[[], tuple[np.ndarray, np.ndarray, int]]] = {
        "frostline, certificate 1e-6": lambda: ours(1e-6),
        "frostline, certificate 1e-4": lambda: ours(1e-4),
    }
    for solver in solvers:
        contenders[f"scikit-learn {solver}"] = lambda solver=solver: theirs(solver)

    found = {}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                found[name] = run()
            seconds[name].append(time.perf_counter() - start)
    s = weights[y]
    values = {name: objective(Z, y, s, C, *weights[:2]) for name, weights in found.items()}
    best = min(*values.values(), objective(Z, y, s, C, *ours(1e-12)[:2]))
    first = statistics.median(seconds["frostline, certificate 1e-6"])
    for name, (_, _, iterations) in found.items():
        median = statistics.median(seconds[name])
        gap = (values[name] - best) / best
        print(
            f"| {C:g} | {name} | {median:.2f} | {median / first:.1f} | {iterations} | {gap:.0e} |",
            flush=True,
        )


def time_grid(X: np.ndarray, y: np.ndarray, rounds: int, tols: Sequence[float]) -> None:
    n_classes = int(y.max()) + 1
    weights = balanced_weights(y, n_classes)
    everything = TrainingSet(None, weights)
    Cs = np.geomspace(1e-4, 1e2, 20)
    folds = np.random.default_rng(0).integers(0, 5, len(y))
    training = [
        TrainingSet(folds == fold, balanced_weights(y[folds != fold], n_classes))
        for fold in range(5)
    ]

    def prepared() -> Data:
        return prepare(Rows.of(X), y, n_classes=n_classes, memory=MEMORY, class_weight=weights)

    def single() -> list[Solution]:
        return solve(prepared(), [Problem(0.01, everything)])

    def grid() -> list[Solution]:
        data = prepared()
        found = solve_grid(data, Cs, training, tol=SELECTION_TOL)
        return [*found, *solve(data, [Problem(Cs[6], everything, start=found[30])])]

    found: dict[str, list[Solution]] = {}
    seconds: dict[str, list[float]] = {"single": [], "grid": []}
    for _ in range(rounds):
        for name, run in (("single", single), ("grid", grid)):
            start = time.perf_counter()
            found[name] = run()
            seconds[name].append(time.perf_counter() - start)
    one, ours = (statistics.median(seconds[name]) for name in ("single", "grid"))

    # Gaps are those of the models that leave out the first fold, on columns that are standardised
    # by the rows of the fit: the objective is then the same for all.
    rest = folds != 0
    mean, std = X[rest].mean(axis=0, dtype=np.float64), scale(X[rest])
    Z = ((X - mean) / std).astype(np.float32)
    s = training[0].class_weight[y[rest]]

    def values(models: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        return np.array(
            [objective(Z[rest], y[rest], s, C, *w) for C, w in zip(Cs, models, strict=True)]
        )

    def of_columns(solutions: Sequence[Solution]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(one.coef * std, one.intercept + one.coef @ mean) for one in solutions]

    best = values(of_columns(solve(prepared(), [Problem(C, training[0], 1e-10) for C in Cs])))

    def row(name: str, taken: float, count: int, values: np.ndarray) -> None:
        gaps = (values - best) / best
        print(
            f"| {name} | {taken:.2f} | {taken / ours:.2f} | {count} | {gaps.max():.0e}, "
            f"{np.median(gaps):.0e} |",
            flush=True,
        )

    *of_folds, refit = found["grid"]
    iterations = np.array([one.iterations for one in of_folds]).reshape(len(Cs), -1)
    passes = sum(iterations[part].max() for part in in_two(len(Cs))) + refit.iterations
    print("| | seconds | ratio | passes or iterations | gaps, largest and median |")
    print("|---|---|---|---|---|")
    print(f"| frostline, a single fit, C = 0.01 | {one:.2f} | {one / ours:.2f} | | |")
    row("frostline, 20 C x 5 folds and the refit", ours, passes, values(of_columns(of_folds[::5])))
    for tol in tols:
        start = time.perf_counter()
        iterations, models = one_fold(Z, y, rest, Cs, tol)
        taken = 5 * (time.perf_counter() - start)
        name = f"LogisticRegressionCV, tol {tol:g}, one fold x 5"
        row(name, taken, 5 * iterations, values(models))


def one_fold(
    Z: np.ndarray, y: np.ndarray, rest: np.ndarray, Cs: np.ndarray, tol: float
) -> tuple[int, list[tuple[np.ndarray, np.ndarray]]]:
    """Give LogisticRegressionCV's iterations, and its weights and intercepts for each C."""
    model = LogisticRegressionCV(
        Cs=Cs, cv=[(np.flatnonzero(rest), np.flatnonzero(~rest))], class_weight="balanced",
        refit=False, max_iter=5000, tol=tol, scoring="recall_macro", l1_ratios=(0,),
        use_legacy_attributes=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(Z, y)
    paths = model.coefs_paths_[0, 0]  # (C, K, D + 1)
    return int(model.n_iter_.sum()), [(w[:, :-1], w[:, -1]) for w in paths]


def scale(X: np.ndarray) -> np.ndarray:
    """Standard deviations, 1 where a column is constant."""
    std = X.std(axis=0, dtype=np.float64)
    constant = std <= 10 * np.finfo(np.float32).eps * np.abs(X.mean(axis=0, dtype=np.float64))
    return np.where(constant, 1.0, std)


def standardised(X: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and standard deviation 1, float32."""
    return ((X - X.mean(axis=0, dtype=np.float64)) / scale(X)).astype(np.float32)


def objective(
    Z: np.ndarray, y: np.ndarray, s: np.ndarray, C: float, coef: np.ndarray, intercept: np.ndarray
) -> float:
    """Give the objective in float64."""
    logits = (
        np.concatenate([part.astype(np.float64) @ coef.T for part in np.array_split(Z, 20)])
        + intercept
    )
    loss = logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
    penalised = coef if len(coef) > 2 else coef[1:] - coef[:1]
    return float(C * (s * loss).sum() + 0.5 * (penalised**2).sum())


if __name__ == "__main__":
    main()
