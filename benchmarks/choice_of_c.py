"""What the rule that chooses C is worth: rules side by side on many small draws of a large store.

    python benchmarks/choice_of_c.py TRAIN.h5 [--pooling mean@last4+sum] [--rows 2000] [--draws 50]

Each draw takes rows of TRAIN with replacement, as many as a user may have, and chooses C by 5-fold
cross-validation; a head for each C of the grid is fitted on the draw and measured on rows that are
not in it. For each rule stand: the mean macro recall of what it chose, the mean difference to the
best score's with its standard error over draws, and how far the chosen C scatter, in decades.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np

from features import FeatureStore
from pipeline.evaluation.choice import C_GRID, Candidate, best_of, choose, plateau
from pipeline.evaluation.cross_validation import SELECTION_TOL, judge
from pipeline.evaluation.metrics import score
from pipeline.evaluation.options import Options
from pipeline.evaluation.trials import fold_trials, target_of
from pipeline.solver.blocks import Rows
from pipeline.solver.solve import softmax, solve_grid

RULES: dict[str, Callable[[Sequence[Candidate]], Candidate]] = {
    "best score": best_of,
    "smallest on the plateau of the metric": lambda all_C: min(plateau(all_C), key=lambda c: c.C),
    "then by log-loss (default)": choose,
    "--one-standard-error": lambda all_C: choose(all_C, one_standard_error=True),
}


@click.command()
@click.argument("train", type=click.Path(exists=True, path_type=Path))
@click.option("--pooling", default="mean@last4+sum", show_default=True)
@click.option("--rows", default=2000, show_default=True, help="Rows of a draw.")
@click.option("--draws", default=50, show_default=True)
@click.option(
    "--measured", default=12_000, show_default=True, help="Rows outside it to measure on."
)
def main(train: Path, pooling: str, rows: int, draws: int, measured: int) -> None:
    """Compare rules on draws of TRAIN."""
    with FeatureStore(train) as store:
        there = store.labels() >= 0
        X, y = store.read(pooling, there), store.labels()[there]
        texts, labels = store.digests()[there], store.label_names
    rng = np.random.default_rng(0)
    recall: dict[str, list[float]] = {rule: [] for rule in RULES}
    chosen: dict[str, list[float]] = {rule: [] for rule in RULES}
    options = Options("macro-recall", "balanced", None, 0, 1000, SELECTION_TOL, 2**32)
    for _ in range(draws):
        drawn = rng.integers(0, len(y), rows)
        others = rng.permutation(np.setdiff1d(np.arange(len(y)), drawn))[:measured]
        target = target_of(y[drawn], labels, options)
        trials = fold_trials(target, texts[drawn], options, n_folds=5, n_tried=5, nested=False)
        data = target.prepared(Rows.of(X[drawn]), options.memory)
        sets = [*trials.training, target.everything]
        solutions = solve_grid(data, C_GRID, sets, tol=SELECTION_TOL)
        heads = dict(zip(C_GRID, solutions[5::6], strict=True))
        judges = [one for n, one in enumerate(solutions) if n % 6 != 5]
        candidates = judge(C_GRID, judges, target, trials, options).candidates
        for rule, choice in RULES.items():
            head = heads[choice(candidates).C]
            proba = softmax(X[others] @ head.coef.T.astype(np.float32) + head.intercept)
            recall[rule].append(score("macro-recall", y[others], proba))
            chosen[rule].append(head.C)
    print("| rule | macro recall | to the best score's | scatter of C, decades | median C |")
    print("|---|---|---|---|---|")
    first = np.array(recall["best score"])
    for rule in RULES:
        difference = np.array(recall[rule]) - first
        error = difference.std(ddof=1) / np.sqrt(draws)
        print(
            f"| {rule} | {np.mean(recall[rule]):.4f} | {difference.mean():+.4f} ± {error:.4f} "
            f"| {np.std(np.log10(chosen[rule])):.2f} | {np.median(chosen[rule]):g} |"
        )


if __name__ == "__main__":
    main()
