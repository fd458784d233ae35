import dataclasses
import json

import h5py
import numpy as np
import pytest
from reference_metrics import BY_SKLEARN
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, recall_score
from sklearn.preprocessing import StandardScaler
from stores import LABELS, OTHER_SPEC, SPEC, blobs, digests_of, write_store

from features.errors import FileRefused, InputError
from features.store.reader import FeatureStore
from pipeline.evaluation.choice import C_GRID, choose
from pipeline.evaluation.folds import make_folds
from pipeline.evaluation.held_out import HeldOut
from pipeline.evaluation.metrics import METRICS
from pipeline.fit import fit
from pipeline.head.head import load_head, save_head


def by_hand(X, y, C, class_weight):
    """Probabilities of scikit-learn on standardised vectors, as a function of raw vectors."""
    scaler = StandardScaler().fit(X.astype(np.float64))
    model = LogisticRegression(
        C=C, solver="newton-cholesky", tol=1e-10, max_iter=500, class_weight=class_weight
    ).fit(scaler.transform(X.astype(np.float64)), y)
    return lambda vectors: model.predict_proba(scaler.transform(vectors.astype(np.float64)))


@pytest.fixture(scope="module")
def data():
    return blobs(180, 8, 3)


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("fit") / "train.h5", *data)


@pytest.fixture(scope="module")
def validation(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("fit") / "validation.h5", *blobs(90, 8, 3, seed=1))


@pytest.mark.parametrize("class_weight", ["balanced", "none"])
@pytest.mark.parametrize("C", [0.001, 1.0])
def test_fixed_penalty_is_the_fit_by_hand(C, class_weight, store, data):
    X, y = data
    result = fit(store, C=C, class_weight=class_weight)
    exact = by_hand(X, y, C, "balanced" if class_weight == "balanced" else None)
    assert np.abs(result.head.predict_proba(X) - exact(X)).max() <= 1e-3
    assert result.head.labels == LABELS
    assert result.head.metadata["C"] == C
    assert result.candidates == ()
    assert result.converged
    assert result.head.metadata["class_rows"] == np.bincount(y).tolist()


def test_fixed_penalty_is_measured_on_one_fold_by_a_model_of_the_others(store, data):
    X, y = data
    result = fit(store, C=0.1, class_weight="none", seed=4)
    out = make_folds(y, digests_of(f"text {i}" for i in range(len(y))), LABELS, n_folds=5, seed=4)
    out = out == 0
    exact = by_hand(X[~out], y[~out], 0.1, None)(X[out])
    assert result.metrics.rows == out.sum()
    assert str(out.sum()) in result.measured_on
    # A fold of 36 rows has not quite the shares of the classes that the head answers for.
    weight = (np.bincount(y) / len(y) / np.bincount(y[out]))[y[out]]
    loss = log_loss(y[out], exact, sample_weight=weight)
    assert result.metrics.log_loss == pytest.approx(loss, abs=1e-3)
    assert result.metrics.macro_recall == recall_score(y[out], exact.argmax(1), average="macro")


def test_auto_tries_the_grid_and_keeps_the_best(store):
    result = fit(store)
    assert tuple(candidate.C for candidate in result.candidates) == C_GRID
    assert all(len(candidate.fold_scores) == 5 for candidate in result.candidates)
    scores = [candidate.score for candidate in result.candidates]
    assert result.head.metadata["C"] == choose(result.candidates).C
    assert [entry["C"] for entry in result.head.metadata["grid"]] == list(C_GRID)
    assert [entry["score"] for entry in result.head.metadata["grid"]] == scores
    assert result.metrics.rows == 180
    assert "5-fold" in result.measured_on


def test_candidates_score_held_out_rows(store, data):
    X, y = data
    result = fit(store, C="auto", cv=3, class_weight="none", seed=1)
    digests = digests_of(f"text {i}" for i in range(len(y)))
    folds = make_folds(y, digests, LABELS, n_folds=3, seed=1)
    candidate = next(c for c in result.candidates if c.C == 0.1)
    for fold, score in enumerate(candidate.fold_scores):
        out = folds == fold
        predicted = by_hand(X[~out], y[~out], 0.1, None)(X[out]).argmax(1)
        # A row on the border may fall to the other side.
        assert score == pytest.approx(recall_score(y[out], predicted, average="macro"), abs=0.03)
    assert "3-fold" in result.measured_on


@pytest.mark.parametrize("cv", [2, 4])
def test_fixed_penalty_with_cv_is_measured_on_all_rows(cv, store):
    result = fit(store, C=0.1, cv=cv)
    assert result.metrics.rows == 180
    assert f"{cv}-fold" in result.measured_on
    assert result.candidates == ()


def test_views_side_by_side_in_the_order_asked(data, tmp_path):
    X, y = data
    views = {"cls": X[:, :3], "mean": X[:, 3:], "max": X[:, :1] * 0}
    path = write_store(tmp_path / "views.h5", views, y)
    head = fit(path, pooling=["mean", "cls"], C=0.1, class_weight="none").head
    assert [(source.view, source.width) for source in head.sources] == [("mean", 5), ("cls", 3)]
    assert {source.spec for source in head.sources} == {SPEC}
    swapped = np.hstack([X[:, 3:], X[:, :3]])
    exact = by_hand(swapped, y, 0.1, None)(swapped)
    assert np.abs(head.predict_proba(swapped) - exact).max() <= 1e-3


def test_one_of_several_views_by_another_spelling(data, tmp_path):
    X, y = data
    path = write_store(tmp_path / "views.h5", {"cls": X, "mean": X[:, :2]}, y)
    head = fit(path, pooling="mean@-1", C=0.1).head
    assert [(source.view, source.width) for source in head.sources] == [("mean", 2)]


def test_float16_store_and_precision_are_remembered(data, tmp_path):
    X, y = data
    path = write_store(tmp_path / "half.h5", X, y, store_dtype="float16", precision="half")
    (source,) = fit(path, C=0.1).head.sources
    assert (source.store_dtype, source.precision) == ("float16", "half")


def test_unlabelled_rows_are_left_out_and_counted(data, store, tmp_path):
    X, y = data
    gaps = np.where(np.arange(len(y)) % 4 == 3, -1, y)
    texts = [f"text {i}" for i in range(len(y))]
    with_gaps = fit(write_store(tmp_path / "gaps.h5", X, gaps, texts=texts), C=0.1)
    kept = gaps >= 0
    only = [text for text, keep in zip(texts, kept, strict=True) if keep]
    without = fit(write_store(tmp_path / "only.h5", X[kept], y[kept], texts=only), C=0.1)
    assert with_gaps.unlabelled == with_gaps.head.metadata["unlabelled"] == 45
    assert (without.unlabelled, fit(store, C=0.1).unlabelled) == (0, 0)
    np.testing.assert_array_equal(with_gaps.head.coef, without.head.coef)
    assert with_gaps.metrics == without.metrics


def test_classes_without_rows_are_dropped(data, tmp_path):
    X, y = data
    names = ["angry", "negative", "neutral", "bored", "positive"]
    path = write_store(tmp_path / "s.h5", X, np.array([1, 2, 4])[y], names)
    head = fit(path, C=0.1).head
    assert head.labels == LABELS
    plain = fit(write_store(tmp_path / "p.h5", X, y), C=0.1).head
    np.testing.assert_array_equal(head.coef, plain.coef)


def test_shards_are_one_store(data, store, tmp_path):
    X, y = data
    texts = [f"text {i}" for i in range(len(y))]
    parts = [slice(0, 70), slice(70, 71), slice(71, 180)]
    for number, part in enumerate(parts):
        path = tmp_path / f"{number}.h5"
        write_store(path, X[part], y[part], texts=texts[part])
    whole = fit(store, C=0.1).head
    np.testing.assert_array_equal(fit(tmp_path, C=0.1).head.coef, whole.coef)
    paths = sorted(tmp_path.glob("*.h5"))
    np.testing.assert_array_equal(fit(paths, C=0.1).head.coef, whole.coef)


def test_two_classes(tmp_path):
    X, y = blobs(120, 6, 2)
    path = write_store(tmp_path / "two.h5", X, y, ["no", "yes"])
    result = fit(path, C=0.1, class_weight="none")
    assert np.abs(result.head.predict_proba(X) - by_hand(X, y, 0.1, None)(X)).max() <= 1e-3
    save_head(result.head, tmp_path / "head.joblib")
    loaded = load_head(tmp_path / "head.joblib")
    np.testing.assert_allclose(
        loaded.predict_proba(X), result.head.predict_proba(X), atol=1e-12, rtol=0
    )


def outcome(result):
    return json.dumps(result.head.metadata), result.head.coef.tobytes(), result.metrics


def test_same_seed_same_result(store):
    once, again, other = (fit(store, cv=3, seed=seed) for seed in (1, 1, 2))
    assert outcome(once) == outcome(again)
    assert once.candidates != other.candidates


def test_metadata_is_json(store):
    metadata = fit(store, C=1.0).head.metadata
    assert json.loads(json.dumps(metadata))["metrics"]["rows"] == metadata["metrics"]["rows"]


def test_validation_rows_choose_and_measure(store, data, validation):
    X, y = data
    held_X, held_y = blobs(90, 8, 3, seed=1)
    result = fit(store, validation=validation, calibrate="none")
    assert tuple(candidate.C for candidate in result.candidates) == C_GRID
    assert all(len(candidate.fold_scores) == 1 for candidate in result.candidates)
    assert str(validation) in result.measured_on
    assert result.metrics.rows == len(held_y)
    best = choose(result.candidates).C
    assert result.head.metadata["C"] == best
    # Fitted on all training rows and on none of the others.
    exact = by_hand(X, y, best, "balanced")(held_X)
    assert np.abs(result.head.predict_proba(held_X) - exact).max() <= 1e-3
    # Each fifth of the texts is measured at the C that the others choose.
    with FeatureStore(validation) as held:
        group = held.digests()[:, 0] % 5
    for number, C in enumerate(result.head.metadata["nested_choices"]):
        exact[group == number] = by_hand(X, y, C, "balanced")(held_X[group == number])
    weight = (1 / np.bincount(held_y))[held_y]
    loss = log_loss(held_y, exact, sample_weight=weight)
    assert result.metrics.log_loss == pytest.approx(loss, abs=1e-3)


def test_validation_needs_no_folds(tmp_path, validation):
    """A class of two rows is enough where nothing is cross-validated."""
    X, y = blobs(90, 8, 3)
    few = np.flatnonzero(y != 2).tolist() + np.flatnonzero(y == 2)[:2].tolist()
    path = write_store(tmp_path / "few.h5", X[few], y[few])
    assert fit(path, C=0.1, validation=validation).metrics.rows == 90


def test_validation_in_another_order_of_labels_and_views(data, tmp_path):
    X, y = data
    train = write_store(tmp_path / "train.h5", {"cls": X[:, :3], "mean": X[:, 3:]}, y)
    views = {"mean": X[:, 3:], "max": X[:, :1], "cls": X[:, :3]}
    other = write_store(tmp_path / "validation.h5", views, 2 - y, LABELS[::-1])
    poolings = ["cls", "mean"]
    result = fit(train, pooling=poolings, C=100, validation=other, class_weight="none")
    exact = by_hand(X, y, 100, None)(X).argmax(1)
    assert result.metrics.macro_recall == pytest.approx(
        recall_score(y, exact, average="macro"), abs=0.02
    )


def test_copies_of_a_text_do_not_inflate_the_figure(tmp_path):
    """Random labels: only a model that saw a copy of a held-out text can be right about it."""
    rng = np.random.default_rng(0)
    n_texts, copies = 120, 4
    y = np.repeat(np.tile([0, 1], n_texts // 2), copies)
    X = np.repeat(rng.normal(size=(n_texts, 150)).astype(np.float32), copies, axis=0)
    texts = [f"retweet {i // copies}" for i in range(len(y))]
    path = write_store(tmp_path / "copies.h5", X, y, ["a", "b"], texts=texts)
    honest = fit(path, C=1.0, cv=5, class_weight="none")
    assert (honest.head.predict_proba(X).argmax(1) == y).mean() == 1.0  # it can learn them by heart
    assert honest.metrics.accuracy < 0.65
    # The same rows, each said to be a text of its own, are what the folds protect from.
    blind = fit(write_store(tmp_path / "blind.h5", X, y, ["a", "b"]), C=1.0, cv=5)
    assert blind.metrics.accuracy > 0.95


def test_duplicates_whose_labels_differ(tmp_path):
    X, y = blobs(100, 6, 2)
    texts = [f"text {i // 2}" for i in range(100)]
    X[1::2] = X[::2]
    assert fit(write_store(tmp_path / "s.h5", X, y, ["a", "b"], texts=texts)).metrics.rows == 100


@pytest.mark.parametrize("metric", METRICS)
def test_the_metric_chooses(metric, store, data):
    X, y = data
    result = fit(store, metric=metric, cv=3, class_weight="none")
    best = choose(result.candidates, higher_is_better=METRICS[metric].higher_is_better)
    assert result.head.metadata["C"] == best.C
    assert result.head.metadata["metric"] == metric
    folds = make_folds(y, digests_of(f"text {i}" for i in range(len(y))), LABELS, n_folds=3, seed=0)
    candidate = next(c for c in result.candidates if c.C == 0.1)
    for fold, score in enumerate(candidate.fold_scores):
        out = folds == fold
        proba = by_hand(X[~out], y[~out], 0.1, None)(X[out])
        # A row on the border may fall to the other side.
        assert score == pytest.approx(BY_SKLEARN[metric](y[out], proba), abs=0.03)


def test_one_standard_error_takes_a_smaller_one(store):
    best, simple = fit(store), fit(store, one_standard_error=True)
    assert best.candidates == simple.candidates
    chosen = {c.C: c for c in best.candidates}
    top, taken = chosen[best.head.metadata["C"]], chosen[simple.head.metadata["C"]]
    assert taken.C < top.C
    assert top.score - top.standard_error <= taken.score <= top.score


def test_repeats_cut_the_rows_anew(store):
    once, other, both = (fit(store, cv=3, seed=s, repeats=r) for s, r in ((4, 1), (5, 1), (4, 2)))
    for a, b, together in zip(once.candidates, other.candidates, both.candidates, strict=True):
        # The first is solved in other company, which may move a row on the border.
        expected = a.fold_scores + b.fold_scores
        np.testing.assert_allclose(together.fold_scores, expected, atol=0.03)
        assert together.repeats == 2
    assert both.metrics.rows == once.metrics.rows


@pytest.mark.parametrize("options", [{}, {"C": 0.1}, {"C": 0.1, "cv": 3}])
@pytest.mark.parametrize("store_dtype", ["float16", "float32"])
def test_a_store_that_does_not_fit_gives_the_same(options, store_dtype, tmp_path):
    X, y = blobs(2500, 8, 3)
    y[::7] = -1  # rows without a label are passed over in the file as well
    path = write_store(tmp_path / "s.h5", X, y, store_dtype=store_dtype)
    held, streamed = fit(path, memory="1GiB", **options), fit(path, memory=1000, **options)
    assert (held.in_memory, streamed.in_memory) == (True, False)
    save_head(held.head, tmp_path / "held.joblib")
    save_head(streamed.head, tmp_path / "streamed.joblib")
    assert (tmp_path / "held.joblib").read_bytes() == (tmp_path / "streamed.joblib").read_bytes()
    assert held.candidates == streamed.candidates


def test_a_damaged_chunk_is_refused_while_streaming(tmp_path):
    X, y = blobs(2500, 64, 3)
    path = write_store(tmp_path / "s.h5", X, y)
    with h5py.File(path) as file:
        place = file["cls"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as file:
        file.seek(place + 100)
        file.write(b"damage")
    with pytest.raises(FileRefused, match="'cls' is damaged"):
        fit(path, C=0.1, memory=0)


def test_values_that_are_not_finite_are_refused(tmp_path):
    X, y = blobs(200, 8, 3)
    X[3, 4] = np.nan
    with pytest.raises(InputError, match="not finite"):
        fit(write_store(tmp_path / "s.h5", X, y), C=0.1)


def test_the_certificate_is_in_the_head(store, tmp_path):
    result = fit(store, C=0.1, tol=1e-5)
    assert result.converged
    assert result.head.metadata["gap"] == result.gap <= result.head.metadata["tol"] == 1e-5
    save_head(result.head, tmp_path / "head.joblib")
    assert load_head(tmp_path / "head.joblib").metadata["gap"] == result.gap


def test_max_iter_is_said(store):
    result = fit(store, C=10, max_iter=1)
    assert not result.converged
    assert result.head.metadata["converged"] is False


def out_of_fold(X, y, C, class_weight, n_folds=3, seed=0):
    """scikit-learn's probabilities of rows that its model did not see."""
    digests = digests_of(f"text {i}" for i in range(len(y)))
    folds = make_folds(y, digests, LABELS, n_folds=n_folds, seed=seed)
    proba = np.empty((len(y), 3))
    for fold in range(n_folds):
        out = folds == fold
        proba[out] = by_hand(X[~out], y[~out], C, class_weight)(X[out])
    return proba, folds


@pytest.mark.parametrize("class_weight", ["balanced", "none"])
@pytest.mark.parametrize("prior", [None, "uniform", "training", "negative=2,neutral=1,positive=1"])
def test_calibration_is_that_of_scikit_learn_and_scipy(class_weight, prior, store, data):
    """Out-of-fold logits by scikit-learn, moved and tempered by scipy, against the head."""
    X, y = data
    weights = None if class_weight == "none" else "balanced"
    result = fit(store, C=1.0, cv=3, class_weight=class_weight, prior=prior)
    rows = np.bincount(y)
    fitted = np.full(3, 1 / 3) if weights else rows / len(y)
    stated = {
        None: fitted,
        "uniform": np.full(3, 1 / 3),
        "training": rows / len(y),
    }.get(prior, np.array([0.5, 0.25, 0.25]))
    proba, folds = out_of_fold(X, y, 1.0, weights)
    evidence = np.log(proba) - np.log(fitted)
    weight = (stated / rows)[y]

    def best(rows):
        def loss(inverse):
            logits = inverse * evidence[rows] + np.log(stated)
            return log_loss(y[rows], softmax(logits, axis=1), sample_weight=weight[rows])

        return minimize_scalar(loss, bounds=(0.01, 10), method="bounded").x

    found = result.head.metadata["calibration"]
    assert found["method"] == "temperature"
    assert 1 / found["temperature"] == pytest.approx(best(slice(None)), rel=0.01)
    tempered = np.empty_like(proba)
    for fold in range(3):
        out = folds == fold
        tempered[out] = softmax(best(~out) * evidence[out] + np.log(stated), axis=1)
    before = log_loss(y, softmax(evidence + np.log(stated), axis=1), sample_weight=weight)
    after = log_loss(y, tempered, sample_weight=weight)
    assert found["before"]["log_loss"] == pytest.approx(before, abs=2e-3)
    assert found["after"]["log_loss"] == pytest.approx(after, abs=2e-3)
    assert result.metrics.log_loss == found["after"]["log_loss"]
    assert result.metrics.calibration_error == found["after"]["calibration_error"]
    # The head holds both.
    everything = np.log(by_hand(X, y, 1.0, weights)(X)) - np.log(fitted)
    expected = softmax(everything / found["temperature"] + np.log(stated), axis=1)
    np.testing.assert_allclose(result.head.predict_proba(X), expected, atol=2e-3)
    np.testing.assert_allclose(result.head.prior, stated)


def test_a_prior_at_predict_is_the_prior_at_fit(store, data):
    X, _ = data
    prior = "negative=1,neutral=5,positive=2"
    options = {"C": 0.1, "cv": 3, "calibrate": "none"}
    at_fit, later = fit(store, prior=prior, **options).head, fit(store, **options).head
    np.testing.assert_allclose(
        later.with_prior(prior).predict_proba(X), at_fit.predict_proba(X), rtol=1e-9
    )
    np.testing.assert_allclose(
        at_fit.with_prior("uniform").predict_proba(X), later.predict_proba(X), rtol=1e-9
    )


def test_without_calibration_the_head_is_the_fit(store, data):
    X, y = data
    result = fit(store, C=0.1, cv=3, calibrate="none")
    assert result.head.metadata["calibration"] == {"method": "none"}
    exact = by_hand(X, y, 0.1, "balanced")
    assert np.abs(result.head.predict_proba(X) - exact(X)).max() <= 1e-3


def test_one_fold_is_not_enough_to_calibrate(store):
    assert fit(store, C=0.1).head.metadata["calibration"] == {"method": "none"}
    with pytest.raises(InputError, match="`calibrate=temperature` needs more rows"):
        fit(store, C=0.1, calibrate="temperature")
    assert fit(store, C=0.1, cv=2).head.metadata["calibration"]["method"] == "temperature"


def test_biases_are_fitted_and_folded_in(store, data):
    X, _ = data
    plain = fit(store, C=0.1, cv=3, calibrate="none").head
    head = fit(store, C=0.1, cv=3, calibrate="bias-corrected").head
    found = head.metadata["calibration"]
    assert found["method"] == "bias-corrected"
    assert any(found["bias"])
    evidence = np.log(plain.predict_proba(X)) - np.log(plain.prior)
    expected = evidence / found["temperature"] + found["bias"] + np.log(head.prior)
    np.testing.assert_allclose(head.predict_proba(X), softmax(expected, axis=1), atol=2e-3)


def test_auto_takes_biases_where_they_help_by_more_than_chance(tmp_path):
    """Clouds whose models are right need none; what a model can't see of a class does."""
    store = write_store(tmp_path / "s.h5", *blobs(600, 8, 3))
    assert fit(store, C=0.1, cv=3, calibrate="auto").head.metadata["calibration"]["method"] == (
        "temperature"
    )
    rng = np.random.default_rng(0)
    prior, y = np.full(3, 1 / 3), np.arange(900) % 3
    logits = rng.normal(size=(900, 3))
    logits[np.arange(900), y] += 1.5
    for bias, method in ((0.0, "temperature"), (1.0, "bias-corrected")):
        tampered = logits + np.array([bias, -bias, 0.0])
        rows = HeldOut(y, tampered, np.arange(900) // 3 % 5, prior)
        assert rows.chosen("auto") == method
        assert rows.chosen("none") == "none"


def test_a_head_keeps_what_shares_are_estimated_by(store):
    head = fit(store, C=0.1, cv=3).head
    assert head.held_out.confusion.tolist() == head.metadata["metrics"]["confusion"]
    np.testing.assert_array_equal(head.held_out.prior, head.prior)
    sigma = head.held_out.uncertainty
    np.testing.assert_allclose(sigma, sigma.T)
    assert (np.linalg.eigvalsh(sigma) > -1e-9).all()
    assert (np.diag(sigma) > 0).all()


def test_validation_rows_calibrate(tmp_path):
    """A temperature moves no label under a uniform prior; it is measured on other rows."""
    store = write_store(tmp_path / "train.h5", *blobs(90, 8, 3))
    validation = write_store(tmp_path / "validation.h5", *blobs(900, 8, 3, seed=1))
    plain = fit(store, C=100, validation=validation, calibrate="none")
    result = fit(store, C=100, validation=validation)
    found = result.head.metadata["calibration"]
    assert found["temperature"] > 1  # hardly penalised: far too sure
    assert found["before"]["log_loss"] == plain.metrics.log_loss
    assert found["after"]["log_loss"] < found["before"]["log_loss"]
    assert result.metrics.confusion == plain.metrics.confusion
    with FeatureStore(validation) as held:
        proba, codes = result.head.predict_proba(held.read("cls")), held.labels()
    in_sample = log_loss(codes, proba, sample_weight=(1 / np.bincount(codes))[codes])
    assert in_sample < found["after"]["log_loss"]


def test_rows_sorted_by_label(tmp_path):
    X, y = blobs(150, 6, 3)
    order = np.argsort(y, kind="stable")
    result = fit(write_store(tmp_path / "sorted.h5", X[order], y[order]))
    assert result.metrics.rows == 150


def tiny(path, y, labels=LABELS, **options):
    X = np.random.default_rng(0).normal(size=(len(y), 4)).astype(np.float32)
    return write_store(path, X, y, labels, **options)


@pytest.mark.parametrize("C", ["abc", "", "Auto", "nan", "inf", 0, -1, float("inf"), float("nan")])
def test_bad_penalty(C, store):
    with pytest.raises(InputError, match=r"C is .*; it must be a number above 0, or auto"):
        fit(store, C=C)


@pytest.mark.parametrize("cv", [1, 0, -3])
@pytest.mark.parametrize("C", ["auto", 0.1])
def test_too_few_folds(C, cv, store):
    with pytest.raises(InputError, match=f"{cv} folds are too few: give `cv` at least 2"):
        fit(store, C=C, cv=cv)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weight": "heavy"}, "unknown class weight 'heavy': choose none or balanced"),
        (
            {"calibrate": "isotonic"},
            "unknown calibration 'isotonic': choose auto or temperature or bias-corrected or none",
        ),
        ({"prior": "even"}, "prior 'even' can't be read: give uniform, training"),
        ({"prior": {"negative": 1.0}}, "differ in 'neutral', 'positive'"),
        ({"max_iter": 0}, "`max_iter` 0"),
        ({"tol": 0.0}, "`tol` 0.0"),
        ({"repeats": 0}, "`repeats` 0"),
        ({"metric": "auc"}, "unknown metric 'auc': choose macro-recall or accuracy or"),
        ({"memory": "lots"}, "memory: 'lots' is not a size; give bytes, or e.g. 512MiB"),
        ({"validation": "x.h5", "repeats": 2}, "`repeats` and `near_identical` need folds"),
        ({"validation": "x.h5", "one_standard_error": True}, "`one_standard_error`, `repeats` and"),
        ({"tol": float("nan")}, "`tol` nan"),
        ({"pooling": "mean"}, "holds no view 'mean'; it holds: cls"),
        ({"pooling": ["cls", "cls"]}, "named twice"),
        ({"pooling": ["cls", "cls@-1"]}, "named twice"),
        ({"pooling": "clf"}, "unknown tokens 'clf'"),
        ({"cv": 500}, "fewer than the 500 folds"),
        ({"validation": "no-such.h5"}, "no-such.h5: no such feature file"),
    ],
)
def test_bad_options(options, message, store):
    with pytest.raises(InputError, match=message):
        fit(store, **{"C": 0.1} | options)


def test_several_views_and_none_named(tmp_path):
    X = np.zeros((6, 4))
    path = write_store(tmp_path / "s.h5", {"cls": X, "mean": X}, [0, 1, 2] * 2)
    with pytest.raises(InputError, match="several views: cls, mean; choose with `pooling`"):
        fit(path)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([-1] * 8, "has no labels; extract tweets with a label column"),
        ([1] * 8, "has one class only, 'neutral'"),
        ([1, -1] * 8, "has one class only, 'neutral'"),
        ([0] * 9 + [1] * 9 + [2] * 3, "class 'positive' has 3 rows, fewer than the 5 folds"),
    ],
)
def test_labels_that_are_not_enough(y, message, tmp_path):
    with pytest.raises(InputError, match=message):
        fit(tiny(tmp_path / "s.h5", y))


def test_class_of_one_text(tmp_path):
    texts = [f"text {i}" for i in range(20)] + ["the same"] * 10
    path = tiny(tmp_path / "s.h5", [0, 1] * 10 + [2] * 10, texts=texts)
    with pytest.raises(
        InputError, match="class 'positive' has 1 different texts, fewer than the 5"
    ):
        fit(path)


def test_no_such_store(tmp_path):
    with pytest.raises(InputError, match="no such feature file"):
        fit(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("id,text")
    with pytest.raises(FileRefused, match="not a readable HDF5 file"):
        fit(tmp_path / "text.h5")


def test_validation_of_another_encoder(store, tmp_path):
    other = write_store(tmp_path / "other.h5", *blobs(30, 8, 3), spec=OTHER_SPEC)
    with pytest.raises(FileRefused) as error:
        fit(store, validation=other)
    assert SPEC.fingerprint[:12] in str(error.value)
    assert OTHER_SPEC.fingerprint[:12] in str(error.value)


def test_validation_with_a_label_that_was_not_trained(store, tmp_path):
    X, y = blobs(30, 8, 3)
    other = write_store(tmp_path / "other.h5", X, y, ["negative", "angry", "positive"])
    with pytest.raises(InputError, match="labels that are not in the training rows: angry"):
        fit(store, validation=other)


def test_validation_without_labels(store, tmp_path):
    X, y = blobs(30, 8, 3)
    other = write_store(tmp_path / "other.h5", X, np.full_like(y, -1))
    with pytest.raises(InputError, match="no labelled rows"):
        fit(store, validation=other)


def test_validation_without_the_view(store, tmp_path):
    X, y = blobs(30, 8, 3)
    other = write_store(tmp_path / "other.h5", {"max": X}, y)
    with pytest.raises(InputError, match="no view 'cls'"):
        fit(store, validation=other)


def test_rows_of_two_encoders_that_share_none(store, tmp_path):
    """They were meant as shards: the message says what they are, and by what they differ."""
    spec = dataclasses.replace(SPEC, max_length=64)
    ids = [f"more-{i}" for i in range(30)]
    other = write_store(tmp_path / "other.h5", *blobs(30, 8, 3), spec=spec, ids=ids)
    with pytest.raises(InputError, match=r"share no row: .*max_length: 64 here, 128 there"):
        fit([store, other])


@pytest.mark.parametrize("C", ["auto", 0.1])
def test_progress_counts_models(C, store):
    seen = []
    result = fit(store, C=C, progress=lambda done, of: seen.append((done, of)))
    for of in {of for _, of in seen}:
        done = [one for one, all_of_them in seen if all_of_them == of]
        assert done == sorted(done)
        assert done[-1] == of
    # 13 C without each of 5 folds and each pair of them, and then the head; or the head together
    # with one model that is measured.
    assert list(dict.fromkeys(of for _, of in seen)) == ([195, 1] if C == "auto" else [2])
    assert outcome(fit(store, C=C)) == outcome(result)
