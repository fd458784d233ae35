"""A new head against an earlier one: by hand, without a change, with labels put right or wrong."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, recall_score
from sklearn.preprocessing import StandardScaler
from stores import LABELS, OTHER_SPEC, blobs, digests_of, write_store

from features.errors import FileRefused, InputError
from pipeline.cli.commands import main
from pipeline.evaluation.folds import make_folds
from pipeline.evaluation.metrics import METRICS
from pipeline.fit import fit
from pipeline.head.head import load_head, save_head

N = 240


def table(path, labels, rows=None):
    """Corrections that give rows the labels of these codes."""
    rows = range(len(labels)) if rows is None else rows
    lines = [f"row-{n},{n},{LABELS[labels[n]]}" for n in rows]
    path.write_text("\n".join(["id,row,label", *lines]), encoding="utf-8")
    return path


def disturbed(y, share, seed):
    """Other labels for a share of the rows, and which rows those are."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(y), round(share * len(y)), replace=False)
    other = y.copy()
    other[rows] = (y[rows] + rng.integers(1, 3, len(rows))) % 3
    return other, rows


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Rows with their true labels, and a head of these."""
    folder = tmp_path_factory.mktemp("clean")
    X, y = blobs(N, 8, 3)
    store = write_store(folder / "train.h5", X, y)
    save_head(fit(store).head, folder / "head.joblib")
    return folder, X, y


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Rows of which three in ten have a wrong label, a head of these, and the truth."""
    folder = tmp_path_factory.mktemp("noisy")
    X, y = blobs(600, 8, 3, spread=1.5)
    given, rows = disturbed(y, 0.3, seed=1)
    store = write_store(folder / "train.h5", X, given)
    save_head(fit(store).head, folder / "head.joblib")
    return folder, X, y, rows


def by_name(changes):
    return {one.name: one for one in changes.metrics}


def out_of_fold(X, y, folds, C):
    """Probabilities of scikit-learn's models of four folds for the fifth; rows of -1 teach none."""
    proba = np.empty((len(y), 3))
    for fold in range(5):
        fitted = (folds != fold) & (y >= 0)
        scaler = StandardScaler().fit(X[fitted].astype(np.float64))
        model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=500)
        model.fit(scaler.transform(X[fitted].astype(np.float64)), y[fitted])
        proba[folds == fold] = model.predict_proba(scaler.transform(X[folds == fold]))
    return proba


def test_both_figures_by_hand(clean, tmp_path):
    """The models of before learn from the labels of before, and are judged by those of now."""
    _, X, y = clean
    given, wrong = disturbed(y, 0.2, seed=3)
    given[-20:] = -1  # rows that get a label later
    store = write_store(tmp_path / "s.h5", X, given)
    options = {"class_weight": "none", "calibrate": "none", "cv": 5}
    save_head(fit(store, C=0.01, **options).head, tmp_path / "old.joblib")
    file = table(tmp_path / "c.csv", y)
    found = fit(store, C=0.1, corrections=file, against=tmp_path / "old.joblib", **options).changes
    texts = digests_of(f"text {n}" for n in range(N))
    folds = make_folds(y, texts, LABELS, n_folds=5, seed=0)
    old, new = out_of_fold(X, given, folds, 0.01), out_of_fold(X, y, folds, 0.1)
    # Both are for the prior of the new fit.
    of_rows = np.bincount(given[given >= 0]) / 220
    old = old / of_rows * (np.bincount(y) / N)
    old /= old.sum(axis=1, keepdims=True)
    one = by_name(found)["log-loss"]
    assert one.before == pytest.approx(log_loss(y, old), abs=2e-3)
    assert one.after == pytest.approx(log_loss(y, new), abs=2e-3)
    one = by_name(found)["macro-recall"]
    assert one.before == pytest.approx(recall_score(y, old.argmax(1), average="macro"), abs=0.01)
    assert one.after == pytest.approx(recall_score(y, new.argmax(1), average="macro"), abs=0.01)
    same = (given == y) | (given < 0)
    one = by_name(found.undisputed)["log-loss"]
    weight = (np.bincount(y) / N / np.bincount(y[same]) * same.sum())[y[same]]
    assert one.before == pytest.approx(log_loss(y[same], old[same], sample_weight=weight), abs=2e-3)
    assert one.after == pytest.approx(log_loss(y[same], new[same], sample_weight=weight), abs=2e-3)
    assert found.undisputed.rows == same.sum()
    assert found.flipped == pytest.approx((old.argmax(1) != new.argmax(1)).sum(), abs=3)
    changed = set(wrong.tolist()) | set(range(N - 20, N))
    assert found.corrections == sum(given[row] != y[row] for row in changed)
    assert found.rows == N
    assert [one.name for one in found.metrics] == list(METRICS)
    for one in found.metrics:
        assert one.difference == one.after - one.before
        assert one.low < one.difference < one.high


@pytest.mark.parametrize("options", [{}, {"C": 0.01}, {"C": 0.01, "cv": 3}])
def test_nothing_changes_without_corrections(options, clean, tmp_path):
    folder, _, y = clean
    store, old = folder / "train.h5", tmp_path / "old.joblib"
    save_head(fit(store, **options).head, old)
    for corrections in (None, table(tmp_path / "same.csv", y)):
        found = fit(store, corrections=corrections, against=old, **options).changes
        assert (found.flipped, found.corrections, found.remarks) == (0, 0, ())
        assert found.undisputed is None
        assert found.rows == (48 if options == {"C": 0.01} else N)
        for one in found.metrics:
            assert (one.difference, one.low, one.high) == (0, 0, 0)


def test_labels_put_right_are_a_gain_that_the_rows_can_tell(noisy, tmp_path):
    folder, _, y, wrong = noisy
    file = table(tmp_path / "c.csv", y, wrong)
    result = fit(folder / "train.h5", corrections=file, against=folder / "head.joblib")
    found = result.changes
    assert found.corrections == result.corrections.rows == len(wrong)
    assert by_name(found)["macro-recall"].low > 0
    assert by_name(found)["log-loss"].high < 0
    assert found.flipped > 0
    assert found.undisputed.rows == 600 - len(wrong)
    assert by_name(found.undisputed)["macro-recall"].low > 0
    assert result.head.metadata["changes"] == json.loads(json.dumps(found.to_dict()))


@pytest.mark.parametrize("seed", range(3))
def test_random_corrections_are_no_gain(seed, clean, tmp_path):
    folder, _, y = clean
    other, rows = disturbed(y, 0.2, seed)
    file = table(tmp_path / "c.csv", other, rows)
    result = fit(folder / "train.h5", corrections=file, against=folder / "head.joblib")
    assert by_name(result.changes)["macro-recall"].low <= 0
    # Whoever has learned that labels are wrong is less surprised by wrong ones. Not by others.
    assert by_name(result.changes)["log-loss"].high < 0
    undisputed = result.changes.undisputed
    assert undisputed.rows == N - len(rows)
    assert by_name(undisputed)["macro-recall"].low <= 0
    assert by_name(undisputed)["log-loss"].low > 0


def test_other_rows_judge_the_heads_themselves(noisy, tmp_path):
    folder, _, y, wrong = noisy
    store, old = folder / "train.h5", folder / "head.joblib"
    X, truth = blobs(300, 8, 3, seed=5, spread=1.5)
    held = write_store(tmp_path / "held.h5", X, truth)
    file = table(tmp_path / "c.csv", y, wrong)
    result = fit(store, corrections=file, validation=held, against=old)
    before, after = load_head(old).predict_proba(X), result.head.predict_proba(X)
    one = by_name(result.changes)["macro-recall"]
    assert one.before == recall_score(truth, before.argmax(1), average="macro")
    assert one.after == recall_score(truth, after.argmax(1), average="macro")
    assert result.changes.flipped == (before.argmax(1) != after.argmax(1)).sum()
    assert "by the heads themselves" in result.changes.measured_on
    again = fit(store, validation=held, against=old, prior="training")
    moved = load_head(old).with_prior(dict(zip(LABELS, again.head.prior, strict=True)))
    expected = recall_score(truth, moved.predict_proba(X).argmax(1), average="macro")
    assert by_name(again.changes)["macro-recall"].before == pytest.approx(expected)


def test_classes_in_another_order(clean, tmp_path):
    """A mapping may give the classes in an order of its own."""
    _, X, y = clean
    first = write_store(tmp_path / "1.h5", X, y)
    turned = write_store(tmp_path / "2.h5", X, 2 - y, labels=LABELS[::-1])
    save_head(fit(turned, C=0.01, cv=5).head, tmp_path / "old.joblib")
    held = write_store(tmp_path / "held.h5", *blobs(90, 8, 3, seed=1))
    for more in ({}, {"validation": held}):
        found = fit(first, C=0.01, cv=5, against=tmp_path / "old.joblib", **more).changes
        assert found.flipped <= 1
        assert abs(by_name(found)["log-loss"].difference) < 0.005


def test_the_earlier_head_has_the_corrections_that_it_says(noisy, tmp_path):
    folder, _, y, wrong = noisy
    store = folder / "train.h5"
    first = table(tmp_path / "1.csv", y, wrong[:90])
    second = table(tmp_path / "2.csv", y, wrong[90:])
    save_head(fit(store, C=0.01, cv=5, corrections=first).head, tmp_path / "2.joblib")
    found = fit(store, C=0.01, cv=5, corrections=[first, second], against=tmp_path / "2.joblib")
    assert found.changes.corrections == len(wrong) - 90
    assert found.corrections.rows == len(wrong)
    assert found.changes.remarks == ()
    # The labels of before are those of a store that has the first ones.
    given, _ = disturbed(y, 0.3, seed=1)
    given[wrong[:90]] = y[wrong[:90]]
    half = write_store(tmp_path / "half.h5", noisy[1], given)
    save_head(fit(half, C=0.01, cv=5).head, tmp_path / "half.joblib")
    exact = fit(half, C=0.01, cv=5, corrections=second, against=tmp_path / "half.joblib")
    assert found.changes.metrics == exact.changes.metrics
    # Those that are not given again can't be known, which is said.
    said = fit(store, C=0.01, corrections=second, against=tmp_path / "2.joblib").changes.remarks
    assert "corrections that are not given" in said[0]


def test_a_head_of_other_rows_is_said_to_be_one(clean, tmp_path):
    folder, _, _ = clean
    ids = [f"more-{n}" for n in range(60)]
    more = write_store(tmp_path / "more.h5", *blobs(60, 8, 3, seed=2), ids=ids)
    found = fit([folder / "train.h5", more], C=0.01, against=folder / "head.joblib").changes
    assert "was fitted on other rows or labels (240 rows, and 300 here)" in found.remarks[0]


def test_views_and_scales_are_those_of_each_head(tmp_path):
    X, y = blobs(N, 8, 3)
    views = {"cls": X[:, :4], "mean": X[:, 4:]}
    store = write_store(tmp_path / "views.h5", views, y)
    one = write_store(tmp_path / "one.h5", {"cls": views["cls"]}, y)
    options = {"class_weight": "none", "calibrate": "none", "cv": 5}
    save_head(fit(store, pooling="cls", C=0.1, **options).head, tmp_path / "cls.joblib")
    found = by_name(
        fit(store, pooling="mean", C=0.1, against=tmp_path / "cls.joblib", **options).changes
    )
    exact = fit(one, C=0.1, **options).metrics
    assert found["macro-recall"].before == pytest.approx(exact.macro_recall, abs=0.01)
    assert found["log-loss"].before == pytest.approx(exact.log_loss, abs=2e-3)
    head = fit(store, pooling=["cls", "mean"], C=0.1, **options).head
    scaled = dataclasses.replace(head, metadata={**head.metadata, "view_scales": [1.0, 0.0625]})
    save_head(scaled, tmp_path / "scaled.joblib")
    found = fit(
        store, pooling=["cls", "mean"], C=0.1, against=tmp_path / "scaled.joblib", **options
    ).changes
    assert abs(by_name(found)["log-loss"].difference) > 0.01


def test_what_can_not_be_compared(clean, tmp_path):
    folder, X, y = clean
    store, old = folder / "train.h5", tmp_path / "old.joblib"
    two = write_store(tmp_path / "two.h5", X, y % 2, labels=["negative", "other"])
    with pytest.raises(InputError, match='has classes "negative", "neutral", "positive", and'):
        fit(two, against=folder / "head.joblib")
    other = write_store(tmp_path / "other.h5", X, y, spec=OTHER_SPEC)
    with pytest.raises(FileRefused, match="of encoder"):
        fit(other, against=folder / "head.joblib")
    with pytest.raises(InputError, match="no such file"):
        fit(store, against=tmp_path / "gone.joblib")
    bare = write_store(tmp_path / "bare.h5", X, [-1] * N, labels=[])
    with pytest.raises(InputError, match="no row has label 'negative'"):
        fit(bare, corrections=table(tmp_path / "c.csv", y), against=folder / "head.joblib")
    head = load_head(folder / "head.joblib")
    for name, value in (("C", -1.0), ("class_weight", "odd"), ("calibration", {"method": "?"})):
        save_head(dataclasses.replace(head, metadata={**head.metadata, name: value}), old)
        with pytest.raises(InputError, match="fit it again"):
            fit(store, against=old)


def test_a_head_without_a_prior_is_refused_before_the_work(clean, tmp_path):
    folder, _, _ = clean
    head = load_head(folder / "head.joblib")
    rest = {name: value for name, value in head.metadata.items() if name != "prior"}
    save_head(dataclasses.replace(head, metadata=rest), tmp_path / "old.joblib")
    held = write_store(tmp_path / "held.h5", *blobs(90, 8, 3, seed=1))
    with pytest.raises(InputError, match="does not say which prior"):
        fit(folder / "train.h5", validation=held, against=tmp_path / "old.joblib")


@pytest.mark.parametrize("record", [None, [], {"files": 3}, {"files": [3, {"sha256": []}]}])
def test_odd_records_of_corrections_are_none(record, clean, tmp_path):
    folder, _, _ = clean
    head = load_head(folder / "head.joblib")
    odd = dataclasses.replace(head, metadata={**head.metadata, "corrections": record})
    save_head(odd, tmp_path / "odd.joblib")
    assert fit(folder / "train.h5", C=0.01, against=tmp_path / "odd.joblib").changes.remarks == ()


def test_the_command_shows_and_writes_what_changed(noisy, tmp_path):
    folder, _, y, wrong = noisy
    store, old = folder / "train.h5", folder / "head.joblib"
    file, new = table(tmp_path / "c.csv", y, wrong), tmp_path / "new.joblib"
    arguments = ["fit", store, "--corrections", file, "--against", old, "-o", new]
    result = CliRunner().invoke(main, [*map(str, arguments), "--json", str(tmp_path / "m.json")])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "m.json").read_text())["changes"]
    assert written["against"] == str(old)
    shown = result.output[result.output.index("Against") :]
    assert f"had other labels for {len(wrong)} rows" in " ".join(shown.split())
    lines = [line.split() for line in shown.splitlines()]
    for metric, one in zip(METRICS.values(), written["metrics"], strict=True):
        name = metric.label.split()
        cells = next(line for line in lines if line[: len(name)] == name)[len(name) :]
        assert cells[:3] == [
            f"{one['before']:.4f}",
            f"{one['after']:.4f}",
            f"{one['difference']:+.4f}",
        ]
    assert f"{written['flipped']} of the 600 rows" in shown
    assert max(map(len, shown.splitlines())) <= 80 or str(new) in shown.splitlines()[-1]
    assert load_head(new).metadata["changes"] == written
    result = CliRunner().invoke(main, [*map(str, [*arguments[:-1], old])])
    assert (result.exit_code, "is an input too" in result.output) == (2, True)
