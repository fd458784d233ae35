"""The learning curve is that of fits by scikit-learn; the forecast finds a law that is known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stores import blobs, write_store

from pipeline.data.join import open_joined
from pipeline.evaluation.folds import make_folds, number_texts
from pipeline.evaluation.metrics import score
from pipeline.facts.judges.judged import judge_rows
from pipeline.facts.judges.scored_rows import score_rows
from pipeline.facts.learning_curve import forecast_of, learning_curve, power_law
from pipeline.fit import fit
from pipeline.head.priors import importance

N, C = 600, 0.05


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Rows of few columns that tell much and many that tell nothing, and who judged them."""
    X, y = blobs(N, 20, 3, seed=4, spread=0.5)
    store = write_store(tmp_path_factory.mktemp("curve") / "s.h5", X, y)
    head = fit(store, C=C, cv=5).head
    with open_joined(store) as stores:
        return X, y, judge_rows(head, stores, score_rows(head, stores), 2**30)


def by_hand():
    model = LogisticRegression(C=C, class_weight="balanced", max_iter=5000, tol=1e-8)
    return make_pipeline(StandardScaler(), model)


def test_the_largest_models_are_those_of_scikit_learn(judged):
    X, y, found = judged
    folds = make_folds(y, found.rows.texts, ["a", "b", "c"], n_folds=5, seed=0)
    for fold in range(5):
        here = folds == fold
        expected = by_hand().fit(X[~here], y[~here]).predict_proba(X[here])
        assert found.refits.raw()[here] == pytest.approx(expected, abs=0.01)


def test_the_curve_is_that_of_fits_by_hand(judged):
    X, y, found = judged
    curve = learning_curve(found.refits, "macro-recall")
    assert [one.rows for one in curve.points] == sorted(found.refits.sizes)
    assert curve.points[-1].rows == N * 4 // 5
    rng = np.random.default_rng(5)
    for point in curve.points:
        recalls = []
        for _ in range(20):
            order = rng.permutation(N)
            judges, rest = order[: N // 5], order[N // 5 :]
            some = np.concatenate(
                [rest[y[rest] == k][: round((y == k).mean() * point.rows)] for k in range(3)]
            )
            predicted = by_hand().fit(X[some], y[some]).predict(X[judges])
            recalls.append(recall_score(y[judges], predicted, average="macro"))
        assert point.value == pytest.approx(np.mean(recalls), abs=0.03), point
        assert point.low < point.value < point.high


@pytest.mark.parametrize("metric", ["macro-recall", "log-loss"])
def test_the_last_point_is_of_the_models_that_judge(judged, metric):
    _, y, found = judged
    refits, scores = found.refits, []
    for cut in range(4):
        proba, folds = refits.calibrated(0, cut), refits.folds(cut)
        for here in (folds == fold for fold in range(5)):
            weight = importance(y[here], refits.target.stated)
            scores.append(score(metric, y[here], proba[here], weight))
    curve = learning_curve(refits, metric)
    assert curve.points[-1].value == pytest.approx(np.mean(scores), rel=1e-9)


def test_few_rows_are_cut_several_times(judged):
    _, y, found = judged
    assert len(found.refits.logits[0]) == 4
    for cut in range(4):
        folds = found.refits.folds(cut)
        assert np.bincount(folds).tolist() == [N // 5] * 5
    assert number_texts(found.rows.texts).max() == len(y) - 1


@pytest.mark.parametrize(("a", "b", "c"), [(0.8, 2.0, 0.5), (0.7, 0.5, 0.2), (0.9, 3.0, 0.9)])
@pytest.mark.parametrize("higher_is_better", [True, False])
def test_a_law_that_is_known_is_found(a, b, c, higher_is_better):
    sizes = np.array([100, 200, 400, 800, 1600, 3200], float)
    law = a - b * np.append(sizes, [4000, 8000]) ** -c
    law = law if higher_is_better else 1 - law
    draws = law[:6] + np.array([-0.01, 0.0, 0.01])[:, None]
    found = forecast_of(sizes, draws[None], 4000, higher_is_better=higher_is_better)
    assert (found.rows, found.value) == (8000, pytest.approx(law[7], abs=1e-3))
    assert found.gain == pytest.approx(law[7] - law[6], abs=1e-3)
    assert found.low < law[7] < found.high
    # Folds that are all as much better or worse say nothing against the gain.
    assert found.gain_high - found.gain_low < found.high - found.low


def test_what_does_not_rise_is_not_said_to():
    sizes = np.array([100, 200, 400, 800], float)
    flat = power_law(sizes, np.array([0.7, 0.69, 0.7, 0.69]), np.array([1600.0]))
    assert flat == pytest.approx(0.69, abs=0.01)
    steep = power_law(sizes, np.array([0.1, 0.4, 0.7, 0.98]), np.array([1e6]))
    assert steep <= 1
