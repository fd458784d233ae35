import tracemalloc

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from stores import LABELS, blobs, digests_of

from pipeline.evaluation.choice import C_GRID
from pipeline.evaluation.cross_validation import judge
from pipeline.evaluation.folds import make_folds
from pipeline.evaluation.options import Options
from pipeline.evaluation.trials import are_few, fold_trials, target_of
from pipeline.solver.blocks import Rows
from pipeline.solver.solve import Solution, solve_grid

OPTIONS = Options("macro-recall", "balanced", None, 0, 2000, 1e-10, 2**30)


def chosen_by_folds(X, y, digests, n_folds):
    """Cross-validate with the models solved to the end, not only as far as a choice needs."""
    target = target_of(y, LABELS, OPTIONS)
    trials = fold_trials(target, digests, OPTIONS, n_folds=n_folds, n_tried=n_folds, nested=True)
    data = target.prepared(Rows.of(X), OPTIONS.memory)
    solutions = solve_grid(data, C_GRID, trials.training, tol=1e-10, max_iter=2000)
    return judge(C_GRID, solutions, target, trials, OPTIONS), trials


def proba(X, y, out, held, C):
    """What scikit-learn's model of all rows outside `out` says about those of `held`."""
    scaler = StandardScaler().fit(X[~out].astype(np.float64))
    model = LogisticRegression(
        C=C, solver="newton-cholesky", tol=1e-10, max_iter=500, class_weight="balanced"
    ).fit(scaler.transform(X[~out].astype(np.float64)), y[~out])
    return model.predict_proba(scaler.transform(X[held].astype(np.float64)))


def judged(probas, y):
    """Of one part of the rows, for each C: mean recall, how rows move it, and the logits."""
    share = 1 / (3 * np.bincount(y, minlength=3)[y])
    hits = [one.argmax(1) == y for one in probas]
    recall = [np.bincount(y, hit, 3) / np.bincount(y, minlength=3) for hit in hits]
    moves = [(hit - of_class[y]) * share for hit, of_class in zip(hits, recall, strict=True)]
    return np.mean(recall, axis=1), np.array(moves), [np.log(one) for one in probas], y


def losses(logits, ys):
    """Mean log-loss of the parts at one temperature, balanced, and how rows move it."""
    share = [1 / (3 * np.bincount(y, minlength=3)[y]) for y in ys]

    def of_rows(inverse):
        logs = [log_softmax(inverse * one, axis=1) for one in logits]
        return [-one[np.arange(len(y)), y] for one, y in zip(logs, ys, strict=True)]

    def total(inverse):
        weighted = zip(of_rows(inverse), share, strict=True)
        return sum((loss * weight).sum() * len(weight) for loss, weight in weighted)

    best = minimize_scalar(total, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-9}).x
    rows = of_rows(best)
    means = [(loss * weight).sum() for loss, weight in zip(rows, share, strict=True)]
    moves = [(r - m) * w / len(ys) for r, m, w in zip(rows, means, share, strict=True)]
    return np.mean(means), np.concatenate(moves)


def choice(parts):
    """The smallest C that rows can't tell from the best, by recall and then by log-loss."""
    score = np.mean([part[0] for part in parts], axis=0)
    moves = np.concatenate([part[1] for part in parts], axis=1) / len(parts)
    error = np.sqrt(((moves - moves[score.argmax()]) ** 2).sum(axis=1))
    near = np.flatnonzero(score.max() - score <= error)
    found = [losses([part[2][n] for part in parts], [part[3] for part in parts]) for n in near]
    loss, moves = np.array([one[0] for one in found]), np.array([one[1] for one in found])
    error = np.sqrt(((moves - moves[loss.argmin()]) ** 2).sum(axis=1))
    return int(near[np.flatnonzero(loss - loss.min() <= error)[0]])


@pytest.mark.parametrize(("spread", "seed"), [(0.4, 0), (0.7, 1), (1.0, 0), (0.5, 2)])
def test_figures_are_those_of_a_nested_loop(spread, seed):
    """Every fold is measured at the C that a loop over the others chooses, written out."""
    X, y = blobs(150, 12, 3, spread=spread, seed=seed)
    digests = digests_of(f"text {i}" for i in range(len(y)))
    outcome, trials = chosen_by_folds(X, y, digests, 4)
    folds = make_folds(y, digests, LABELS, n_folds=4, seed=0)
    chosen, found = [], []
    for outer in range(4):
        parts = []
        for inner in sorted({0, 1, 2, 3} - {outer}):
            held, out = folds == inner, (folds == inner) | (folds == outer)
            parts.append(judged([proba(X, y, out, held, C) for C in C_GRID], y[held]))
        chosen.append(C_GRID[choice(parts)])
        found.append(proba(X, y, folds == outer, folds == outer, chosen[-1]))
    assert outcome.nested_choices == tuple(chosen)
    logits = outcome.nested.logits
    shares = np.exp(log_softmax(logits, axis=1))
    np.testing.assert_allclose(shares, np.concatenate(found), atol=1e-4)
    assert "at a C chosen without it" in trials.measured_on


@pytest.mark.parametrize("n_folds", [3, 5])
def test_no_row_has_a_part_in_the_choice_it_is_measured_with(n_folds):
    """Whatever the vectors of a fold are, the others choose the same C for it."""
    X, y = blobs(150, 12, 3, spread=0.5, seed=3)
    digests = digests_of(f"text {i}" for i in range(len(y)))
    out = make_folds(y, digests, LABELS, n_folds=n_folds, seed=0) == 1
    other = X.copy()
    other[out] = np.random.default_rng(0).permutation(X[out])
    before, _ = chosen_by_folds(X, y, digests, n_folds)
    after, _ = chosen_by_folds(other, y, digests, n_folds)
    assert before.nested_choices[1] == after.nested_choices[1]
    assert before.candidates != after.candidates


def test_two_folds_leave_nothing_to_be_fitted_without_both():
    X, y = blobs(150, 12, 3)
    outcome, trials = chosen_by_folds(X, y, digests_of(f"text {i}" for i in range(150)), 2)
    assert trials.pairs == () and len(outcome.nested_choices) == 2
    assert "without it" not in trials.measured_on


def test_with_many_rows_the_other_folds_choose_by_the_models_at_hand():
    X, y = blobs(150, 12, 3, spread=0.5)
    digests = digests_of(f"text {i}" for i in range(len(y)))
    target = target_of(y, LABELS, OPTIONS)
    trials = fold_trials(target, digests, OPTIONS, n_folds=4, n_tried=4, nested=False)
    data = target.prepared(Rows.of(X), OPTIONS.memory)
    solutions = solve_grid(data, C_GRID, trials.training, tol=1e-10, max_iter=2000)
    outcome = judge(C_GRID, solutions, target, trials, OPTIONS)
    folds = make_folds(y, digests, LABELS, n_folds=4, seed=0)
    parts = []
    for fold in range(4):
        out = folds == fold
        parts.append(judged([proba(X, y, out, out, C) for C in C_GRID], y[out]))
    chosen = [choice(parts[:fold] + parts[fold + 1 :]) for fold in range(4)]
    assert outcome.nested_choices == tuple(C_GRID[n] for n in chosen)
    assert (are_few(10**4, 384, 3), are_few(45_616, 384, 3)) == (True, False)


def test_a_fold_is_calibrated_by_models_of_its_own_penalty():
    """The temperature of a fold is that of what chose its C, not of rows at another C."""
    X, y = blobs(150, 12, 3, spread=0.5, seed=2)
    outcome, _ = chosen_by_folds(X, y, digests_of(f"text {i}" for i in range(len(y))), 4)
    assert len(set(outcome.nested_choices)) > 1
    nested, found = outcome.nested, outcome.nested.calibrated("temperature")
    for group, others in nested.calibrated_by.items():
        its = nested.groups == group
        assert len(others.y) == np.count_nonzero(~its)
        (scale,) = {round(one, 6) for one in ratios(found[its], nested.logits[its])}
        expected = minimize_scalar(
            lambda inverse, rows=others: score_of(inverse, rows),
            bounds=(0.01, 20),
            method="bounded",
        ).x
        assert scale == pytest.approx(expected, rel=1e-3)


def ratios(proba, logits):
    """Differences of log-probabilities over those of logits: 1 / T, the same for all rows."""
    log_p = np.log(proba)
    return (log_p[:, 0] - log_p[:, 1]) / (logits[:, 0] - logits[:, 1])


def score_of(inverse, rows):
    log_p = log_softmax(inverse * rows.logits, axis=1)[np.arange(len(rows.y)), rows.y]
    return -(log_p / np.bincount(rows.y)[rows.y]).sum()


@pytest.mark.parametrize("metric", ["macro-recall", "log-loss"])
def test_millions_of_rows_are_judged_in_little_memory(metric):
    """Beside what 13 models say of a row, 156 bytes, judging takes 140 at most."""
    n_rows, rng = 60_000, np.random.default_rng(0)
    y = rng.integers(3, size=n_rows)
    texts = rng.integers(0, 256, size=(n_rows, 16)).astype(np.uint8)
    options = Options(metric, "balanced", None, 0, 2000, 1e-10, 2**30)
    target = target_of(y, LABELS, options)
    trials = fold_trials(target, texts, options, n_folds=5, n_tried=5, nested=False)
    solutions = []
    for C in C_GRID:
        for trial in trials.all:
            logits = rng.normal(size=(len(trial.y), 3)) + np.eye(3)[trial.y] * (1 + 1e-3 * C)
            said = log_softmax(logits, axis=1).astype(np.float32)
            solutions.append(Solution(C, np.zeros((3, 1)), np.zeros(3), 1, 0.0, True, said))
    tracemalloc.start()
    try:
        judge(C_GRID, solutions, target, trials, options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 140 * n_rows
