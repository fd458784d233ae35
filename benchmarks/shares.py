"""Shares of classes that are known, estimated: EM, adjusted counting and plain counting.

    python benchmarks/shares.py HEAD.joblib LABELLED.h5

Rows of LABELLED are drawn again so that the classes have known shares, `--rows` of them, `--runs`
times for each shift. The table says how far the worst class is off, and the calibration error under
the shares as EM estimates them, as they are, and under the head's own prior. How often intervals
hold the true share is not asked: all runs share what is odd about the rows of one file.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from features.base.arrays import Floats
from pipeline import load_head
from pipeline.data.join import open_joined
from pipeline.evaluation.adjusted_counting import adjusted_count
from pipeline.evaluation.label_shift import estimate_shift, moved
from pipeline.evaluation.metrics import measure
from pipeline.head.head import Head
from pipeline.scoring.estimated_prior import known_of
from pipeline.scoring.predict import score_stores

POINTS = (0.0, 0.1, 0.2, 0.3, 0.4)


@click.command()
@click.argument("head", type=click.Path(exists=True, path_type=Path))
@click.argument("labelled", type=click.Path(exists=True, path_type=Path))
@click.option("--runs", type=int, default=10, show_default=True)
@click.option("--rows", type=int, default=2000, show_default=True)
def main(head: Path, labelled: Path, runs: int, rows: int) -> None:
    """Estimate shares that are known, with HEAD on rows of LABELLED."""
    fitted = load_head(head)
    with open_joined(labelled) as stores:
        blocks = list(score_stores(fitted, stores))
    names = [label for block in blocks for label in block.labels]
    there = [n for n, name in enumerate(names) if name is not None]
    proba = np.concatenate([block.proba for block in blocks])[there]
    y = np.array([fitted.labels.index(str(names[n])) for n in there])
    print(
        "| shift | EM off | adjusted off | count off | ECE, estimated | ECE, true shares "
        "| ECE, head's prior |\n|---" + "|---" * 6 + "|"
    )
    for points in POINTS:
        found = [one_run(fitted, proba, y, points, run, rows) for run in range(runs)]
        cells = [f"{value:.3f}" for value in np.mean(found, axis=0)]
        print(f"| {points:.0%} | {' | '.join(cells)} |", flush=True)


def one_run(
    head: Head, proba: Floats, y: np.ndarray, points: float, run: int, rows: int
) -> list[float]:
    """Draw rows so that one class has so many points more than in training, and estimate."""
    rng, known = np.random.default_rng(run), known_of(head)
    shares = shifted(np.array(known.class_rows) / sum(known.class_rows), run, points)
    of_row = rng.choice(len(shares), rows, p=shares)
    p = proba[[rng.choice(np.flatnonzero(y == k)) for k in of_row]]
    by_em = estimate_shift(p, known, seed=run)
    held_out = head.held_out
    assert held_out is not None, "fit the head again"
    predicted = (p * (held_out.prior / known.prior)).argmax(axis=1)
    counts = np.bincount(predicted, minlength=len(shares))
    by_count = adjusted_count(counts, held_out.confusion, seed=run)
    estimated = moved(p, known.prior, np.array(by_em.shares), rows)
    true = moved(p, known.prior, shares, rows)
    return [
        *(
            float(np.abs(np.array(found) - shares).max())
            for found in (by_em.shares, by_count.shares, by_em.counted)
        ),
        *(measure(of_row, one, head.labels).calibration_error for one in (estimated, true, p)),
    ]


def shifted(training: Floats, way: int, points: float) -> Floats:
    """Give a class, by turns, points more than in training, as far as the others have them."""
    way %= len(training)
    others = np.arange(len(training)) != way
    points = min(points, 0.98 * float(training[others].sum()))
    shares = training.copy()
    shares[others] -= points * training[others] / training[others].sum()
    shares[way] += points
    return shares / shares.sum()


if __name__ == "__main__":
    main()
