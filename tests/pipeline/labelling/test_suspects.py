"""Labels that are wrong on purpose are found, from the library and from the command line."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import average_precision_score
from stores import LABELS, OTHER_SPEC, blobs, write_store

from features.errors import FileRefused, InputError
from pipeline.cli.commands import main
from pipeline.data.join import open_joined
from pipeline.data.labelled_rows import validation_rows
from pipeline.fit import fit
from pipeline.head.head import save_head
from pipeline.labelling.suspects import COLUMNS, gather, suspects

N = 400
NOISES = {
    "uniform": lambda rng, y: (y + rng.integers(1, 3, len(y))) % 3,
    "of classes": lambda rng, y: np.where(y == 2, 1, y),
}


def noisy(kind, share=0.15):
    """Clouds, and their labels with a share of them made wrong."""
    X, y = blobs(N, 8, 3, seed=1)
    rng = np.random.default_rng(0)
    wrong = np.where(rng.random(N) < share, NOISES[kind](rng, y), y)
    return X, wrong, wrong != y


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suspects")
    X, y, is_wrong = noisy("uniform")
    store = write_store(folder / "s.h5", X, y)
    head = fit(store, C=0.01).head
    save_head(head, folder / "head.joblib")
    return folder, head, is_wrong


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("class_weight", ["balanced", "none"])
def test_wrong_labels_come_first(kind, class_weight, tmp_path):
    X, y, is_wrong = noisy(kind)
    store = write_store(tmp_path / "s.h5", X, y)
    found = suspects(fit(store, C=0.01, class_weight=class_weight).head, store, repeats=2)
    scores = found.doubts
    for score in (scores.combined, scores.loss, scores.confident, scores.neighbours):
        assert average_precision_score(is_wrong, score) > 3 * is_wrong.mean()
    assert average_precision_score(is_wrong, scores.combined) > 5 * is_wrong.mean()
    assert is_wrong[found.shown[:10]].mean() >= 0.7


def test_the_suggestion_is_mostly_the_true_class(fitted):
    folder, head, is_wrong = fitted
    found = suspects(head, folder / "s.h5", repeats=1, number=30)
    _, truth = blobs(N, 8, 3, seed=1)
    there = [row for row in found.shown if is_wrong[row]]
    assert np.mean(found.doubts.suggested[there] == truth[there]) > 0.9


def test_the_order_of_the_rows_moves_nothing(fitted, tmp_path):
    folder, head, _ = fitted
    X, y, _ = noisy("uniform")
    order = np.random.default_rng(3).permutation(N)
    turned = write_store(
        tmp_path / "t.h5",
        X[order],
        y[order],
        texts=[f"text {i}" for i in order],
        ids=[f"row-{i}" for i in order],
    )
    here, there = (suspects(head, path, number=20) for path in (folder / "s.h5", turned))
    assert here.ids == there.ids
    assert here.rows.tolist() == order[there.rows].tolist()


def test_the_second_round_is_surer_of_wrong_labels(tmp_path):
    """Models that learn less from doubtful rows give less to labels that are wrong."""
    X, y, is_wrong = noisy("of classes", share=0.3)
    store = write_store(tmp_path / "s.h5", X, y)
    head = fit(store, C=0.01).head
    with open_joined(store) as stores:
        rows = validation_rows(stores, head.sources, head.labels)
        evidence = gather(head, rows, repeats=2)
    assert evidence.plain.shape == evidence.proba.shape == (2, N, 3)
    np.testing.assert_allclose(evidence.proba.sum(axis=2), 1)
    of_label = [one.mean(axis=0)[np.arange(N), y] for one in (evidence.plain, evidence.proba)]
    assert of_label[1][is_wrong].mean() < of_label[0][is_wrong].mean()


def test_rows_without_a_label_are_left_out(fitted, tmp_path):
    _, head, _ = fitted
    X, y, _ = noisy("uniform")
    X, y = np.vstack([np.zeros((3, 8), np.float32), X]), np.concatenate([[-1] * 3, y])
    store = write_store(tmp_path / "s.h5", X, y, texts=["a", "b", "c", *map(str, range(N))])
    found = suspects(head, store, number=10, repeats=1)
    assert found.unlabelled == 3
    assert len(found.y) == N
    assert found.ids == [f"row-{row}" for row in found.rows]


def test_two_encoders_and_all_rows(tmp_path):
    X, y, is_wrong = noisy("uniform")
    one = write_store(tmp_path / "a.h5", X[:, :4], y)
    other = write_store(tmp_path / "b.h5", X[5:, 4:], y[5:], spec=OTHER_SPEC, texts=TEXTS, ids=IDS)
    found = suspects(fit([one, other], C=0.01).head, [one, other], number=10_000, repeats=1)
    assert len(found.ids) == len(found.y) == N - 5
    assert found.ids == [f"row-{row}" for row in found.rows]
    assert average_precision_score(is_wrong[5:], found.doubts.combined) > 0.5


TEXTS, IDS = [f"text {i}" for i in range(5, N)], [f"row-{i}" for i in range(5, N)]


def test_the_command_writes_a_table(fitted, tmp_path):
    folder, _, is_wrong = fitted
    output = tmp_path / "suspects.csv"
    arguments = [str(folder / "head.joblib"), str(folder / "s.h5"), "-n", "25", "--repeats", "1"]
    result = CliRunner().invoke(main, ["suspects", *arguments, "-o", str(output)])
    assert result.exit_code == 0, result.output
    assert "Confident learning counts" in result.output
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["rank"] for row in rows] == [str(n) for n in range(1, 26)]
    assert {row["label"] for row in rows} <= set(LABELS)
    assert all(row["label"] != row["suggested"] for row in rows)
    assert is_wrong[[int(row["row"]) for row in rows]].mean() > 0.7
    lines = CliRunner().invoke(main, ["suspects", *arguments]).stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [row["id"] for row in rows]


def without(name):
    return lambda head: dataclasses.replace(
        head, metadata={k: v for k, v in head.metadata.items() if k != name}
    )


def saying(name, value):
    return lambda head: dataclasses.replace(head, metadata={**head.metadata, name: value})


REFUSED = {
    "a head without C": (without("C"), {}, InputError, "with which C"),
    "a C that is none": (saying("C", "much"), {}, InputError, "with which C"),
    "scales that are none": (saying("view_scales", [1.0, 2.0]), {}, InputError, "scales"),
    "no rows": (lambda head: head, {"number": 0}, InputError, "`number` is 0"),
    "too many folds": (lambda head: head, {"cv": 200}, InputError, "fewer than the 200 folds"),
    "little memory": (lambda head: head, {"memory": 1000}, InputError, "raise `memory`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, fitted):
    folder, head, _ = fitted
    change, options, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        suspects(change(head), folder / "s.h5", **options)


def test_stores_that_do_not_fit_are_refused(fitted, tmp_path):
    _, head, _ = fitted
    X, y, _ = noisy("uniform")
    bare = write_store(tmp_path / "bare.h5", X, np.full(N, -1))
    with pytest.raises(InputError, match="no labelled rows"):
        suspects(head, bare)
    other_view = write_store(tmp_path / "view.h5", {"mean": X}, y)
    with pytest.raises(InputError, match="holds no view 'cls'"):
        suspects(head, other_view)
    other_encoder = write_store(tmp_path / "encoder.h5", X, y, spec=OTHER_SPEC)
    with pytest.raises(FileRefused, match="extract the"):
        suspects(head, other_encoder)
    other_labels = write_store(tmp_path / "labels.h5", X, y, labels=["a", "b", "c"])
    with pytest.raises(InputError, match="labels that are not in the training rows"):
        suspects(head, other_labels)
    one_class = write_store(tmp_path / "one.h5", X, np.zeros(N, int))
    with pytest.raises(InputError, match="'neutral' has 0 labelled rows"):
        suspects(head, one_class)


def test_progress_counts_the_models_of_both_rounds(fitted):
    folder, head, _ = fitted
    seen = []
    suspects(head, folder / "s.h5", repeats=2, progress=lambda done, of: seen.append((done, of)))
    done, of = zip(*seen, strict=True)
    assert set(of) == {20}
    assert list(done) == sorted(done)
    assert {10, 20} <= set(done)
