"""Small synthetic feature files and heads: no model, no tweets."""

import dataclasses
import hashlib

import numpy as np

from features.spec.encoder_spec import EncoderSpec
from features.spec.vector_spec import VectorSpec
from features.store.format import Shard
from features.store.writer import write_shard
from pipeline.head.head import Head

SPEC = EncoderSpec("no-such-model", None, "a" * 64, "b" * 64, "c" * 64, 128, "tweeteval/1")
OTHER_SPEC = dataclasses.replace(SPEC, model="another-model", weights="d" * 64)
LABELS = ("negative", "neutral", "positive")


def digests_of(texts):
    """As `extract` digests texts: (N, 16)."""
    rows = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 16)


def blobs(n_rows=150, width=8, n_classes=3, *, seed=0, spread=1.0):
    """Overlapping clouds, one a class, of unequal sizes: X (N, D) of float16 values, y (N,)."""
    rng = np.random.default_rng(seed)
    share = np.arange(1, n_classes + 1) / sum(range(1, n_classes + 1))
    y = rng.choice(n_classes, n_rows, p=share)
    y[: 10 * n_classes] = np.tile(np.arange(n_classes), 10)  # each class in each of 5 folds
    # The clouds don't depend on the seed, so that stores of different seeds are of one problem.
    centres = np.random.default_rng(99).normal(size=(n_classes, width)) * spread
    scales = np.geomspace(0.05, 20, width)
    X = (centres[y] + rng.normal(size=(n_rows, width))) * scales + 3 * scales
    return X.astype(np.float16).astype(np.float32), y


def blobs_with_shares(n_rows, shares, seed):
    """Rows of the problem of `blobs`, whose classes overlap and have these shares."""
    n_classes = len(shares)
    X, y = blobs(20 * n_rows, 8, n_classes, seed=seed, spread=0.8)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(n_classes, n_rows, p=shares)
    rows = [int(rng.choice(np.flatnonzero(y == k))) for k in chosen]
    return X[rows], y[rows]


def write_store(
    path,
    X,
    y,
    labels=LABELS,
    *,
    texts=None,
    ids=None,
    flags=None,
    spec=SPEC,
    store_dtype="float32",
    precision="float32",
):
    """Write a feature file; X is (N, D), for a view `cls`, or a dict of several views."""
    views = X if isinstance(X, dict) else {"cls": X}
    n_rows = len(y)
    ids = ids or [f"row-{i}" for i in range(n_rows)]
    columns = {
        "id": np.array([identity.encode() for identity in ids]),
        "label": np.asarray(y, np.int32),
        "digest": digests_of(texts or [f"text {i}" for i in range(n_rows)]),
        "n_tokens": np.full(n_rows, 5, np.int32),
        "flags": np.zeros(n_rows, np.uint8) if flags is None else np.asarray(flags, np.uint8),
        **views,
    }
    widths = {view: matrix.shape[1] for view, matrix in views.items()}
    shard = Shard(
        VectorSpec(spec, widths, precision, store_dtype),
        list(labels),
        {"inputs": ["made up"], "input_digest": "f" * 64},
    )
    write_shard(
        path,
        shard,
        n_rows=n_rows,
        id_bytes=columns["id"].itemsize,
        rows_of=lambda name, rows: columns[name][rows],
    )
    return path


def make_head(n_classes=3, *, widths=(8,), spec=SPEC, labels=None, seed=0):
    """Give a head with random weights."""
    rng = np.random.default_rng(seed)
    views = ["cls", "mean", "max"][: len(widths)]
    coef = rng.normal(size=(n_classes, sum(widths)))
    intercept = rng.normal(size=n_classes)
    return Head(
        tuple(labels or [f"class {k}" for k in range(n_classes)]),
        # The two rows of a binary head are each other's negative, as scikit-learn keeps one.
        coef if n_classes > 2 else np.vstack([-coef[0], coef[0]]),
        intercept if n_classes > 2 else np.array([-intercept[0], intercept[0]]),
        tuple(
            VectorSpec(spec, {view: width}, "float32", "float16")
            for view, width in zip(views, widths, strict=True)
        ),
        {"C": 0.01, "iterations": 7, "rows": 100, "class_weight": "none"},
    )
