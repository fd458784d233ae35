"""Whether poolings that the grammar does not have would help a linear head.

    python benchmarks/poolings.py TRAIN.csv TEST.csv [--rows 10000] [--model all-MiniLM-L6-v2]

Every candidate comes from the same forward pass. Its head is fitted on TRAIN and measured on TEST
by macro recall, at the best C of a few; that choice favours all of them alike. The difference to
`mean@last4+sum` has the 95 % interval of a paired bootstrap of the rows of TEST. Tokens are
counted in TRAIN for the weights of `sif` (Arora et al., "A Simple but Tough-to-Beat Baseline for
Sentence Embeddings", 2017). One that helps is worth a place in `features/spec/pooling.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from features.backends.choice import Runtime
from features.encoder.batching import token_batches
from features.encoder.engine import Engine, load_engine
from features.spec.checkpoint import DEFAULT_MODEL, find_checkpoint
from features.spec.encoder_spec import make_spec
from features.spec.normalize import normalizer
from features.spec.pooling import parse_poolings
from features.tweets.reader import Tweet, TweetReader
from pipeline import MultinomialLogisticRegression
from pipeline.report.layout import table

Array = npt.NDArray[np.float32]
GRID = (1e-4, 3e-4, 1e-3, 3e-3)
RESAMPLES = 1000


@dataclass(frozen=True)
class Batch:
    """Hidden states of texts: layers (L + 1, B, T, H), tokens (B, T), and what is no padding."""

    layers: Array
    ids: npt.NDArray[np.int64]
    attended: npt.NDArray[np.bool_]


def weighted_mean(states: Array, weights: npt.NDArray[Any]) -> Array:
    """The mean over the tokens, (B, T, H) and weights (B, T) to (B, H)."""
    total = (states * weights[..., None]).sum(1)
    return np.asarray(total / np.maximum(weights.sum(1), 1e-12)[:, None], np.float32)


def mean(states: Array, batch: Batch) -> Array:
    return weighted_mean(states, batch.attended.astype(np.float32))


def std(states: Array, batch: Batch) -> Array:
    away = states - mean(states, batch)[:, None]
    return np.sqrt(mean(away * away, batch))


def unit(layers: Array) -> Array:
    """Layers with a root mean square of 1 at each token."""
    return layers / np.sqrt(np.maximum((layers**2).mean(-1, keepdims=True), 1e-24))


def sif(a: float, shares: npt.NDArray[np.float64]) -> Callable[[Batch], Array]:
    """The mean with the weight a / (a + share) for a token of that share."""

    def pool(batch: Batch) -> Array:
        weights = a / (a + shares[batch.ids]) * batch.attended
        return weighted_mean(batch.layers[-4:].sum(0), weights.astype(np.float32))

    return pool


def candidates(shares: npt.NDArray[np.float64]) -> dict[str, Callable[[Batch], Array]]:
    """The poolings by name; the others are compared with the first."""
    return {
        REFERENCE: lambda b: mean(b.layers[-4:].sum(0), b),
        "mean": lambda b: mean(b.layers[-1], b),
        "std@last4": lambda b: std(b.layers[-4:].sum(0), b),
        "first and last layer": lambda b: mean(b.layers[0] + b.layers[-1], b),
        "mean@last4, unit RMS": lambda b: mean(unit(b.layers[-4:]).sum(0), b),
        "mean@all, unit RMS": lambda b: mean(unit(b.layers).sum(0), b),
        "sif@last4, a = 1e-2": sif(1e-2, shares),
        "sif@last4, a = 1e-3": sif(1e-3, shares),
        "sif@last4, a = 1e-4": sif(1e-4, shares),
    }


# What the others are compared with, the narrow one of the good views.
REFERENCE = "mean@last4+sum"
# What is tried beside the first one, in twice its columns; the first one, which the grammar has,
# shows what columns alone are worth.
BESIDE = ("mean", "std@last4", "sif@last4, a = 1e-3")


def batches(engine: Engine, texts: Sequence[npt.NDArray[np.int32]]) -> Iterator[tuple[Any, Batch]]:
    """Run texts, and give their hidden states with the numbers of the texts."""
    backend, n_layers = engine.backends[0], engine.views.n_layers
    lengths = [len(ids) for ids in texts]
    tokens = engine.choice.max_batch_tokens
    for rows in token_batches(lengths, tokens, one_length=backend.one_length):
        for block in backend.forward([texts[row] for row in rows]):
            here = rows[block.texts]
            layers = np.stack([np.asarray(block.layers[n]) for n in range(n_layers + 1)])
            attended = np.arange(layers.shape[2]) < np.array([lengths[n] for n in here])[:, None]
            ids = np.zeros(attended.shape, np.int64)
            ids[attended] = np.concatenate([texts[n] for n in here])
            yield here, Batch(layers, ids, attended)


def read(path: Path, rows: int) -> tuple[list[str], list[str]]:
    """Texts and labels of the first rows of a file that have one."""
    tweets = [t for t in TweetReader([path]) if isinstance(t, Tweet) and t.label is not None]
    return [t.text for t in tweets[:rows]], [str(t.label) for t in tweets[:rows]]


def macro_recall(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    return float(np.mean([np.mean(predicted[truth == name] == name) for name in np.unique(truth)]))


def best_labels(X: Array, y: npt.NDArray[Any], Z: Array, z: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Predictions for Z of the head that does best there."""
    heads = [MultinomialLogisticRegression(C=C, class_weight="balanced", tol=1e-4) for C in GRID]
    found = [head.fit(X, y).predict(Z) for head in heads]
    return max(found, key=lambda labels: macro_recall(labels, z))


def measured(
    views: Mapping[str, tuple[Array, Array]], y: npt.NDArray[Any], z: npt.NDArray[Any]
) -> Iterator[list[str]]:
    """A row of the table for each view: its recall, and its difference to the first one."""
    draw = np.random.default_rng(0)
    samples = [draw.integers(0, len(z), len(z)) for _ in range(RESAMPLES)]
    base: npt.NDArray[Any] | None = None
    for name, (X, Z) in views.items():
        labels = best_labels(X, y, Z, z)
        base = labels if base is None else base
        gains = [macro_recall(labels[s], z[s]) - macro_recall(base[s], z[s]) for s in samples]
        low, high = np.percentile(gains, [2.5, 97.5])
        recall = macro_recall(labels, z)
        gain = recall - macro_recall(base, z)
        yield [name, str(X.shape[1]), f"{recall:.4f}", f"{gain:+.4f} [{low:+.4f}, {high:+.4f}]"]


@click.command()
@click.argument("train", type=click.Path(path_type=Path, exists=True))
@click.argument("test", type=click.Path(path_type=Path, exists=True))
@click.option("--rows", type=int, default=10_000, show_default=True, help="Of each file at most.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True)
def main(train: Path, test: Path, rows: int, model: str) -> None:
    """Measure poolings that the grammar does not have."""
    spec = make_spec(find_checkpoint(model))
    runtime = Runtime(dtype="float32", device="cpu", backend="torch")
    engine = load_engine(
        lambda: find_checkpoint(model), spec, parse_poolings("mean@all+concat"), runtime
    )
    normalise = normalizer(spec.normalizer)
    (texts, y), (others, z) = read(train, rows), read(test, rows)
    tokens = [
        engine.tokenizer.tokenize([normalise(t) for t in part]).ids for part in (texts, others)
    ]
    counts = np.bincount(np.concatenate(tokens[0]), minlength=engine.tokenizer.vocabulary.n_tokens)
    poolings = candidates(counts / counts.sum())
    width = engine.views.widths["mean@all+concat"] // (engine.views.n_layers + 1)
    pooled = [
        {name: np.empty((len(part), width), np.float32) for name in poolings} for part in tokens
    ]
    for part, found in zip(tokens, pooled, strict=True):
        for here, batch in batches(engine, part):
            for name, pool in poolings.items():
                found[name][here] = pool(batch)
    views = {name: (pooled[0][name], pooled[1][name]) for name in poolings}
    for name in BESIDE:
        both = [np.hstack([part[REFERENCE], part[name]]) for part in pooled]
        views[f"{REFERENCE} beside {name}"] = both[0], both[1]
    print(f"{model}, {len(y):,} rows of {train.name} to {len(z):,} of {test.name}")
    head = ["pooling", "columns", "macro recall", f"to {REFERENCE}"]
    print(table([head, *measured(views, np.array(y), np.array(z))]))


if __name__ == "__main__":
    main()
