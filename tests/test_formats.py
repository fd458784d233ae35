"""Files of format version 1 are read for ever: stores, folders and heads of frostline 0.1.0.

`tests/data/v1` was made from the first 30 rows of `examples/tweets.csv` with the packaged model,
and the head that is a folder from 600 rows of `blobs` in `tests/stores.py`. `pieces` was made there
by `frostline extract tweets.csv -o pieces --shard-rows 12 --pooling mean --dtype float32
--backend torch --part 1/1`. A new version of a format gets a folder of its own beside it; nothing
in an old one is made again.
"""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from features import FeatureStore, extract, verify
from features.backends.choice import Candidate
from features.pieces.choice import Agreed
from pipeline import load_head

V1 = Path(__file__).parent / "data" / "v1"
N, WIDTH = 30, 384


def column(name):
    with (V1 / "tweets.csv").open(newline="", encoding="utf-8") as file:
        return [row[name] for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("name", "views"),
    [("store.h5", {"mean", "cls"}), ("shards", {"mean"}), ("pieces", {"mean"})],
)
def test_a_store_of_version_1(name, views):
    with FeatureStore(V1 / name) as store:
        assert (store.n_rows, set(store.views)) == (N, views)
        assert set(store.views.values()) == {WIDTH}
        assert store.ids() == column("id")
        labels = [store.label_names[code] for code in store.labels()]
        assert labels == column("label")
        assert store.spec.model == "all-MiniLM-L6-v2"
        assert np.isfinite(store.read("mean")).all()
    assert verify(V1 / name).whole


@pytest.mark.parametrize("name", ["shards", "pieces"])
def test_all_stores_of_version_1_hold_the_same_vectors(name):
    with FeatureStore(V1 / "store.h5") as one, FeatureStore(V1 / name) as shards:
        assert one.fingerprint == shards.fingerprint
        # Other batches, so sums were rounded in another order.
        np.testing.assert_allclose(one.read("mean"), shards.read("mean"), atol=1e-3)


def test_jobs_go_on_with_a_store_in_pieces_of_version_1(tmp_path):
    store = Path(shutil.copytree(V1 / "pieces", tmp_path / "store"))
    (store / "store.json").unlink()
    (store / "receipts" / "00001.json").unlink()  # as after a kill: the piece has its name
    options = {"pooling": "mean", "dtype": "float32", "backend": "torch", "shard_rows": 12}
    summary = extract(V1 / "tweets.csv", store, part="1/2", **options)
    assert (summary.made, summary.of_pieces, summary.missing) == (0, 3, ())
    summary = extract(V1 / "tweets.csv", store, part="1/1", **options)
    assert (summary.outcome, summary.rows, summary.pieces) == ("unchanged", N, 3)
    with FeatureStore(store) as again, FeatureStore(V1 / "pieces") as sample:
        np.testing.assert_array_equal(again.read("mean"), sample.read("mean"))


def test_a_choice_of_version_1():
    agreed = Agreed.from_json((V1 / "pieces" / "choice.json").read_bytes(), "choice.json")
    assert (agreed.device, agreed.choice.max_batch_tokens) == ("cpu", 2048)
    assert agreed.choice.candidate == Candidate("torch", "float32", "prepacked")


def test_a_head_of_version_1_scores_a_store_of_version_1():
    head = load_head(V1 / "head.joblib")
    with (V1 / "scores.csv").open(newline="", encoding="utf-8") as file:
        scores = list(csv.DictReader(file))
    with FeatureStore(V1 / "store.h5") as store:
        assert [one.spec.fingerprint for one in head.sources] == [store.fingerprint]
        proba = head.predict_proba(store.read("mean"))
    assert [head.labels[code] for code in proba.argmax(axis=1)] == [row["label"] for row in scores]
    expected = [[float(row[f"p_{name}"]) for name in head.labels] for row in scores]
    np.testing.assert_allclose(proba, expected, atol=1e-5)


def test_a_head_of_version_1_that_is_a_folder():
    head = load_head(V1 / "head")
    assert head.labels == ("negative", "neutral", "positive")
    X = np.linspace(-1, 1, 16).reshape(2, 8)
    expected = [
        [2.359065807694e-09, 7.706779569260e-10, 9.999999968703e-01],
        [3.182071381635e-01, 3.509256648183e-06, 6.817893525799e-01],
    ]
    np.testing.assert_allclose(head.predict_proba(X), expected, rtol=1e-9)
    np.testing.assert_allclose(head.novelty.of(X), [6.844565717, 1.719387639], rtol=1e-6)
    assert (len(head.texts.digests), head.texts.texts) == (600, 600)
    assert head.texts.digests[:2].tolist() == [2267341204921094, 17670952159479303]
    assert head.held_out.confusion.sum() == 600
    assert head.metadata["calibration"]["method"] == "temperature"
