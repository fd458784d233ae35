"""Which vector to take: every view through the same folds, on a train and a test file of tweets.

    python benchmarks/quality.py TRAIN.csv TEST.csv

Both files are encoded once, all views in one pass. For each view C is chosen by cross-validation on
TRAIN, the head is fitted on all of TRAIN and measured on TEST. The column `scikit-learn` is what
StandardScaler and LogisticRegression (lbfgs) give by hand on the same vectors at the same C.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import click
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features import FeatureStore, extract
from pipeline import fit
from pipeline.data.join import open_joined
from pipeline.scoring.evaluate import evaluate
from pipeline.scoring.predict import score_stores

VIEWS = ["cls", "cls@last4+sum", "mean", "mean@-2", "mean@last4+sum", "mean@last4+concat"]


@click.command()
@click.argument("train", type=click.Path(exists=True, path_type=Path))
@click.argument("test", type=click.Path(exists=True, path_type=Path))
@click.option("--pooling", multiple=True, default=VIEWS, help="Views to compare.")
@click.option("--model", default="all-MiniLM-L6-v2", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Keep the vectors in this folder.")
def main(train: Path, test: Path, pooling: Sequence[str], model: str, cache: Path | None) -> None:
    """Compare views on TEST after choosing C on TRAIN."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = cache or Path(scratch)
        stores = []
        for name, tweets in (("train", train), ("test", test)):
            store = folder / f"{name}.h5"
            summary = extract(tweets, store, pooling=list(pooling), model=model)
            print(
                f"{tweets.name}: {summary.rows:,} tweets, {summary.outcome}, "
                f"{summary.seconds['total']:.1f} s"
            )
            stores.append(store)
        print(
            "\n| view | D | C | macro recall | 95 % interval | accuracy | scikit-learn | refit, s "
            "| choice of C, s |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for view in pooling:
            print(row(view, *stores), flush=True)


def row(view: str, train: Path, test: Path) -> str:
    """Fit and measure one view; give its row of the table."""
    chosen = fit(train, pooling=view)
    refit = fit(train, pooling=view, C=chosen.head.metadata["C"])
    with open_joined(test) as stores:
        metrics, _ = evaluate(chosen.head, score_stores(chosen.head, stores))
        low, high = metrics.macro_recall_interval
    cells = [
        f"`{view}`",
        chosen.head.coef.shape[1],
        f"{chosen.head.metadata['C']:g}",
        f"{metrics.macro_recall:.4f}",
        f"{low:.3f} to {high:.3f}",
        f"{metrics.accuracy:.4f}",
        f"{by_hand(view, train, test, chosen.head.metadata['C']):.4f}",
        f"{refit.seconds['solve']:.1f}",
        f"{chosen.seconds['select']:.0f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def by_hand(view: str, train: Path, test: Path, C: float) -> float:
    """Macro recall of plain scikit-learn on the same vectors."""
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=C, class_weight="balanced", max_iter=300)
    )
    with FeatureStore(train) as a, FeatureStore(test) as b, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        labelled, labels = a.labels() >= 0, b.labels()
        model.fit(a.read(view, labelled), a.labels()[labelled])
        predicted = model.predict(b.read(view, labels >= 0))
        return float(recall_score(labels[labels >= 0], predicted, average="macro"))


if __name__ == "__main__":
    main()
