import h5py
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from stores import blobs

from pipeline import MultinomialLogisticRegression


@parametrize_with_checks(
    [MultinomialLogisticRegression(), MultinomialLogisticRegression(class_weight="balanced", C=0.1)]
)
def test_as_scikit_learn_wants_it(estimator, check):
    check(estimator)


@pytest.mark.parametrize("class_weight", [None, "balanced", {"a": 2.0, "b": 0.5, "c": 1.0}])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_it_is_standard_scaler_and_logistic_regression(n_classes, class_weight):
    X, y = blobs(300, 6, n_classes)
    X, y = X.astype(np.float64), np.array(list("abc"))[y]
    if isinstance(class_weight, dict) and n_classes == 2:
        class_weight = {"a": 2.0, "b": 0.5}
    weight = np.random.default_rng(0).uniform(0, 2, 300)
    ours = MultinomialLogisticRegression(C=0.3, class_weight=class_weight, tol=1e-12)
    ours.fit(X, y, weight)
    scaler = StandardScaler().fit(X, sample_weight=weight)
    theirs = LogisticRegression(
        C=0.3, class_weight=class_weight, tol=1e-10, solver="newton-cholesky"
    ).fit(scaler.transform(X), y, weight)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    assert ours.coef_.shape == theirs.coef_.shape
    np.testing.assert_allclose(ours.coef_, theirs.coef_ / scaler.scale_, atol=1e-5)
    np.testing.assert_allclose(
        ours.decision_function(X), theirs.decision_function(scaler.transform(X)), atol=1e-4
    )
    np.testing.assert_allclose(
        ours.predict_proba(X), theirs.predict_proba(scaler.transform(X)), atol=1e-5
    )
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(scaler.transform(X)))
    assert ours.converged_
    assert ours.gap_ <= 1e-12


@pytest.mark.parametrize("memory", [None, 0, "1MiB"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_dataset_is_an_array(n_classes, memory, tmp_path):
    X, y = blobs(2500, 6, n_classes)
    X = X.astype(np.float16)
    array = MultinomialLogisticRegression().fit(X, y)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=X, chunks=(300, 6))
        model = MultinomialLogisticRegression(memory=memory).fit(dataset, y)
        np.testing.assert_array_equal(model.coef_, array.coef_)
        assert model.n_features_in_ == 6
        np.testing.assert_allclose(model.predict_proba(dataset), array.predict_proba(X), atol=1e-12)
        np.testing.assert_array_equal(model.predict(dataset), array.predict(X))
        with pytest.raises(ValueError, match="X has 2500 rows, y has 2499"):
            model.fit(dataset, y[:-1])
        narrow = file.create_dataset("narrow", data=X[:, :3])
        with pytest.raises(ValueError, match="X has 3 columns, expected 6"):
            model.predict(narrow)


def test_max_iter_is_said():
    X, y = blobs(300, 6, 3)
    model = MultinomialLogisticRegression(max_iter=2).fit(X, y)
    assert not model.converged_
    assert model.n_iter_ == 2
    assert model.gap_ > 1e-6


@pytest.mark.parametrize("option", ["C", "max_iter", "tol"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_bad_options(option, value):
    with pytest.raises(ValueError, match=f"{option} is .*; it must be above 0"):
        MultinomialLogisticRegression(**{option: value}).fit(*blobs(60, 3, 3))


def test_bad_memory():
    with pytest.raises(ValueError, match="'lots' is not a size"):
        MultinomialLogisticRegression(memory="lots").fit(*blobs(60, 3, 3))


def test_in_a_grid_search_and_a_pipeline():
    X, y = blobs(150, 6, 3)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MultinomialLogisticRegression()),
        {"multinomiallogisticregression__C": [0.01, 1.0]},
        cv=3,
    ).fit(X, y)
    assert search.best_score_ > 0.5
