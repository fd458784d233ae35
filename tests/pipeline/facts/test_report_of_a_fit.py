"""`fit --report`: a head that was fitted with corrections is shown beside the one before it."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from stores import LABELS, blobs, write_store

from pipeline.cli.commands import main
from pipeline.head.head import load_head

N = 400


def run(*arguments, codes=(0,)):
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    assert result.exit_code in codes, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clouds with a third of the labels wrong, a head of them, and the corrections."""
    folder = tmp_path_factory.mktemp("loop")
    X, y = blobs(N, 8, 3, seed=1)
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(N) < 0.33, (y + rng.integers(1, 3, N)) % 3, y)
    write_store(folder / "s.h5", X, noisy)
    with (folder / "corrections.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "row", "label"])
        for row in np.flatnonzero(noisy != y):
            writer.writerow([f"row-{row}", row, LABELS[y[row]]])
    run("fit", folder / "s.h5", "-o", folder / "old.joblib", "--C", 1.0, "--cv", 5)
    (folder / "n").write_text(str((noisy != y).sum()))
    return folder


@pytest.fixture(scope="module")
def said(folder):
    run(
        *("fit", folder / "s.h5", "--corrections", folder / "corrections.csv", "--C", 1.0),
        *("--cv", 5, "-o", folder / "new.joblib", "--against", folder / "old.joblib"),
        *(
            "--report",
            folder / "r.json",
            "--report",
            folder / "r.md",
            "--report",
            folder / "r.html",
        ),
    )
    return json.loads((folder / "r.json").read_text())


def test_figures_are_those_of_the_fit(folder, said):
    expected = load_head(folder / "new.joblib").metadata["metrics"]
    for name in ("macro_recall", "accuracy"):
        assert said["metrics"][name] == pytest.approx(expected[name], abs=5e-3)
    assert "out of fold" in said["metrics"]["measured_on"]
    assert not any("other labels" in line for line in said["left_out"])


def test_what_has_changed(folder, said):
    changes = said["changes"]
    assert changes["against"] == str(folder / "old.joblib")
    assert changes["corrections"] == int((folder / "n").read_text())
    by_name = {one["name"]: one for one in changes["metrics"]}
    for name, better in (("macro-recall", 1), ("accuracy", 1), ("log-loss", -1)):
        one = by_name[name]
        assert one["difference"] == pytest.approx(one["after"] - one["before"])
        assert one["low"] < one["difference"] < one["high"]
        assert better * one["difference"] > 0
    assert by_name["log-loss"]["high"] < 0
    assert by_name["accuracy"]["after"] == pytest.approx(said["metrics"]["accuracy"])
    assert changes["undisputed"]["rows"] == N - changes["corrections"]


def test_changes_are_those_that_fit_says(folder, said):
    expected = load_head(folder / "new.joblib").metadata["changes"]
    assert said["changes"]["flipped"] == expected["flipped"]
    for of_rows in (lambda it: it["metrics"], lambda it: it["undisputed"]["metrics"]):
        for ours, theirs in zip(of_rows(said["changes"]), of_rows(expected), strict=True):
            # Of the head's own models there are fits to fewer digits.
            assert ours == pytest.approx(theirs, abs=2e-3)


def test_the_report_is_made_again_with_the_corrections(folder, said):
    command = said["provenance"]["commands"][1].split()
    assert "--corrections" in command
    run(*command[1:])
    again = json.loads((folder / "r.json").read_text())
    assert again["metrics"] == said["metrics"]
    assert again["changes"] == said["changes"]


def test_without_the_corrections_the_report_says_so(folder, said):
    run("report", folder / "new.joblib", folder / "s.h5", "-o", folder / "without.json")
    without = json.loads((folder / "without.json").read_text())
    assert any("other labels" in line for line in without["left_out"])


def test_rows_that_had_no_label_are_scored_by_the_head_before(folder, tmp_path):
    X, y = blobs(N, 8, 3, seed=5)
    write_store(tmp_path / "pool.h5", X, [-1] * N, ids=[f"pool-{i}" for i in range(N)])
    lines = "".join(f"pool-{i},{LABELS[y[i]]}\n" for i in range(100))
    (tmp_path / "next.csv").write_text("id,label\n" + lines)
    run(
        *("fit", folder / "s.h5", tmp_path / "pool.h5", "--corrections", tmp_path / "next.csv"),
        *("--C", 1.0, "-o", tmp_path / "new.joblib", "--against", folder / "old.joblib"),
        *("--report", tmp_path / "r.json"),
    )
    said = json.loads((tmp_path / "r.json").read_text())
    assert said["changes"]["corrections"] == 100
    assert said["data"]["labelled"] == N + 100
    assert said["data"]["rows"] == 2 * N


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tweets", "corrections.csv"], "--report"),
        (["--report", "r.pdf"], "must end in"),
        (["--report", "r.html", "--against", "new.joblib"], "is an input too"),
        (["--report", "r.html", "--against", "s.h5"], "not a frostline head"),
    ],
)
def test_what_is_refused_before_the_fit(folder, arguments, words, monkeypatch, said):
    monkeypatch.chdir(folder)
    before = (folder / "new.joblib").read_bytes()
    result = run("fit", "s.h5", "-o", "new.joblib", *arguments, codes=(2, 3))
    assert words in result.output
    assert (folder / "new.joblib").read_bytes() == before
