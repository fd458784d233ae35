"""Tweets scored by the workers of an engine: rows, order and rejects as by this process alone."""

import csv

import numpy as np
import pytest
from engine_works import Inline

from features import FrozenEncoder, extract
from features.backends.choice import Runtime
from features.engines.local import LocalEngine
from features.tweets.reader import TweetReader
from pipeline.fit import fit
from pipeline.scoring.fleet import FleetScorer, ScoreWindows
from pipeline.scoring.predict import score_tweets

WORDS = ["so", "happy", "that", "old", "train", "is", "late", "again", "sad", "slow"]


@pytest.fixture(scope="module")
def model(tiny_model):
    return str(tiny_model("bert"))


@pytest.fixture(scope="module")
def tweets(tmp_path_factory):
    """150 rows; the seventh of each ten has no text that can be used."""
    path = tmp_path_factory.mktemp("in") / "tweets.csv"
    random = np.random.default_rng(3)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for n in range(150):
            identity = "x" * 300 if n % 10 == 7 else f"r{n}"
            label = ("good", "bad")[n % 2]
            writer.writerow([identity, " ".join(random.choice(WORDS, 1 + n % 7)), label])
    return path


@pytest.fixture(scope="module")
def head(model, tweets, tmp_path_factory):
    store = tmp_path_factory.mktemp("fit") / "train.h5"
    extract(tweets, store, model=model, pooling="mean", dtype="float32")
    return fit(store).head


def flat(blocks):
    """All rows of all blocks, and their probabilities."""
    blocks = list(blocks)
    rows = [
        row
        for one in blocks
        for row in zip(one.ids, one.texts, one.labels, one.flags, one.groups, strict=True)
    ]
    return rows, np.concatenate([one.proba for one in blocks])


@pytest.mark.parametrize(
    "engine", [pytest.param(Inline, id="inline"), pytest.param(LocalEngine, id="local")]
)
def test_workers_score_as_this_process_does(model, head, tweets, engine, monkeypatch, tmp_path):
    monkeypatch.setattr("pipeline.scoring.predict._WINDOW", 4)
    expected_rejects, rejects, choices = [], [], []
    encoder = FrozenEncoder(model, pooling="mean", dtype="float32", backend="torch")
    expected = score_tweets(
        head, TweetReader([tweets]), [encoder], on_rejects=expected_rejects.extend
    )
    work = ScoreWindows(head, (model,), Runtime(backend="torch"), tmp_path)
    scorer = FleetScorer(engine(2), work, print, choices.append)
    found = list(scorer(TweetReader([tweets]), rejects.extend))
    assert len(found) > 2 * 8 * 2  # the windows of two rounds
    rows, proba = flat(found)
    expected_rows, expected_proba = flat(expected)
    assert rows == expected_rows
    assert rejects == expected_rejects
    assert len(rejects) == 15
    assert np.abs(proba - expected_proba).max() <= 1e-5
    assert len(choices) == 1
