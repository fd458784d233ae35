"""Each check of a report fires on rows that were made to have its fault, and on no others."""

import dataclasses
import json

import numpy as np
import pytest
from stores import LABELS, blobs, write_store

from features.errors import FileRefused
from pipeline.data.join import open_joined
from pipeline.facts.gather import Source, gather
from pipeline.facts.markdown import markdown_of
from pipeline.fit import fit
from pipeline.head.head import Head

N = 600


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    store = write_store(tmp_path_factory.mktemp("checks") / "s.h5", *blobs(N, 8, 3, seed=1))
    return fit(store).head


def checks_of(head, path):
    with open_joined(path) as stores:
        facts, _ = gather(head, stores, Source("head.joblib", (str(path),), "frostline report"))
    return {one.id: one for one in facts.checks}


def fresh(tmp_path, rows=N, seed=2, change=lambda X, y: (X, y), **given):
    X, y = blobs(rows, 8, 3, seed=seed)
    X, y = change(X, y)
    given.setdefault("texts", [f"new {i}" for i in range(len(y))])
    return write_store(tmp_path / "new.h5", X, y, **given)


def test_nothing_is_wrong_with_rows_of_the_same_kind(head, tmp_path):
    found = checks_of(head, fresh(tmp_path))
    assert {one.status for one in found.values()} <= {"good", "skipped"}, found
    assert all(bool(one.cure) == (one.status in ("warning", "problem")) for one in found.values())
    assert set(found) == {
        "duplicates-with-training",
        "conflicting-labels",
        "c-at-edge",
        "no-better-than-prior",
        "label-shift",
        "truncation",
        "small-classes",
        "calibration",
        "out-of-depth",
        "few-rows",
    }


def fired(found, name, *statuses):
    assert found[name].status in (statuses or ("warning", "problem")), found[name]
    assert found[name].cure
    return found[name]


def test_conflicting_labels(head, tmp_path):
    texts = [f"new {i}" for i in range(N)]
    store = fresh(tmp_path, texts=[*texts[:-1], texts[0]], change=differ)
    assert "1 texts" in fired(checks_of(head, store), "conflicting-labels").finding


@pytest.mark.parametrize(("copies", "status"), [(3, "warning"), (300, "problem")])
def test_texts_of_the_training_rows(head, tmp_path, copies, status):
    texts = [f"text {i}" if i < copies else f"other {i}" for i in range(N)]
    found = fired(checks_of(head, fresh(tmp_path, texts=texts)), "duplicates-with-training", status)
    assert found.finding.startswith(f"{copies} of {N} labelled rows have a text")
    assert '"row-0", "row-1", "row-2"' in found.finding


def test_a_part_of_the_training_rows(head, tmp_path):
    X, y = blobs(N, 8, 3, seed=1)
    store = write_store(
        tmp_path / "half.h5", X[::2], y[::2], texts=[f"text {2 * i}" for i in range(300)]
    )
    fired(checks_of(head, store), "duplicates-with-training", "problem")


def test_a_head_of_before_knows_its_own_rows_by_their_mean(head, tmp_path):
    before = dataclasses.replace(head, texts=None)
    own = checks_of(before, write_store(tmp_path / "own.h5", *blobs(N, 8, 3, seed=1)))
    assert "are those that the head was fitted on" in own["duplicates-with-training"].finding
    assert checks_of(before, fresh(tmp_path))["duplicates-with-training"].status == "skipped"


def differ(X, y):
    y[0], y[-1] = 0, 1
    return X, y


def test_truncation(head, tmp_path):
    store = fresh(tmp_path, flags=np.arange(N) % 4 == 0)
    assert "25.0%" in fired(checks_of(head, store), "truncation", "problem").finding


def test_small_classes_and_few_rows(head, tmp_path):
    def few(X, y):
        kept = np.concatenate([np.flatnonzero(y == 0)[:3], np.flatnonzero(y > 0)[:40]])
        return X[kept], y[kept]

    found = checks_of(head, fresh(tmp_path, change=few))
    assert "'negative' (3)" in fired(found, "small-classes", "problem").finding
    fired(found, "few-rows", "problem")


def test_a_row_that_is_right_is_no_measure(head, tmp_path):
    found = checks_of(head, fresh(tmp_path, change=lambda X, y: (X[:1], y[:1])))
    fired(found, "few-rows", "problem")


def test_label_shift(head, tmp_path):
    def shift(X, y):
        kept = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 2)[:30]])
        return X[kept], y[kept]

    found = checks_of(head, fresh(tmp_path, rows=2000, change=shift))
    assert "--prior estimate" in fired(found, "label-shift", "problem").cure


def test_label_shift_of_the_rows_without_a_label(tmp_path):
    X, y = blobs(N, 8, 3, seed=1)
    more, hidden = blobs(2000, 8, 3, seed=2)
    pool = more[hidden == 0]
    codes = np.append(y, np.full(len(pool), -1))
    store = write_store(tmp_path / "s.h5", np.concatenate([X, pool]), codes)
    found = checks_of(fit(store, C=0.01, cv=5).head, store)
    assert "without a label" in fired(found, "label-shift", "problem").finding


def test_out_of_depth(head, tmp_path):
    found = checks_of(head, fresh(tmp_path, change=lambda X, y: (X * 4, y)))
    fired(found, "out-of-depth", "problem")


def test_calibration(head, tmp_path):
    sure = dataclasses.replace(head, coef=head.coef * 5, intercept=head.intercept * 5)
    fired(checks_of(sure, fresh(tmp_path)), "calibration")


def test_no_better_than_the_prior(head, tmp_path):
    rng = np.random.default_rng(0)
    found = checks_of(head, fresh(tmp_path, change=lambda X, y: (X, rng.permutation(y))))
    assert "frostline compare" in fired(found, "no-better-than-prior", "problem").cure


def test_noise_is_no_better_than_the_prior_out_of_fold(tmp_path):
    rng = np.random.default_rng(3)
    store = fresh(tmp_path, change=lambda X, y: (X, rng.permutation(y)))
    found = checks_of(fit(store, C=0.01, cv=5).head, store)
    fired(found, "no-better-than-prior", "problem")


@pytest.mark.parametrize(("C", "cure"), [(0.0001, "--C 1e-05"), (100.0, "--C 1000")])
def test_c_at_the_edge(head, tmp_path, C, cure):
    at_edge = dataclasses.replace(head, metadata={**head.metadata, "C": C})
    assert cure in fired(checks_of(at_edge, fresh(tmp_path)), "c-at-edge", "warning").cure


def test_a_head_that_says_little_is_shown_as_well(head, tmp_path):
    silent = Head(head.labels, head.coef, head.intercept, head.sources, {})
    found = checks_of(silent, fresh(tmp_path))
    for name in ("c-at-edge", "label-shift", "out-of-depth"):
        assert found[name].status == "skipped"


@pytest.mark.parametrize(
    "metadata",
    [
        {"grid": [1, 2], "metric": "accuracy"},
        {"grid": [{"C": float("nan")}, {}], "metric": "accuracy"},
        {"grid": 2 * [dict.fromkeys(["C", "difference_error", "log_loss"], float("inf"))]},
        {"C": 0.5},
        {"calibration": 3},
        {"calibration": {"method": "temperature", "temperature": "hot", "bias": [1, 2]}},
        {"seconds": {"total": float("nan")}, "conflicts": np.arange(3), "corrections": 7},
        {"seed": -1, "near_identical": "all", "class_weight": "heavy"},
    ],
)
def test_a_head_that_says_nonsense_is_shown_as_well(head, tmp_path, metadata):
    odd = dataclasses.replace(head, metadata={**head.metadata, **metadata})
    path = fresh(tmp_path)
    with open_joined(path) as stores:
        facts, _ = gather(odd, stores, Source("head.joblib", (str(path),), "frostline report"))
    content = json.dumps(facts.to_dict(), allow_nan=False)
    assert "frostline report" in markdown_of(json.loads(content))


def test_a_head_without_finite_probabilities_is_refused(head, tmp_path):
    wild = dataclasses.replace(head, coef=np.sign(head.coef) * 1e308)
    with np.errstate(all="ignore"), pytest.raises(FileRefused, match="fit it again"):
        checks_of(wild, fresh(tmp_path))


def test_own_rows_of_a_class_too_small_for_folds(tmp_path):
    X, y = blobs(N, 8, 3, seed=1)
    y = np.where(y == 0, 1, y)
    y[:3] = 0
    store = write_store(tmp_path / "s.h5", X, y, LABELS)
    head = fit(store, C=0.01, cv=3).head
    fired(checks_of(head, store), "duplicates-with-training", "problem")


@pytest.mark.parametrize("handling", ["drop", "majority"])
def test_rows_that_the_fit_left_out_are_left_out(tmp_path, handling):
    texts = [f"text {i % 550}" for i in range(N)]
    store = write_store(tmp_path / "s.h5", *blobs(N, 8, 3, seed=1), texts=texts)
    fitted = fit(store, C=0.01, cv=5, conflicts=handling).head
    with open_joined(store) as stores:
        facts, points = gather(fitted, stores, Source("head.joblib", (str(store),), "report"))
    assert "out of fold" in facts.verdict
    assert facts.metrics["rows"] == fitted.metadata["rows"] < N == len(points.ids)
    (found,) = (one for one in facts.checks if one.id == "conflicting-labels")
    assert (found.status, found.cure) == ("good", "")
    assert "the fit" in found.finding


def test_rows_that_no_fit_could_have_left_out_are_judged_by_the_head(tmp_path):
    store = write_store(tmp_path / "s.h5", *blobs(N, 8, 3, seed=1))
    fitted = fit(store, C=0.01, conflicts="drop").head
    X, _ = blobs(90, 8, 3, seed=2)
    new = write_store(tmp_path / "new.h5", X, np.arange(90) % 3, texts=["one"] * 30 + ["two"] * 60)
    fired(checks_of(fitted, new), "conflicting-labels", "problem")
