"""Markdown shows hostile text as text, and the figures of the facts."""

import json

import pytest
from report_examples import HOSTILE, example_facts, example_points

from features.base.markdown import escaped
from pipeline.facts.markdown import markdown_of


@pytest.fixture(scope="module")
def text():
    """A report that lists all hostile texts, also as the id and the label of a row."""
    facts = json.loads(json.dumps(example_facts().to_dict()))
    for one, hostile in zip(facts["mistakes"], HOSTILE, strict=False):
        one["text"] = one["id"] = one["label"] = hostile
    return markdown_of(facts)


def test_hostile_texts_are_escaped(text):
    for raw in ("<script", "<img", "[a](", "![b", "\x1b", "\u202e", "\u2066", "\x00", "\r"):
        assert raw not in text
    assert "&lt;script\\>alert(1)&lt;/script\\>" in text
    assert "\u0301" * 300 not in text
    assert "javascript:" not in text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_text_stays_in_its_cell(hostile):
    cell = escaped(hostile)
    assert "\n" not in cell
    assert cell.isprintable()
    assert cell.replace("\\|", "").count("|") == 0
    assert len(cell) < 1000


def test_tables_have_as_many_cells_in_each_row(text):
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) > 8
    for block in blocks:
        counts = {
            line.replace("\\\\", "").replace("\\|", "").count("|") for line in block.split("\n")
        }
        assert len(counts) == 1, block


def test_figures_are_those_of_the_facts(text):
    facts = example_facts()
    assert f"{facts.metrics['macro_recall']:.4f}" in text
    assert "about +1.2 points (+0.4 to +2.0)" in text
    for one in facts.checks:
        assert one.status in text
        assert escaped(one.finding, None) in text


def test_what_is_not_there_is_left_out():
    facts = example_facts(example_points(with_text=False)).to_dict()
    for name in ("choice", "learning_curve", "changes"):
        facts[name] = None
    facts["suspects"] = ()
    text = markdown_of(facts)
    for word in ("| text |", "Learning curve", "Choice of C", "changed", "probably wrong"):
        assert word not in text
