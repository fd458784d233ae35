"""Compare influence with real fits without each row: labelled vectors in, rank correlations out.

    python benchmarks/influence.py tweets.h5 --rows 200

Some rows are drawn and fitted, with all of them and without each one of them. What that does to the
log-odds of the label of some other rows is compared with the estimate: Spearman's rank correlation,
and the slope through 0 by which real effects are larger than estimated ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from features.store.reader import FeatureStore
from pipeline.evaluation.trials import training_set
from pipeline.explaining.logits import log_odds
from pipeline.solver.blocks import Rows
from pipeline.solver.influence import influence
from pipeline.solver.solve import Problem, Solution, prepare, softmax, solve

CS = (1e-4, 1e-3, 1e-2, 1e-1)
ASKED = 20  # predictions for each fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("--view")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with FeatureStore(arguments.features) as store:
        (view,) = store.choose_views(None if arguments.view is None else [arguments.view])
        labelled = np.flatnonzero(store.labels() >= 0)
        rng = np.random.default_rng(arguments.seed)
        drawn = rng.choice(labelled, arguments.rows + ASKED, replace=False)
        X = store.read(view)[drawn].astype(np.float32)
        codes = store.labels()[drawn].astype(np.intp)
    fitted, y, asked = X[: arguments.rows], codes[: arguments.rows], X[arguments.rows :]
    print("| C | class weight | lowest | mean | slope |\n|---|---|---|---|---|")
    for C in CS:
        for class_weight in ("balanced", "none"):
            ranks, slopes = compared(fitted, y, asked, C, class_weight)
            print(
                f"| {C:g} | {class_weight} | {min(ranks):.3f} | {np.mean(ranks):.3f} "
                f"| {np.mean(slopes):.2f} |",
                flush=True,
            )


def compared(
    X: np.ndarray, y: np.ndarray, asked: np.ndarray, C: float, class_weight: str
) -> tuple[list[float], list[float]]:
    """Give the rank correlation, and the slope, of each prediction that is asked for."""
    n_classes = int(y.max()) + 1
    everything = training_set(y, n_classes, class_weight)
    data = prepare(
        Rows.of(X), y, n_classes=n_classes, memory=2**30, class_weight=everything.class_weight
    )
    sets = [training_set(y, n_classes, class_weight, np.arange(len(y)) == n) for n in range(len(y))]
    whole, *without = solve(data, [Problem(C, one, 1e-12) for one in [everything, *sets]])
    ranks, slopes = [], []
    for x in asked.astype(np.float64):
        logits = logits_of(whole, x)
        label = int(logits.argmax())
        others = -softmax(np.delete(logits, label)[None])[0]
        estimated = influence(data, everything, whole, x, np.insert(others, label, 1.0))
        before = log_odds(logits, label)
        real = np.array([before - log_odds(logits_of(one, x), label) for one in without])
        ranks.append(float(spearmanr(estimated, real).statistic))
        slopes.append(float(estimated @ real / (estimated @ estimated)))
    return ranks, slopes


def logits_of(solution: Solution, x: np.ndarray) -> np.ndarray:
    """Give the logits of one vector."""
    return solution.coef @ x + solution.intercept


if __name__ == "__main__":
    main()
