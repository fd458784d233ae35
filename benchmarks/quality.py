"""Which vector to take: views and joined views, on one set of labelled tweets or several.

    python benchmarks/quality.py TRAIN.csv TEST.csv [TRAIN.csv TEST.csv ...]

Files are taken in pairs; a pair may be of two domains. Each file is encoded once, all views in one
pass. For each view C is chosen by cross-validation on TRAIN, the head is fitted on all of TRAIN and
measured on TEST, with a bootstrap 95 % interval. `--pooling a,b` puts views side by side, and with
several `--model` those of all encoders. `--by-hand` adds what StandardScaler and LogisticRegression
(lbfgs) give on the same vectors at the same C.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features import extract
from pipeline import fit
from pipeline.data.join import open_joined
from pipeline.data.labelled_rows import classes_of, labelled_rows
from pipeline.scoring.evaluate import evaluate
from pipeline.scoring.predict import score_stores

VIEWS = ["cls", "cls@last4+sum", "mean", "mean@-2", "mean@last4+sum", "mean@last4+concat"]
COLUMNS = ["set", "view", "D", "C", "cross-validated", "macro recall", "95 % interval", "accuracy"]
COLUMNS += ["calibration error", "refit, s", "choice of C, s"]


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--pooling", multiple=True, default=VIEWS, help="Views to compare; a,b joins two.")
@click.option("--model", "models", multiple=True, default=["all-MiniLM-L6-v2"], show_default=True)
@click.option("--prefix", help="Text before each tweet, for models that expect one.")
@click.option("--by-hand", is_flag=True, help="Add plain scikit-learn, for single encoders.")
@click.option("--cache", type=click.Path(path_type=Path), help="Keep the vectors in this folder.")
def main(
    files: Sequence[Path],
    pooling: Sequence[str],
    models: Sequence[str],
    prefix: str | None,
    by_hand: bool,
    cache: Path | None,
) -> None:
    """Compare views on each TEST after choosing C on its TRAIN."""
    if len(files) % 2:
        raise click.UsageError(f"{len(files)} files: give a TEST for each TRAIN")
    single = sorted({view for views in pooling for view in views.split(",")})
    with tempfile.TemporaryDirectory() as scratch:
        folder = cache or Path(scratch)
        rows = []
        for train, test in zip(files[::2], files[1::2], strict=True):
            sides = [
                [encoded(file, single, model, prefix, folder, n) for n, model in enumerate(models)]
                for file in (train, test)
            ]
            name = f"{train.parent.name}/{train.stem} → {test.parent.name}/{test.stem}"
            rows += [row(name, views.split(","), *sides, by_hand=by_hand) for views in pooling]
        header = COLUMNS + ["scikit-learn"] * by_hand
        print("\n| " + " | ".join(header) + " |\n|" + "---|" * len(header))
        for cells in rows:
            print("| " + " | ".join(cells) + " |")


def encoded(
    tweets: Path, views: Sequence[str], model: str, prefix: str | None, folder: Path, number: int
) -> Path:
    """Encode a file once; give the store."""
    store = folder / f"{tweets.parent.name}-{tweets.stem}-{number}.h5"
    options = {} if prefix is None else {"prefix": prefix}
    summary = extract(tweets, store, pooling=list(views), model=model, **options)
    seconds = f"{summary.seconds['total']:.1f} s"
    print(f"{tweets.name}: {summary.rows:,} tweets, {summary.outcome}, {seconds}", flush=True)
    return store


def row(
    name: str, views: list[str], train: list[Path], test: list[Path], *, by_hand: bool
) -> list[str]:
    """Fit and measure views side by side; give their row of the table."""
    chosen = fit(train, pooling=views)
    C = chosen.head.metadata["C"]
    refit = fit(train, pooling=views, C=C)
    with open_joined(test) as stores:
        metrics, _ = evaluate(chosen.head, score_stores(chosen.head, stores))
    low, high = metrics.macro_recall_interval
    cells = [
        name,
        " + ".join(f"`{view}`" for view in views),
        str(chosen.head.coef.shape[1]),
        f"{C:g}",
        f"{chosen.metrics.macro_recall:.4f}",
        f"{metrics.macro_recall:.4f}",
        f"{low:.3f} to {high:.3f}",
        f"{metrics.accuracy:.4f}",
        f"{metrics.calibration_error:.3f}",
        f"{refit.seconds['solve']:.1f}",
        f"{chosen.seconds['select']:.0f}",
    ]
    return cells + ([f"{plain_recall(views, train, test, C):.4f}"] if by_hand else [])


def plain_recall(views: list[str], train: list[Path], test: list[Path], C: float) -> float:
    """Macro recall of plain scikit-learn on the same vectors."""
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=C, class_weight="balanced", max_iter=300)
    )
    sides, labels = [], []
    for files in (train, test):
        with open_joined(files) as stores:
            labels = labels or classes_of(stores)
            rows = labelled_rows(stores, stores.choose(views), labels)
            sides.append((np.concatenate(list(rows.X.pieces(0))), rows.y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(*sides[0])
    X, y = sides[1]
    return float(recall_score(y, model.predict(X), average="macro"))


if __name__ == "__main__":
    main()
