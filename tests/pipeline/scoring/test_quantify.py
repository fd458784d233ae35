"""`frostline quantify`: shares of the classes by groups, from vectors and from tweets."""

import csv
import dataclasses
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner
from stores import LABELS, blobs, blobs_with_shares, make_head, write_store

from features.errors import InputError
from pipeline.cli.commands import main
from pipeline.evaluation.adjusted_counting import adjusted_count
from pipeline.evaluation.label_shift import estimate_shift
from pipeline.fit import fit
from pipeline.head.head import load_head, save_head
from pipeline.plots.shares import MOST_GROUPS, shares_plot
from pipeline.plots.svg import svg_text
from pipeline.report.quantities import quantities_text
from pipeline.scoring.estimated_prior import known_of
from pipeline.scoring.evaluate import Scores
from pipeline.scoring.quantify import COLUMNS, by_stored_label, quantify

SHARES = {"monday": [0.6, 0.2, 0.2], "tuesday": [0.1, 0.3, 0.6]}


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A head, and vectors of two days whose label is the day."""
    folder = tmp_path_factory.mktemp("quantify")
    write_store(folder / "train.h5", *blobs(1500, 8, 3, spread=0.8))
    save_head(fit(folder / "train.h5", C=0.1, cv=5).head, folder / "head.joblib")
    parts = [blobs_with_shares(500, shares, n)[0] for n, shares in enumerate(SHARES.values())]
    days = np.repeat([0, 1, -1], [500, 470, 30])
    write_store(folder / "days.h5", np.concatenate(parts), days, list(SHARES))
    return folder


@pytest.fixture(scope="module")
def head(folder):
    return load_head(folder / "head.joblib")


def scores_of(head, X, groups=()):
    n = len(X)
    return Scores(
        [str(i) for i in range(n)], None, [None] * n, head.predict_proba(X), [""] * n, list(groups)
    )


def test_each_group_is_what_its_rows_are_alone(head):
    parts = {day: blobs_with_shares(300, shares, 7)[0] for day, shares in SHARES.items()}
    X = np.concatenate(list(parts.values()))
    groups = np.repeat(list(parts), 300).tolist()
    order = np.random.default_rng(0).permutation(600)
    blocks = [
        scores_of(head, X[order[:250]], [groups[i] for i in order[:250]]),
        scores_of(head, X[order[250:]], [groups[i] for i in order[250:]]),
    ]
    found = quantify(head, blocks, by="day")
    assert [one.group for one in found.groups] == ["monday", "tuesday"]
    assert (found.all.shift.rows, found.ungrouped) == (600, 0)
    for one in found.groups:
        proba = head.predict_proba(parts[one.group])
        alone = estimate_shift(proba, known_of(head))
        np.testing.assert_allclose(one.shift.shares, alone.shares, atol=1e-6)
        counts = np.bincount(proba.argmax(axis=1), minlength=3)
        expected = adjusted_count(counts, head.held_out.confusion)
        assert one.adjusted == expected
        for intervals in (one.shift.intervals, one.adjusted.intervals):
            low, high = np.transpose(intervals)
            true = SHARES[one.group]
            assert ((low <= true) & (true <= high)).all()


def test_counts_are_adjusted_by_errors_under_the_prior_of_the_held_out_rows(head):
    """A head that was moved to another prior calls other rows by other names."""
    X, _ = blobs_with_shares(400, [0.3, 0.3, 0.4], 8)
    moved = head.with_prior("negative=8,neutral=1,positive=1")
    ours, theirs = (quantify(one, [scores_of(one, X)]) for one in (head, moved))
    assert ours.all.adjusted == theirs.all.adjusted
    np.testing.assert_allclose(ours.all.shift.shares, theirs.all.shift.shares, atol=1e-6)
    assert ours.all.shift.counted != theirs.all.shift.counted


def test_small_groups_are_flagged(head):
    X, _ = blobs_with_shares(130, [0.3, 0.3, 0.4], 9)
    found = quantify(head, [scores_of(head, X, ["a"] * 120 + ["b"] * 10)], by="topic")
    assert [one.is_small for one in found.groups] == [False, True]
    flags = {(row["group"], row["flags"]) for row in found.rows()}
    assert flags == {("", ""), ("a", ""), ("b", "few-rows")}
    text = quantities_text(found)
    assert "b *" in text and "* fewer than 100 rows" in text


def test_groups_in_order_and_rows_without_one(head):
    X, _ = blobs_with_shares(6, [0.3, 0.3, 0.4], 9)
    found = quantify(head, [scores_of(head, X, ["10", "9", None, "x", "9", None])], by="hour")
    assert [one.group for one in found.groups] == ["9", "10", "x"]
    assert [one.shift.rows for one in found.groups] == [2, 1, 1]
    assert found.ungrouped == 2
    assert "2 rows have no value of it" in quantities_text(found)


def test_what_can_not_be_quantified(head):
    X, _ = blobs_with_shares(5, [0.3, 0.3, 0.4], 9)
    with pytest.raises(InputError, match="there is nothing to quantify"):
        quantify(head, [])
    with pytest.raises(InputError, match="no row has a value of 'topic'"):
        quantify(head, [scores_of(head, X)], by="topic")
    with pytest.raises(InputError, match=r"'id' has 3,000 values, more than 2,000: give `by`"):
        many = scores_of(head, np.repeat(X, 600, axis=0), [str(n) for n in range(3000)])
        quantify(head, [many], by="id")
    with pytest.raises(InputError, match="keeps no errors of held-out rows"):
        quantify(make_head(), [])
    confusion = [[5, 1, 1], [0, 0, 0], [1, 1, 5]]
    record = head.metadata["held_out"] | {"confusion": confusion}
    without = dataclasses.replace(head, metadata=head.metadata | {"held_out": record})
    with pytest.raises(InputError, match="measured on no row of class 'neutral'"):
        quantify(without, [])
    with pytest.raises(InputError, match="stored with one column, label, and not with 'day'"):
        by_stored_label([], "day")


def test_from_vectors_on_the_command_line(folder, tmp_path):
    out, plot, said = tmp_path / "s.csv", tmp_path / "s.svg", tmp_path / "s.json"
    options = ["--by", "label", "-o", out, "--plot", plot, "--json", said]
    text = done("quantify", folder / "head.joblib", folder / "days.h5", *options).stdout
    assert "Shares of the classes in 1,000 rows" in text
    assert "30 rows have no value of it" in text
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["by"], row["group"], row["class"]) for row in rows] == [
        (by, group, label)
        for by, group in (("", ""), ("label", "monday"), ("label", "tuesday"))
        for label in LABELS
    ]
    for row in rows[3:]:
        true = SHARES[row["group"]][LABELS.index(row["class"])]
        assert float(row["share_low"]) <= true <= float(row["share_high"])
        assert row["rows"] == {"monday": "500", "tuesday": "470"}[row["group"]]
    shares = [float(row["share"]) for row in rows[3:6]]
    content = json.loads(said.read_text())
    assert [one["group"] for one in content["quantities"]] == [None, "monday", "tuesday"]
    np.testing.assert_allclose(content["quantities"][1]["em"]["shares"], shares, atol=1e-6)
    ET.fromstring(plot.read_text(encoding="utf-8"))


def test_the_rows_go_to_standard_output_alone(folder):
    result = done("quantify", folder / "head.joblib", folder / "days.h5", "-o", "-")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["class"] for row in rows] == list(LABELS)
    assert "Shares of the classes" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "day"], "stored with one column, label, and not with 'day'"),
        (["--plot", "shares.gif"], "the name of a plot must end in .svg, .png or .html"),
        (["-o", "shares.txt"], "shares.txt: unknown format"),
        (["-o", "shares.jsonl", "--excel-safe"], "JSON has no formulas"),
        (["-o", "s.csv", "--json", "s.csv"], "s.csv is the output already"),
    ],
)
def test_wrong_calls(options, message, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("quantify", folder / "head.joblib", folder / "days.h5", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_hostile_names(head):
    """What comes from a file is text in the picture, and no element of it."""
    names = ["<script>alert(1)</script>", '"&', "\x1b[2J", "ü" * 300, "a\ud800"]
    X, _ = blobs_with_shares(5, [0.3, 0.3, 0.4], 9)
    found = quantify(head, [scores_of(head, X, names)], by="<b>")
    picture = svg_text(shares_plot(found).picture)
    root = ET.fromstring(picture)
    kinds = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert kinds == {"svg", "title", "rect", "text", "line", "circle"}
    assert "\x1b" not in picture
    # One circle for each way, class and line.
    circles = [one for one in root.iter() if one.tag.endswith("circle")]
    assert len(circles) == 2 * 3 * 6


def test_a_picture_of_many_groups_says_what_it_leaves_out(head):
    X, _ = blobs_with_shares(150, [0.3, 0.3, 0.4], 9)
    found = quantify(head, [scores_of(head, X, [str(n) for n in range(150)])], by="day")
    assert f"the first {MOST_GROUPS} of 150" in svg_text(shares_plot(found).picture)
