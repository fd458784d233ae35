import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import blobs, make_head, write_store

from features.base.shown import printable
from features.store.reader import FeatureStore
from pipeline.evaluation.metrics import measure
from pipeline.fit import fit
from pipeline.labelling.suspects import suspects
from pipeline.report.fits import fit_text
from pipeline.report.labels import suspects_text
from pipeline.report.layout import table
from pipeline.report.metrics import metrics_text
from pipeline.report.stores_and_heads import head_text, predict_text, store_text
from pipeline.scoring.output_files import Written

ODD = "a\x1b[31mb\r\nc\x00\u202e\u2028"


def test_table():
    rows = [["class", "rows", "recall"], ["a", "1,000", "0.5000"], ["negative", "7", "1.0000"]]
    assert table(rows) == (
        "class      rows  recall\na         1,000  0.5000\nnegative      7  1.0000"
    )


@settings(deadline=None)
@given(st.lists(st.lists(st.text("abc1.", max_size=8), min_size=3, max_size=3), min_size=1))
def test_columns_line_up(rows):
    lines = table(rows).split("\n")
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for line, row in zip(lines, rows, strict=True):
        padded = line.ljust(sum(widths) + 4)
        ends = [widths[0], widths[0] + 2 + widths[1], sum(widths) + 4]
        cells = [padded[: ends[0]], padded[ends[0] : ends[1]], padded[ends[1] : ends[2]]]
        assert [cell.strip() for cell in cells] == row


@settings(deadline=None)
@given(st.text())
def test_printable_lets_no_control_character_through(text):
    shown = printable(text)
    assert all(c.isprintable() for c in shown)
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("so happy 🎉 für dich", "so happy 🎉 für dich"),
        ("a\x1b[31mb", "a\\u001b[31mb"),
        ("two\nlines\tone", "two\\nlines\\tone"),
        ("\u202egnihton", "\\u202egnihton"),
        ("\ud800", "\\ud800"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


def only_our_own_line_ends(text):
    return all(c.isprintable() or c == "\n" for c in text)


def test_labels_are_escaped_everywhere(tmp_path):
    X, y = blobs(60, 6, 3)
    path = write_store(tmp_path / "s.h5", X, y, [ODD, "b", "c"])
    result = fit(path)
    with FeatureStore(path) as store:
        texts = [
            fit_text(result),
            suspects_text(suspects(result.head, path, repeats=1, number=60)),
            store_text(store),
            head_text(result.head, "head.joblib"),
            metrics_text(result.metrics, "these rows"),
        ]
    for text in texts:
        assert printable(ODD) in text
        assert only_our_own_line_ends(text)


def test_tweets_and_ids_are_escaped_and_cut():
    head = make_head(3, labels=[ODD, "b", "c"])
    row = {"id": ODD, "text": ODD + " long" * 50, "label": ODD}
    row |= {f"p_{name}": 1 / 3 for name in head.labels}
    for shown in (row, {k: v for k, v in row.items() if k != "text"}):
        written = Written({ODD: 1, "b": 0, "c": 0}, [shown])
        text = predict_text(written, "out.csv", 2, "out.csv.rejects.jsonl")
        assert only_our_own_line_ends(text)
        assert "2, listed in out.csv.rejects.jsonl" in text
    assert max(map(len, text.splitlines())) < 250


def test_fit_shows_the_figures(tmp_path):
    path = write_store(tmp_path / "s.h5", *blobs(60, 6, 3))
    result = fit(path)
    text = fit_text(result)
    chosen = re.findall(r"^([\d.e+-]+) .*\bchosen", text, re.MULTILINE)
    assert [float(C) for C in chosen] == [result.head.metadata["C"]]
    for candidate in result.candidates:
        assert f"{candidate.score:.4f}" in text
    assert f"{result.metrics.macro_recall:.4f}" in text
    assert "Not converged" not in text
    assert "Not converged: --max-iter ended" in fit_text(fit(path, C=10, max_iter=1))


def test_calibration_and_prior_are_said(tmp_path):
    path = write_store(tmp_path / "s.h5", *blobs(90, 6, 3))
    result = fit(path)
    text = fit_text(result)
    found = result.head.metadata["calibration"]
    assert f"temperature {found['temperature']:.3f}" in text
    assert f"log-loss {found['before']['log_loss']:.4f} to {found['after']['log_loss']:.4f}" in text
    assert re.search(r"both for the prior +uniform", text)
    skewed = fit(path, C=0.1, prior="negative=1,neutral=1,positive=2")
    text = fit_text(skewed)
    assert re.search(r"calibration +none", text)
    shares = r"negative 0\.250, neutral 0\.250, positive 0\.500"
    assert re.search(rf"both for the prior +{shares}", text)
    assert re.search(rf"prior +{shares}", head_text(skewed.head, "head.joblib"))


def test_confusion_matrix_by_rows_of_the_truth():
    y = np.array([0, 0, 0, 1])
    proba = np.eye(2)[[0, 1, 1, 1]]
    text = metrics_text(measure(y, proba, ["yes", "no"]), "four rows")
    assert re.search(r"^true \\ predicted +yes +no$", text, re.MULTILINE)
    assert re.search(r"^yes +1 +2$", text, re.MULTILINE)
    assert re.search(r"^no +0 +1$", text, re.MULTILINE)
    assert "(4 rows)" in text
