"""Whether `fit --against` says what correcting labels gains: beside rows that nobody corrected.

    python benchmarks/corrections.py LABELLED.h5 OTHER.h5 [--share 0.2] [--number 400] [--runs 4]

A share of the labels of LABELLED is made wrong, to any other class. A head of these labels names
the most suspect rows, whose true labels are given back as corrections. What is written is the
difference between the heads before and after, with its interval: out of fold on LABELLED, by all
rows and by those whose label was not changed, and that of the heads themselves on OTHER, which
takes no part in anything else. The labels of both files count as right.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import h5py
import numpy as np

from features import FeatureStore
from features.base.arrays import Indices
from pipeline import Head, fit, load_head, save_head
from pipeline.data.join import open_joined
from pipeline.data.labelled_rows import validation_rows
from pipeline.evaluation.folds import number_texts
from pipeline.fitting.changes import BothHeads, Change
from pipeline.labelling.suspects import suspects

SHOWN = ("macro-recall", "log-loss")


def write_noisy(labelled: Path, noisy: Path, share: float, seed: int) -> None:
    """Copy a file of vectors, with a share of its labels wrong."""
    shutil.copy(labelled, noisy)
    rng = np.random.default_rng(seed)
    with h5py.File(noisy, "r+") as file:
        y = file["label"][:]
        at = rng.choice(np.flatnonzero(y >= 0), round(share * len(y)), replace=False)
        n_classes = int(y.max()) + 1
        y[at] = (y[at] + rng.integers(1, n_classes, len(at))) % n_classes
        file["label"][:] = y


def write_truth(labelled: Path, rows: Indices, file: Path) -> None:
    """Write the true labels of some rows as corrections."""
    with FeatureStore(labelled) as store, file.open("w", encoding="utf-8", newline="") as out:
        ids, names, y = store.ids(), store.label_names, store.labels()
        writer = csv.writer(out)
        writer.writerow(["id", "row", "label"])
        writer.writerows([ids[row], row, names[y[row]]] for row in rows.tolist())


def line_of(name: str, metrics: Sequence[Change]) -> str:
    """Lay out the differences that are shown."""
    cells = [
        f"{one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
        for one in metrics
        if one.name in SHOWN
    ]
    return f"| {name} | {' | '.join(cells)} |"


def on_other(old: Head, new: Head, other: Path) -> Sequence[Change]:
    """Compare the heads themselves, under the prior of the new one."""
    with open_joined(other) as stores:
        rows = validation_rows(stores, new.sources, new.labels)
        probas = [
            np.concatenate([head.predict_proba(block) for block in rows.X.blocks()])
            for head in (old, new)
        ]
        assert new.prior is not None
        texts = number_texts(rows.texts)
        both = BothHeads(rows.y, rows.y, probas, texts, new.prior, seed=0)
    return both.changes("old", 0, "other rows").metrics


def run(labelled: Path, other: Path, folder: Path, share: float, number: int, seed: int) -> None:
    """Disturb, look for suspects, correct them and compare."""
    noisy, old, file = folder / "noisy.h5", folder / "old.joblib", folder / "corrections.csv"
    write_noisy(labelled, noisy, share, seed)
    save_head(fit(noisy).head, old)
    found = suspects(load_head(old), noisy, number=number, repeats=1)
    write_truth(labelled, found.rows, file)
    inside = fit(noisy, corrections=file, against=old)
    assert inside.changes is not None
    click.echo(f"\nseed {seed}: {inside.corrections.rows} labels put right\n")
    click.echo(f"| measured on | {' | '.join(SHOWN)} |\n|---|---|---|")
    click.echo(line_of("all rows, out of fold", inside.changes.metrics))
    if (undisputed := inside.changes.undisputed) is not None:
        click.echo(line_of("rows whose label was not changed", undisputed.metrics))
    click.echo(line_of("other rows", on_other(load_head(old), inside.head, other)))


@click.command()
@click.argument("labelled", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path))
@click.option("--share", default=0.2, show_default=True, help="Of the labels that are made wrong.")
@click.option("--number", default=400, show_default=True, help="Suspects that are put right.")
@click.option("--runs", default=4, show_default=True, help="Draws of the wrong labels.")
def main(labelled: Path, other: Path, share: float, number: int, runs: int) -> None:
    """Print a table for each draw."""
    for seed in range(runs):
        with TemporaryDirectory() as folder:
            run(labelled, other, Path(folder), share, number, seed)


if __name__ == "__main__":
    main()
