"""How well wrong labels are found: noise that is put into labels, ranked by us and by cleanlab.

    python benchmarks/suspects.py HEAD.joblib LABELLED.h5 [--rows 3000] [--runs 3]

Labels of LABELLED are made wrong in three ways: to any other class (uniform), to one other class
and from some classes more often (of classes), and to the second class of rows about which a head
of the true labels is unsure (near the border). What is written is the average precision of each
ranking; that of guessing is the share of wrong labels. The labels of LABELLED count as right, so
that those which are wrong already cost every ranking. `pip install cleanlab` adds its rankings, by
the out-of-fold probabilities of the first round, which are the usual ones, and of the second one,
which are ours; without it, they are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from sklearn.metrics import average_precision_score

from features.base.arrays import Floats, Indices
from pipeline import load_head
from pipeline.data.join import open_joined
from pipeline.data.labelled_rows import Labelled, validation_rows
from pipeline.head.head import Head
from pipeline.labelling.label_noise import find_doubts
from pipeline.labelling.suspects import gather
from pipeline.solver.blocks import Rows

try:
    from cleanlab.rank import get_label_quality_scores
except ImportError:
    get_label_quality_scores = None

SHARES = (0.05, 0.1, 0.2, 0.3)
Noise = Callable[[np.random.Generator, Indices, Floats, int], Indices]


def uniform(rng: np.random.Generator, y: Indices, proba: Floats, n: int) -> Indices:
    """Give n labels to any other class."""
    noisy, n_classes = y.copy(), proba.shape[1]
    at = rng.choice(len(y), n, replace=False)
    noisy[at] = (y[at] + rng.integers(1, n_classes, n)) % n_classes
    return noisy


def of_classes(rng: np.random.Generator, y: Indices, proba: Floats, n: int) -> Indices:
    """Give n labels to the next class, those of later classes up to three times as often."""
    noisy, n_classes = y.copy(), proba.shape[1]
    often = np.linspace(1, 3, n_classes)[y]
    at = rng.choice(len(y), n, replace=False, p=often / often.sum())
    noisy[at] = (y[at] + 1) % n_classes
    return noisy


def near_the_border(rng: np.random.Generator, y: Indices, proba: Floats, n: int) -> Indices:
    """Give n labels to the most probable other class, where that is nearly as probable."""
    noisy, rows = y.copy(), np.arange(len(y))
    others = proba.copy()
    others[rows, y] = -1
    near = np.exp(-4 * np.abs(proba[rows, y] - others.max(axis=1)))
    at = rng.choice(len(y), n, replace=False, p=near / near.sum())
    noisy[at] = others[at].argmax(axis=1)
    return noisy


NOISES: dict[str, Noise] = {
    "uniform": uniform,
    "of classes": of_classes,
    "near the border": near_the_border,
}


@click.command()
@click.argument("head", type=click.Path(exists=True, path_type=Path))
@click.argument("labelled", type=click.Path(exists=True, path_type=Path))
@click.option("--rows", type=int, default=3000, show_default=True, help="Drawn from LABELLED.")
@click.option("--runs", type=int, default=3, show_default=True, help="Draws of rows and noise.")
def main(head: Path, labelled: Path, rows: int, runs: int) -> None:
    """Find wrong labels that were put into LABELLED."""
    fitted, shown = load_head(head), False
    if get_label_quality_scores is None:
        print("cleanlab is not installed: its rankings are left out\n")
    for kind, noise in NOISES.items():
        for share in SHARES:
            found = [one_run(fitted, labelled, noise, share, rows, run) for run in range(runs)]
            if not shown:
                print(
                    f"| noise | share | {' | '.join(found[0])} |\n|---|---{'|---' * len(found[0])}|"
                )
                shown = True
            means = [np.mean([one[name] for one in found]) for name in found[0]]
            cells = " | ".join(f"{mean:.3f}" for mean in means)
            print(f"| {kind} | {share:.0%} | {cells} |", flush=True)


def one_run(
    head: Head, labelled: Path, noise: Noise, share: float, n_rows: int, run: int
) -> dict[str, float]:
    """Make some labels wrong, and give the average precision of each ranking."""
    rng = np.random.default_rng(run)
    rows = drawn(head, labelled, n_rows, rng)
    clean = gather(head, rows, repeats=1).proba[0]
    y = noise(rng, rows.y, clean, round(share * len(rows.y)))
    evidence = gather(head, replace(rows, y=y))
    found = find_doubts(y, evidence.proba, evidence.disagreement)
    scores = {
        "combined": found.combined,
        "loss": found.loss,
        "confident": found.confident,
        "neighbours": found.neighbours,
        **by_cleanlab(y, evidence.plain.mean(axis=0), "1"),
        **by_cleanlab(y, evidence.proba.mean(axis=0), "2"),
    }
    wrong = y != rows.y
    return {name: float(average_precision_score(wrong, one)) for name, one in scores.items()}


def drawn(head: Head, labelled: Path, n_rows: int, rng: np.random.Generator) -> Labelled:
    """Draw labelled rows, and hold their vectors."""
    with open_joined(labelled) as stores:
        rows = validation_rows(stores, head.sources, head.labels)
        at = np.sort(rng.choice(len(rows.y), min(n_rows, len(rows.y)), replace=False))
        blocks, start = [], 0
        for block in rows.X.blocks():
            here = at[(at >= start) & (at < start + len(block))]
            blocks.append(block[here - start].astype(np.float32))
            start += len(block)
    return Labelled(Rows.of(np.concatenate(blocks)), rows.y[at], rows.texts[at], 0)


def by_cleanlab(y: Indices, proba: Floats, of_round: str) -> dict[str, Floats]:
    """Give cleanlab's rankings by the probabilities of a round; larger is more doubtful."""
    if get_label_quality_scores is None:
        return {}
    asked = [("self_confidence", False), ("normalized_margin", False)]
    asked += [("confidence_weighted_entropy", False)]
    asked += [("self_confidence", True), ("normalized_margin", True)]
    return {
        f"cleanlab {of_round} {method}{', adjusted' * adjusted}": -get_label_quality_scores(
            y, proba, method=method, adjust_pred_probs=adjusted
        )
        for method, adjusted in asked
    }


if __name__ == "__main__":
    main()
