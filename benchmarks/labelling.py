"""What labels are worth by how rows are chosen: `label-next`, its parts, margin and random.

    python benchmarks/labelling.py HEAD.joblib LABELLED.h5 [--pool 5000] [--seeds 20]

Rows of LABELLED play a pool whose labels are not known, and others judge. All ways begin with the
same random rows, the first of the budgets. From one budget to the next a head of the rows so far
is fitted, with the C, view and class weights of HEAD, and asked for the rows to the next one.
The tables have macro recall on the rows that judge, and what each way is ahead of random: the mean
over the seeds, and its standard error. `margin` takes the smallest differences between the two
largest probabilities; `label-next` is the rule of the command, a tenth at random among it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from features.base.arrays import Array, Floats, Indices
from pipeline import load_head
from pipeline.data.join import open_joined
from pipeline.data.labelled_rows import validation_rows
from pipeline.evaluation.metrics import score
from pipeline.evaluation.trials import training_set
from pipeline.head.head import Head
from pipeline.head.settings import inverse_penalty
from pipeline.labelling.diversity import Pool, typical, uncertain
from pipeline.labelling.next_rows import FEW, choose
from pipeline.solver.blocks import Rows
from pipeline.solver.solve import Problem, Solution, prepare, solve

BUDGETS = (50, 100, 200, 500, 1000)
# A pool, what the head says of it, rows to choose, rows of the smallest class, a generator.
Way = Callable[[Pool, Floats, int, int, np.random.Generator], Indices]


def by_margin(pool: Pool, proba: Floats, n: int, least: int, rng: np.random.Generator) -> Indices:
    """Take the rows whose two largest probabilities are nearest to each other."""
    first, second = np.sort(proba, axis=1)[:, -1], np.sort(proba, axis=1)[:, -2]
    return np.argsort(first - second)[:n]


def by_label_next(
    pool: Pool, proba: Floats, n: int, least: int, rng: np.random.Generator
) -> Indices:
    """Take what the command takes."""
    return np.array(choose(pool, proba, n, rng, knows_little=least < FEW)[0])


WAYS: dict[str, Way] = {
    "random": lambda pool, proba, n, least, rng: rng.choice(len(proba), n, replace=False),
    "margin": by_margin,
    "uncertain": lambda pool, proba, n, least, rng: np.array(
        uncertain(pool, proba, np.ones(len(proba), bool), n, rng)
    ),
    "typical": lambda pool, proba, n, least, rng: np.array(
        typical(pool, np.ones(len(proba), bool), n, rng)
    ),
    "label-next": by_label_next,
}


@click.command()
@click.argument("head", type=click.Path(exists=True, path_type=Path))
@click.argument("labelled", type=click.Path(exists=True, path_type=Path))
@click.option("--pool", "pool_rows", type=int, default=5000, show_default=True)
@click.option("--judges", type=int, default=3000, show_default=True, help="Rows that judge.")
@click.option("--seeds", type=int, default=20, show_default=True)
def main(head: Path, labelled: Path, pool_rows: int, judges: int, seeds: int) -> None:
    """Label rows of LABELLED in several ways, and measure the heads."""
    fitted = load_head(head)
    with open_joined(labelled) as stores:
        rows = validation_rows(stores, fitted.sources, fitted.labels)
        X = np.concatenate([block.astype(np.float32) for block in rows.X.blocks()])
    found = np.array(
        [one_seed(fitted, X, rows.y, pool_rows, judges, seed) for seed in range(seeds)]
    )
    print(f"| labels | {' | '.join(WAYS)} |\n|---{'|---' * len(WAYS)}|")
    for at, budget in enumerate(BUDGETS):
        cells = []
        for way in range(len(WAYS)):
            ahead = found[:, way, at] - found[:, 0, at]
            error = ahead.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
            gain = f" ({ahead.mean():+.3f} ± {error:.3f})" if way and at else ""
            cells.append(f"{found[:, way, at].mean():.3f}{gain}")
        print(f"| {budget:,} | {' | '.join(cells)} |")


def one_seed(
    head: Head, X: Array, y: Indices, pool_rows: int, judges: int, seed: int
) -> list[list[float]]:
    """Give the macro recall of each way at each budget."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    pool, test = order[judges : judges + pool_rows], order[:judges]
    z = (X[pool] - X[pool].mean(axis=0)) / np.maximum(X[pool].std(axis=0), 1e-6)
    begin = rng.choice(len(pool), BUDGETS[0], replace=False)
    found = []
    for way in WAYS.values():
        chosen, scores = begin, []
        for budget in BUDGETS:
            if budget > len(chosen):
                rest = np.setdiff1d(np.arange(len(pool)), chosen)
                model = fitted_on(head, X[pool[chosen]], y[pool[chosen]])
                proba = model.predict_proba(X[pool[rest]])
                least = int(np.bincount(y[pool[chosen]], minlength=len(head.labels)).min())
                left = Pool(z[rest], np.arange(len(rest)))
                at = way(left, proba, budget - len(chosen), least, rng)
                chosen = np.concatenate([chosen, rest[at]])
            model = fitted_on(head, X[pool[chosen]], y[pool[chosen]])
            scores.append(score("macro-recall", y[test], model.predict_proba(X[test])))
        found.append(scores)
    return found


def fitted_on(head: Head, X: Array, y: Indices) -> Solution:
    """Fit as the head was."""
    K = len(head.labels)
    data = prepare(Rows.of(X), y, n_classes=K, memory=2**30)
    training = training_set(y, K, str(head.metadata["class_weight"]))
    (solution,) = solve(data, [Problem(inverse_penalty(head), training, 1e-4)])
    return solution


if __name__ == "__main__":
    main()
