"""Whether a head that is not linear would do better on the same vectors.

    python benchmarks/heads.py TRAIN.h5 TEST.h5 [--pooling VIEW] [--rows 10000]

Each head is fitted on rows of TRAIN and measured on TEST by macro recall. The settings of each are
chosen on a fifth of the rows of TRAIN, then all of them are fitted on. The linear head is that of
`frostline fit`; the others are scikit-learn's, on standardised columns. Classes count alike for
all: by weights where a head takes them, else by dividing its probabilities by the shares of the
classes. The difference to the linear head has the 95 % interval of a paired bootstrap of the rows
of TEST. On many rows the kernel takes long: `--skip` leaves a head out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from features import FeatureStore
from pipeline import MultinomialLogisticRegression
from pipeline.report.layout import table

Array = npt.NDArray[np.float32]
RESAMPLES = 1000


def linear(C: float) -> MultinomialLogisticRegression:
    return MultinomialLogisticRegression(C=C, class_weight="balanced")


def hidden_layer(alpha: float) -> MLPClassifier:
    return MLPClassifier((256,), alpha=alpha, early_stopping=True, random_state=0)


def kernel(C: float) -> SVC:
    return SVC(C=C, class_weight="balanced", cache_size=1000)


def neighbours(number: float) -> KNeighborsClassifier:
    return KNeighborsClassifier(int(number), metric="cosine", weights="distance")


# The heads by name, how each is made, and what is tried for it; the others are compared to the
# first.
HEADS: dict[str, tuple[Callable[[float], Any], Sequence[float]]] = {
    "linear": (linear, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    "one hidden layer of 256": (hidden_layer, (1e-2, 1.0, 10.0, 30.0)),
    "SVM with an RBF kernel": (kernel, (0.1, 0.3, 1.0, 3.0)),
    "nearest neighbours": (neighbours, (10, 30, 100)),
}


def labels_by(head: Any, X: Array, y: npt.NDArray[Any], Z: Array) -> npt.NDArray[Any]:
    """Fit a head, and label Z as if the classes were equally frequent."""
    head.fit(X, y)
    if isinstance(head, (MLPClassifier, KNeighborsClassifier)):
        shares = np.array([np.mean(y == name) for name in head.classes_])
        return np.asarray(head.classes_[(head.predict_proba(Z) / shares).argmax(1)])
    return np.asarray(head.predict(Z))


def macro_recall(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    return float(np.mean([np.mean(predicted[truth == name] == name) for name in np.unique(truth)]))


def read(path: Path, view: str | None, rows: int | None) -> tuple[str, Array, npt.NDArray[Any]]:
    """A view of labelled rows, drawn at random where there are more than wanted."""
    with FeatureStore(path) as store:
        name = view or next(iter(store.views))
        X, y = store.read(name), store.labels()
    known = np.flatnonzero(y >= 0)
    if rows is not None and rows < len(known):
        known = np.sort(np.random.default_rng(0).choice(known, rows, replace=False))
    return name, np.asarray(X[known], np.float32), np.asarray(y[known])


def measured(
    train: tuple[Array, npt.NDArray[Any]], test: tuple[Array, npt.NDArray[Any]], skip: set[str]
) -> Iterator[list[str]]:
    """A row of the table for each head."""
    (X, y), (Z, z) = train, test
    a, b, ya, yb = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
    draw = np.random.default_rng(0)
    samples = [draw.integers(0, len(z), len(z)) for _ in range(RESAMPLES)]
    base: npt.NDArray[Any] | None = None
    for name, (make, grid) in HEADS.items():
        if name in skip:
            continue
        best = max(grid, key=lambda at: macro_recall(labels_by(make(at), a, ya, b), yb))
        head = make(best)
        found = labels_by(head, X, y, Z)
        known = macro_recall(np.asarray(head.predict(X)), y)
        base = found if base is None else base
        gains = [macro_recall(found[s], z[s]) - macro_recall(base[s], z[s]) for s in samples]
        low, high = np.percentile(gains, [2.5, 97.5])
        gain = macro_recall(found, z) - macro_recall(base, z)
        recall = f"{macro_recall(found, z):.4f}"
        yield [name, f"{best:g}", f"{known:.3f}", recall, f"{gain:+.4f} [{low:+.4f}, {high:+.4f}]"]


@click.command()
@click.argument("train", type=click.Path(path_type=Path, exists=True))
@click.argument("test", type=click.Path(path_type=Path, exists=True))
@click.option("--pooling", help="The view; the first one, if none is named.")
@click.option("--rows", type=int, help="Of TRAIN at most, drawn at random.")
@click.option("--skip", multiple=True, type=click.Choice(list(HEADS)))
def main(
    train: Path, test: Path, pooling: str | None, rows: int | None, skip: Sequence[str]
) -> None:
    """Measure heads that are not linear beside the linear one."""
    view, X, y = read(train, pooling, rows)
    _, Z, z = read(test, pooling, None)
    scale = StandardScaler().fit(X)
    print(f"{view}, {len(y):,} rows of {train.name} to {len(z):,} of {test.name}")
    header = ["head", "setting", "on its own rows", "macro recall", "to linear"]
    rows_of_table = measured((scale.transform(X), y), (scale.transform(Z), z), set(skip))
    print(table([header, *rows_of_table]))


if __name__ == "__main__":
    main()
