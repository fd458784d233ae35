"""`--prior estimate`, of whole inputs and of streams, on cached vectors of a made-up problem."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from stores import LABELS, blobs, blobs_with_shares, make_head, write_store

from features.errors import InputError
from pipeline.cli.commands import main
from pipeline.data.join import open_joined
from pipeline.evaluation.label_shift import estimated_shares
from pipeline.fit import fit
from pipeline.head.head import load_head, save_head
from pipeline.scoring.estimated_prior import (
    LEAST_ROWS,
    for_last_shares,
    for_their_shares,
    known_of,
)
from pipeline.scoring.evaluate import Scores
from pipeline.scoring.predict import score_stores

TRUE = np.array([0.7, 0.1, 0.2])


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shares")
    write_store(folder / "train.h5", *blobs(1500, 8, 3, spread=0.8))
    save_head(fit(folder / "train.h5", C=0.1, cv=5).head, folder / "head.joblib")
    write_store(folder / "new.h5", *blobs_with_shares(1200, TRUE, 5))
    return folder


@pytest.fixture(scope="module")
def head(folder):
    return load_head(folder / "head.joblib")


@pytest.fixture
def scores(folder, head):
    with open_joined(folder / "new.h5") as stores:
        return list(score_stores(head, stores))


def test_scores_are_moved_to_the_shares_of_all(head, scores):
    told = []
    moved = list(for_their_shares(head, scores, tell=told.append))
    (shift,) = told
    low, high = np.transpose(shift.intervals)
    assert (low <= TRUE).all() and (high >= TRUE).all()
    assert shift.is_significant and not shift.is_weak and shift.calibration_known
    proba = np.concatenate([block.proba for block in moved])
    before = np.concatenate([block.proba for block in scores])
    expected = before * (np.array(shift.shares) / head.prior)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(proba, expected, atol=1e-9)
    # The mean of probabilities for these rows is their share.
    np.testing.assert_allclose(proba.mean(axis=0), shift.shares, atol=1e-5)


def cut(scores, size):
    """The same scores in blocks of so many rows."""
    (whole,) = scores
    for start in range(0, len(whole.ids), size):
        rows = slice(start, start + size)
        yield Scores(
            whole.ids[rows], None, whole.labels[rows], whole.proba[rows], whole.flags[rows]
        )


def test_a_stream_is_answered_as_it_comes(head, scores):
    """Each block under the shares of the last rows, and nothing is held back."""
    told, taken = [], []

    def coming():
        for block in cut(scores, 50):
            taken.append(block)
            yield block

    moved = []
    for block in for_last_shares(head, coming(), tell=told.append, window_rows=300):
        assert len(taken) == len(moved) + 1
        moved.append(block)
    (whole,) = scores
    for n, block in enumerate(moved):
        stop = 50 * (n + 1)
        if stop < LEAST_ROWS:
            np.testing.assert_array_equal(block.proba, whole.proba[stop - 50 : stop])
            continue
        last = whole.proba[max(0, stop - 300) : stop]
        expected = whole.proba[stop - 50 : stop] * (estimated_shares(last, head.prior) / head.prior)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(block.proba, expected, atol=1e-6)
    assert [shift.rows for shift in told] == [300]


def test_texts_are_held_where_they_are_written(head, scores):
    (whole,) = scores
    with_text = Scores(whole.ids, whole.ids, whole.labels, whole.proba, whole.flags)
    for asked in (False, True):
        (block,) = for_their_shares(head, [with_text], tell=lambda _: None, with_text=asked)
        assert (block.texts is not None) == asked


def test_no_rows(head):
    assert list(for_their_shares(head, [], tell=pytest.fail)) == []
    assert list(for_last_shares(head, [], tell=pytest.fail)) == []


def test_a_head_that_does_not_say_its_prior():
    with pytest.raises(InputError, match="no shares can be estimated with it; fit it again"):
        known_of(make_head())


def test_predict_says_what_it_estimated(folder, head, scores, tmp_path):
    out, said = tmp_path / "out.csv", tmp_path / "said.json"
    options = ["--prior", "estimate", "-o", out, "--json", said]
    text = done("predict", folder / "head.joblib", folder / "new.h5", *options).stdout
    assert "Shares of the classes, estimated from the probabilities of 1,200 rows" in text
    assert "They differ from those of the training rows (likelihood ratio" in text
    content = json.loads(said.read_text())
    shift = content["label_shift"]
    assert content["prior"] == shift["shares"]
    assert shift["is_significant"] is True
    assert f"{shift['shares'][0]:.3f}" in text
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    (block,) = for_their_shares(head, scores, tell=lambda _: None)
    printed = [[float(row[f"p_{name}"]) for name in LABELS] for row in rows]
    np.testing.assert_allclose(printed, block.proba, atol=1e-6)
    assert sum(content["rows"].values()) == 1200


def test_predict_to_standard_output_moves_too(folder, tmp_path):
    result = done("predict", folder / "head.joblib", folder / "new.h5", "--prior", "estimate")
    assert len(result.stdout.splitlines()) == 1200
    assert "Shares of the classes" in result.stderr
    assert "Shares of the classes" not in result.stdout
    few = write_store(tmp_path / "few.h5", *blobs_with_shares(50, TRUE, 6))
    result = done("predict", folder / "head.joblib", few, "--prior", "estimate")
    assert "fewer than 200 rows: the shares were not estimated" in result.stderr


def test_evaluate_counts_rows_as_they_are(folder, tmp_path):
    """Calibrated where the head's own prior is not theirs, and the truth stands beside it."""
    found = {}
    for prior in ("training", "estimate"):
        figures = tmp_path / f"{prior}.json"
        options = ["--prior", prior, "--json", figures]
        text = done("evaluate", folder / "head.joblib", folder / "new.h5", *options).stdout
        found[prior] = json.loads(figures.read_text())
    assert "labelled" in text
    assert "label_shift" not in found["training"]
    shares = found["estimate"]["prior"]
    np.testing.assert_allclose(shares, TRUE, atol=0.05)
    assert found["estimate"]["metrics"]["calibration_error"] < 0.05
    assert found["estimate"]["metrics"]["accuracy"] > found["training"]["metrics"]["accuracy"]


def test_fit_has_nothing_to_estimate_from(folder, tmp_path):
    result = run("fit", folder / "train.h5", "-o", tmp_path / "h.joblib", "--prior", "estimate")
    assert result.exit_code == 2
    assert "prior 'estimate'" in result.stderr
