"""What a notebook shows of stores, heads, metrics and comparisons: small, escaped, no torch."""

import dataclasses
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from stores import LABELS, SPEC, blobs, make_head, write_store

from features import FeatureStore
from features.base.notebook import MOST_ROWS, facts_html, table_html
from pipeline import compare
from pipeline.evaluation.metrics import measure

ROOT = Path(__file__).parents[1]
HOSTILE = [
    "<script>alert(1)</script>",
    '"&amp;<b onmouseover=x>',
    "\x1b[2J",
    "\u202egnirts",
    "o" + "\u0300" * 10_000,
    "a\ud800",
]


class Cells(HTMLParser):
    """The text of all cells by row, with the names of all elements."""

    def __init__(self, html):
        super().__init__()
        self.names, self.rows, self.open = set(), [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert attributes == []
        self.names.add(tag)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def cells_of(html):
    found = Cells(html)
    assert found.names <= {"strong", "table", "tr", "th", "td", "p"}
    return found.rows


@pytest.fixture
def store(tmp_path):
    write_store(tmp_path / "s.h5", *blobs(60, 8, 3), labels=LABELS)
    return tmp_path / "s.h5"


def test_a_store_shows_itself_open_and_closed(store):
    with FeatureStore(store) as opened:
        shown = opened._repr_html_()
    assert opened._repr_html_() == shown
    facts = dict(cells_of(shown))
    assert facts["rows"] == "60"
    assert facts["views"] == "cls (8)"
    assert facts["classes"] == '"negative", "neutral", "positive"'
    assert facts["fingerprint"] == SPEC.fingerprint
    assert str(store) in shown


def test_a_head_shows_itself():
    head = make_head(3)
    record = {"rows": 1234, "C": 0.01, "metrics": {"macro_recall": 0.71236}, "measured_on": "folds"}
    head = dataclasses.replace(head, metadata={**head.metadata, **record})
    facts = dict(cells_of(head._repr_html_()))
    assert facts["fitted on"] == "1,234 rows, C = 0.01"
    assert facts["macro recall"] == "0.7124 on folds"
    assert SPEC.fingerprint[:12] in facts["encoders"]
    assert "macro recall" not in make_head(2)._repr_html_()


def metrics_of(labels):
    y = np.repeat(np.arange(len(labels)), 2)
    proba = np.full((len(y), len(labels)), 0.1 / len(labels))
    proba[np.arange(len(y)), np.where(np.arange(len(y)) == 1, 1, y)] += 0.9
    return measure(y, proba / proba.sum(axis=1, keepdims=True), labels)


def test_metrics_show_themselves():
    metrics = metrics_of(LABELS)
    rows = cells_of(metrics._repr_html_())
    assert ["accuracy", f"{5 / 6:.4f}"] in rows
    assert ["negative", "2", "1.0000", "0.5000", "0.6667"] in rows
    assert rows[-4:] == [
        ["true \\ predicted", *LABELS],
        ["negative", "1", "1", "0"],
        ["neutral", "0", "2", "0"],
        ["positive", "0", "0", "2"],
    ]


def test_a_comparison_shows_itself(tmp_path):
    X, y = blobs(90, 8, 3)
    write_store(tmp_path / "s.h5", {"cls": X, "mean": X[:, :4], "max": X[:, 6:]}, y, LABELS)
    found = compare(tmp_path / "s.h5")
    rows = cells_of(found._repr_html_())[-3:]
    assert [row[0] for row in rows] == [line.name for line in found.lines]
    for row, line in zip(rows, found.lines, strict=True):
        assert row[3] == f"{line.metrics.macro_recall:.4f}"
        assert (row[4] == "") == (line is found.lines[0])
    assert rows[0][5] == "best"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_and_short(name, tmp_path):
    for shown in (
        facts_html(name, {name: name}),
        table_html([name], [[name]]),
        metrics_of([name, "b"])._repr_html_(),
        dataclasses.replace(make_head(2), labels=(name, "b"))._repr_html_(),
    ):
        cells_of(shown)
        shown.encode()
        assert "\x1b" not in shown and "\u202e" not in shown
        assert len(shown) < 10_000


def test_many_classes_stay_small():
    labels = [f"class {n}" for n in range(1000)]
    shown = metrics_of(labels)._repr_html_()
    assert len(shown) < 10_000
    assert f"… and {1000 - MOST_ROWS:,} more" in shown
    assert "true \\ predicted" not in shown
    assert len(make_head(1000)._repr_html_()) < 10_000


def test_showing_loads_no_torch(store):
    program = (
        "import sys; from features import FeatureStore; from pipeline import compare\n"
        f"print(len(FeatureStore({str(store)!r})._repr_html_()))\n"
        f"print(len(compare({str(store)!r})._repr_html_()))\n"
        "print([name for name in ('torch', 'transformers', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
