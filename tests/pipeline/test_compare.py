import json

import numpy as np
import pytest
from stores import blobs, write_store

from features.errors import FileRefused, InputError
from pipeline import compare, fit
from pipeline.evaluation.choice import C_GRID
from pipeline.evaluation.metrics import METRICS
from pipeline.report.comparison import comparison_text

N_ROWS = 240


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A good view, one that is hardly worse, and one of noise."""
    X, y = blobs(N_ROWS, 8, 3)
    rng = np.random.default_rng(5)
    views = {
        "cls": X,
        "mean": X + 0.01 * rng.normal(size=X.shape).astype(np.float32),
        "max": rng.normal(size=(N_ROWS, 3)).astype(np.float32),
    }
    return write_store(tmp_path_factory.mktemp("compare") / "s.h5", views, y)


@pytest.fixture(scope="module")
def result(store):
    return compare(store, combine=[["cls", "max"], ["cls@-1", "max"]])


def test_every_view_and_combination_once_the_best_first(result):
    assert {line.name for line in result.lines} == {"cls", "mean", "max", "cls + max"}
    figures = [line.metrics.macro_recall for line in result.lines]
    assert figures == sorted(figures, reverse=True)
    widths = {line.name: line.width for line in result.lines}
    assert widths == {"cls": 8, "mean": 8, "max": 3, "cls + max": 11}
    assert all(line.C in C_GRID and line.converged and line.seconds > 0 for line in result.lines)
    assert (result.rows, result.unlabelled) == (N_ROWS, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_figures_are_those_of_fit(metric, store):
    """The same folds, grid and choice: what `compare` shows is what `fit` then says."""
    for line in compare(store, metric=metric, cv=3, seed=2).lines:
        alone = fit(store, pooling=line.views, metric=metric, cv=3, seed=2)
        assert alone.head.metadata["C"] == line.C
        assert alone.metrics == line.metrics


@pytest.mark.parametrize("metric", ["log-loss", "macro-recall"])
def test_under_another_prior(metric, store):
    options = {"prior": "training", "class_weight": "balanced", "cv": 3, "metric": metric}
    result = compare(store, **options)
    for line in result.lines:
        assert fit(store, pooling=line.views, **options).metrics == line.metrics
    assert sum(result.prior) == pytest.approx(1)
    assert "prior negative 0." in comparison_text(result)


def test_differences_are_to_the_best(result):
    best, *others = result.lines
    assert (best.difference, best.difference_interval) == (0.0, (0.0, 0.0))
    assert not best.distinguishable
    for line in others:
        low, high = line.difference_interval
        assert line.difference == line.metrics.macro_recall - best.metrics.macro_recall
        assert low <= line.difference <= high


def test_noise_is_told_apart_and_a_near_copy_is_not(result):
    lines = {line.name: line for line in result.lines}
    assert lines["max"].distinguishable
    assert not lines["mean"].distinguishable
    assert not lines["cls"].distinguishable


def test_by_log_loss_the_lowest_is_the_best(store):
    lines = compare(store, metric="log-loss", cv=3).lines
    losses = [line.metrics.log_loss for line in lines]
    assert losses == sorted(losses)
    assert all(line.difference > 0 for line in lines[1:])
    assert lines[-1].name == "max"


def untimed(result):
    content = result.to_dict()
    for line in content["lines"]:
        line.pop("seconds")
    return content


def test_same_seed_same_table(store):
    once, again, other = (compare(store, cv=3, seed=seed) for seed in (1, 1, 2))
    assert untimed(once) == untimed(again) != untimed(other)


def test_as_json(result):
    content = json.loads(json.dumps(result.to_dict()))
    first = content["lines"][0]
    assert (content["metric"], content["rows"]) == ("macro-recall", N_ROWS)
    assert first["distinguishable"] is False
    assert first["metrics"]["macro_recall"] == result.lines[0].metrics.macro_recall


def test_progress_is_told(store):
    seen = []
    compare(store, cv=3, progress=lambda done, of: seen.append((done, of)))
    done, of = zip(*seen, strict=True)
    assert set(of) == {3}
    assert {0, 1, 2, 3} <= set(done)
    assert list(done) == sorted(done)
    assert len(set(done)) > 10  # also while a line is at work


def test_streamed_is_held(store):
    held, streamed = compare(store, cv=3, memory="1GiB"), compare(store, cv=3, memory=0)
    assert untimed(held) == untimed(streamed)


def test_table(result):
    text = comparison_text(result)
    lines = text.split("\n")
    head = next(line for line in lines if line.startswith("view"))
    assert head.split("  ")[0] == "view"
    assert "  Δ vs best  " in head
    rows = {line.split("  ")[0]: line for line in lines if "  0." in line}
    assert list(rows) == [line.name for line in result.lines]
    for line in result.lines:
        shown = rows[line.name]
        assert f"{line.metrics.macro_recall:.4f}" in shown
        assert f"{line.metrics.log_loss:.4f}" in shown
        assert ("~ best" in shown) == (line is not result.lines[0] and not line.distinguishable)
    assert "best" in rows[result.lines[0].name]
    assert "Not converged" not in text


def test_the_metric_that_was_asked_for_is_in_the_table(store):
    result = compare(store, metric="accuracy", cv=3)
    text = comparison_text(result)
    assert f"{result.lines[-1].metrics.accuracy:.4f}" in text
    assert "difference in accuracy" in text


def test_fits_that_were_ended_are_named(store):
    result = compare(store, cv=2, max_iter=1)
    assert not any(line.converged for line in result.lines)
    assert "Not converged: --max-iter ended fits of" in comparison_text(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"combine": [["cls"]]}, "`combine` names cls by itself: name two views"),
        ({"combine": [["cls", "cls@-1"]]}, "named twice"),
        ({"combine": "greedy"}, "`combine` is 'greedy': give lists of views, or auto"),
        ({"combine": [["auto"], ["cls", "max"]]}, "`combine=auto` finds its views itself"),
        ({"combine": [["cls", "mean@-2"]]}, "holds no view 'mean@-2'; it holds: cls, mean, max"),
        ({"combine": [["cls", "clf"]]}, "unknown tokens 'clf'"),
        ({"cv": 1}, "1 folds are too few"),
        ({"cv": 500}, "fewer than the 500 folds"),
        ({"metric": "auc"}, "unknown metric 'auc'"),
        ({"class_weight": "x"}, "unknown class weight"),
        ({"prior": "even"}, "prior 'even' can't be read"),
        ({"max_iter": 0}, "`max_iter` 0"),
        ({"memory": "lots"}, "'lots' is not a size"),
    ],
)
def test_bad_options(options, message, store):
    with pytest.raises(InputError, match=message):
        compare(store, **options)


def test_labels_are_needed(tmp_path):
    X, y = blobs(30, 4, 3)
    with pytest.raises(InputError, match="has no labels"):
        compare(write_store(tmp_path / "s.h5", X, np.full_like(y, -1)))
    (tmp_path / "text.h5").write_text("id,text")
    with pytest.raises(FileRefused):
        compare(tmp_path / "text.h5")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two views that know half of the matter each, a copy of one of them, and noise."""
    X, y = blobs(400, 8, 3, spread=0.8)
    rng = np.random.default_rng(5)
    views = {
        "cls": X[:, ::2],
        "mean": X[:, 1::2],
        "cls@-2": X[:, ::2],
        "max": rng.normal(size=(len(y), 3)).astype(np.float32),
    }
    return write_store(tmp_path_factory.mktemp("grow") / "s.h5", views, y)


@pytest.mark.parametrize("metric", ["macro-recall", "log-loss"])
def test_auto_adds_what_helps_and_stops(metric, parts):
    result = compare(parts, combine="auto", metric=metric)
    names = {line.name for line in result.lines}
    assert {"cls", "mean", "cls@-2", "max"} < names
    # A copy of a view may win by chance: what both know is what the rows can tell.
    near = [
        set(one.views) for one in result.lines if one.difference == 0 or not one.distinguishable
    ]
    assert {"cls", "mean"} in near or {"cls@-2", "mean"} in near
    assert all(len(views) > 1 for views in near)
    # The step after the one that helped was tried, and nothing beyond it.
    assert max(len(line.views) for line in result.lines) == 3
    assert sum(len(line.views) == 2 for line in result.lines) == 3
    assert sum(len(line.views) == 3 for line in result.lines) == 2


def test_auto_of_one_view_has_nothing_to_add(tmp_path):
    path = write_store(tmp_path / "s.h5", *blobs(90, 6, 3))
    assert len(compare(path, combine="auto", cv=3).lines) == 1


def test_auto_keeps_a_single_view_where_others_are_noise(tmp_path):
    X, y = blobs(150, 8, 3)
    noise = np.random.default_rng(1).normal(size=(150, 3)).astype(np.float32)
    path = write_store(tmp_path / "s.h5", {"cls": X, "max": noise}, y)
    result = compare(path, combine="auto", cv=3)
    assert {line.name for line in result.lines} == {"cls", "max", "cls + max"}
    single = next(line for line in result.lines if line.name == "cls")
    assert not single.distinguishable
