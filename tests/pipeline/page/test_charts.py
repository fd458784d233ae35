"""Drawings: places by hand, and well-formed whatever the names are."""

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from report_examples import example_facts

from pipeline.page import axes, charts

HOSTILE = "</svg><script>alert('1')</script> & \" \x00"


@pytest.fixture(scope="module")
def facts():
    return example_facts().to_dict()


def drawn(svg):
    """The root of a drawing, which is XML but for its name space."""
    return ET.fromstring(svg)


def circles(svg):
    return [(float(c.get("cx")), float(c.get("cy"))) for c in drawn(svg).iter("circle")]


def texts(svg):
    return [one.text for one in drawn(svg).iter("text")]


def test_reliability_puts_dots_where_they_belong():
    bins = [
        {"confidence": 0.5, "accuracy": 0.25, "rows": 10},
        {"confidence": 1.0, "accuracy": 1.0, "rows": 40},
    ]
    middle = (axes.LEFT + axes.RIGHT) / 2
    quarter = axes.BOTTOM + 0.25 * (axes.TOP - axes.BOTTOM)
    svg = charts.reliability(bins, "before calibration")
    assert circles(svg) == [(middle, quarter), (axes.RIGHT, axes.TOP)]
    radii = [float(one.get("r")) for one in drawn(svg).iter("circle")]
    assert radii == pytest.approx([2.5 + 5.5 / 2, 8.0], abs=0.06)


def test_reliability_of_no_rows():
    assert circles(charts.reliability([], "")) == []


def test_lengths_draw_a_bar_a_bin():
    svg = charts.lengths({"edges": [0, 10, 40], "counts": [3, 6], "truncated": 1})
    bars = list(drawn(svg).iter("rect"))
    assert [float(one.get("width")) + 1 for one in bars] == pytest.approx(
        [(axes.RIGHT - axes.LEFT) / 4, (axes.RIGHT - axes.LEFT) * 3 / 4], abs=0.11
    )
    heights = [float(one.get("height")) for one in bars]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.11)


def test_choice_marks_what_was_chosen(facts):
    svg = charts.choice(facts["choice"])
    marks = [one.get("class") for one in drawn(svg).iter("circle")]
    assert marks == [
        "mark plain",
        "mark chosen",
        "mark plateau",
        "mark plain",
        "mark plain",
    ]
    xs = [x for x, _ in circles(svg)]
    assert [b - a for a, b in pairwise(xs)] == pytest.approx([xs[1] - xs[0]] * 4, abs=0.11)


def test_choice_of_one_candidate(facts):
    one = facts["choice"]["grid"][1]
    assert len(circles(charts.choice({"metric": "log-loss", "grid": [one]}))) == 1


def test_a_learning_curve_has_doublings_equally_far_apart(facts):
    svg = charts.learning_curve(facts["learning_curve"])
    xs = [x for x, _ in circles(svg)]
    assert len(xs) == 6
    steps = [b - a for a, b in pairwise(xs)]
    assert steps == pytest.approx([steps[0]] * 5, abs=0.11)
    assert {"480", "240", "120"} <= set(texts(svg))


def test_a_learning_curve_without_a_forecast(facts):
    found = {**facts["learning_curve"], "forecast": None}
    assert len(circles(charts.learning_curve(found))) == 5


def test_precision_recall_has_a_line_a_class(facts):
    lines = [
        one
        for one in drawn(charts.precision_recall(facts["precision_recall"])).iter("path")
        if one.get("class").startswith("curve")
    ]
    assert [one.get("class") for one in lines] == [
        "curve c0 dash0",
        "curve c1 dash1",
        "curve c2 dash2",
    ]
    places = [tuple(map(float, one.split())) for one in lines[0].get("d")[1:].split("L")]
    height = axes.BOTTOM - axes.TOP
    assert places == [
        (axes.LEFT, axes.TOP),
        ((axes.LEFT + axes.RIGHT) / 2, pytest.approx(axes.BOTTOM - 0.8 * height, abs=0.06)),
        (axes.RIGHT, pytest.approx(axes.BOTTOM - 0.33 * height, abs=0.06)),
    ]


def test_more_classes_than_colours_share_one():
    assert [charts.colour(k) for k in (0, 7, 8, 99)] == ["c0", "c7", "c-rest", "c-rest"]


def test_both_axes_are_named(facts):
    curve = {**facts["learning_curve"], "metric": "macro_f1"}
    named = {
        charts.lengths(facts["data"]["lengths"]): {"tweets", "tokens in a tweet"},
        charts.choice(facts["choice"]): {"macro recall", "C, the inverse of the penalty"},
        charts.precision_recall(facts["precision_recall"]): {"precision", "recall"},
        charts.reliability(facts["reliability"]["after"], ""): {
            "right among predictions of that confidence",
            "confidence",
        },
        charts.learning_curve(curve): {"macro F1", "labelled rows"},
    }
    for svg, titles in named.items():
        assert titles <= set(texts(svg))


def test_differences_put_gains_right_of_zero(facts):
    svg = charts.differences(facts["changes"]["metrics"])
    (gain, _), (loss, _) = circles(svg)
    zero = next(one for one in drawn(svg).iter("path") if one.get("class") == "axis")
    assert loss < float(zero.get("d")[1:].split()[0]) < gain


def test_differences_of_shares_have_one_scale_and_losses_another():
    def change(name, difference):
        return {"name": name, "difference": difference, "low": 0.0, "high": difference}

    svg = charts.differences(
        [change("accuracy", 0.02), change("macro-f1", 0.01), change("log-loss", 0.5)]
    )
    assert [x for x, _ in circles(svg)] == [340, (245 + 340) / 2, 340]
    still = charts.differences([change("accuracy", 0.0)])
    assert [x for x, _ in circles(still)] == [245]


def test_names_from_files_are_escaped(facts):
    curves = [{**facts["precision_recall"][0], "label": HOSTILE}]
    assert "<script>alert" in drawn(charts.precision_recall(curves)).get("aria-label")
    change = [{**facts["changes"]["metrics"][0], "name": HOSTILE}]
    assert any("<script>" in text for text in texts(charts.differences(change)) if text)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.6, 0.61), (-3, 7), (0, 45616), (1e-9, 2e-9), (5, 5)]
)
def test_ticks_are_few_and_within(low, high):
    ticks = axes.round_ticks(low, high)
    assert 1 <= len(ticks) <= 6
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in ticks)
    assert ticks == sorted(set(ticks))
