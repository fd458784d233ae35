"""The page's HTML: what it says, what it forbids itself, and how it keeps to its size."""

import base64
import dataclasses
import hashlib
import json
import random
import re
from html.parser import HTMLParser

import pytest
from report_examples import HOSTILE, example_facts, example_points

from features.errors import InputError
from pipeline.facts.figures import Reliability
from pipeline.page.page import render_page
from pipeline.page.words import clean, cut

VOID = {"meta", "link", "input", "br"}


class Tree(HTMLParser):
    """All elements of a page: their tags, attributes, and the text in them."""

    def __init__(self, html):
        super().__init__()
        self.found, self.open = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        one = {"tag": tag, "attrs": dict(attrs), "text": "", "inside": [*self.open]}
        self.found.append(one)
        if tag not in VOID:
            self.open.append(one)

    def handle_endtag(self, tag):
        # A paragraph or a path may be open still; what is not open can't be closed.
        while self.open and self.open.pop()["tag"] != tag:
            pass

    def handle_data(self, data):
        for one in self.open:
            one["text"] += data

    def all(self, tag, within=None):
        return [
            one
            for one in self.found
            if one["tag"] == tag
            and (within is None or any(o["attrs"].get("id") == within for o in one["inside"]))
        ]

    def numbers(self, within):
        return [float(one["attrs"]["value"]) for one in self.all("data", within)]


@pytest.fixture(scope="module")
def points():
    return example_points()


@pytest.fixture(scope="module")
def facts(points):
    return example_facts(points)


@pytest.fixture(scope="module")
def tree(facts, points):
    return Tree(render_page(facts.to_dict(), points))


def numbers_in(value):
    """All numbers of a fact, in order."""
    if isinstance(value, dict):
        return [n for inner in value.values() for n in numbers_in(inner)]
    if isinstance(value, list | tuple):
        return [n for inner in value for n in numbers_in(inner)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_metrics_are_those_of_the_facts(tree, facts):
    metrics = dict(facts.metrics)
    confusion = metrics.pop("confusion")
    interval = metrics.pop("macro_recall_interval")
    assert sorted(tree.numbers("metrics")) == sorted(numbers_in(metrics))
    assert tree.numbers("confusion") == numbers_in(confusion) == numbers_in(facts.confusion.counts)
    said = next(one["text"] for one in tree.all("span") if one["attrs"].get("class") == "between")
    assert said == f"{100 * interval[0]:.1f}% to {100 * interval[1]:.1f}%"


def test_figures_are_those_of_the_facts(tree, facts):
    content = json.loads(json.dumps(facts.to_dict()))
    assert sorted(tree.numbers("changes")) == sorted(numbers_in(content["changes"]["metrics"]))
    grid = [[one[key] for key in ("C", "score", "delta", "log_loss")] for one in _grid(content)]
    assert tree.numbers("choice") == numbers_in(grid)
    curve = content["learning_curve"]
    order = ("rows", "gain", "gain_low", "gain_high", "value", "low", "high")
    forecast = [curve["forecast"][key] for key in order]
    assert tree.numbers("learning") == numbers_in([forecast, curve["points"]])
    average = [one["average_precision"] for one in content["precision_recall"]]
    assert tree.numbers("precision-recall") == average
    suspects = [[s["probability"], s["score"], s["loss"]] for s in content["suspects"]]
    assert tree.numbers("suspects") == numbers_in(suspects)


def _grid(content):
    return content["choice"]["grid"]


def test_sections_come_in_order(tree):
    sections = [one["attrs"]["id"] for one in tree.all("section")]
    assert sections == [
        "changes",
        "checks",
        "data",
        "choice",
        "metrics",
        "confusion",
        "precision-recall",
        "reliability",
        "learning",
        "map",
        "mistakes",
        "uncertain",
        "suspects",
        "provenance",
    ]
    links = [one["attrs"]["href"] for one in tree.all("a") if "nav" in _tags(one)]
    assert links == [f"#{one}" for one in sections]
    ids = [one["attrs"]["id"] for one in tree.found if "id" in one["attrs"]]
    assert len(ids) == len(set(ids))


def _tags(one):
    return [outer["tag"] for outer in one["inside"]]


def test_checks_come_worst_first_with_their_ids(tree):
    checks = [one for one in tree.all("li", "checks") if "id" in one["attrs"]]
    assert [one["attrs"]["class"].split()[1] for one in checks] == [
        "problem",
        "warning",
        "skipped",
        "good",
    ]
    assert checks[0]["attrs"]["id"] == "check-conflicting-labels"
    assert "What to do: Correct." in checks[0]["text"]
    assert "What to do" not in checks[3]["text"]


def test_hostile_texts_are_text(points):
    n = len(HOSTILE)
    label = points.label.copy()
    label[:n] = (points.predicted[:n] + 1) % 3
    points = dataclasses.replace(points, label=label)
    tree = Tree(render_page(example_facts(points).to_dict(), points))
    texts = [one["text"] for one in tree.all("p", "mistakes") if "tweet" in one["attrs"]["class"]]
    assert texts[:n] == [cut(clean(text)) for text in HOSTILE]
    assert len(tree.all("script")) == 4
    assert tree.all("img") == tree.all("textarea") == tree.all("iframe") == []


def test_hostile_names_are_text(facts, points):
    hostile = '"><script>alert(1)</script>\x1b\ud83d`<b>`'
    content = json.loads(json.dumps(facts.to_dict()))
    content["verdict"] = hostile
    content["head"] |= {"file": hostile, "labels": [hostile, "b", "c"]}
    content["data"] |= {"files": [hostile]}
    content["confusion"] |= {"labels": [hostile, "b", "c"]}
    content["precision_recall"][0]["label"] = hostile
    content["metrics"]["classes"][0]["label"] = hostile
    content["mistakes"][0] |= {"id": hostile, "label": hostile}
    content["suspects"][0]["suggested"] = hostile
    content["provenance"] |= {"commands": [hostile], "head": {hostile: [hostile, {"a": hostile}]}}
    content["left_out"] = [hostile]
    content["checks"][0]["cure"] = hostile
    tree = Tree(render_page(content, points))
    assert len(tree.all("script")) == 4
    assert tree.all("h1")[0]["text"] == clean(hostile)
    cure = next(o for o in tree.all("p", "checks") if o["attrs"].get("class") == "cure")
    assert cure["text"] == "What to do: " + clean(hostile).replace("`", "")
    first = next(one for one in tree.found if one["attrs"].get("class") == "row")
    assert json.loads(first["attrs"]["data-id"]) == hostile


def test_the_policy_allows_this_script_and_style_alone(tree):
    policy = next(
        one["attrs"]["content"]
        for one in tree.all("meta")
        if one["attrs"].get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    script = next(one for one in tree.all("script") if "type" not in one["attrs"])
    for kind, one in (("script", script), ("style", tree.all("style")[0])):
        digest = base64.b64encode(hashlib.sha256(one["text"].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_nothing_is_loaded_or_run_from_attributes(tree):
    for one in tree.found:
        for name, value in one["attrs"].items():
            assert not name.startswith("on"), (one["tag"], name)
            assert name not in ("style", "src", "srcset", "action"), (one["tag"], name)
            if name in ("href", "xlink:href"):
                assert re.match(r"#|data:,$", value), value


def test_the_same_facts_give_the_same_page(facts, points):
    assert render_page(facts.to_dict(), points) == render_page(facts.to_dict(), points)


def test_what_is_not_known_is_left_out(facts, points):
    less = dataclasses.replace(
        facts,
        head=dataclasses.replace(facts.head, C=None, prior=None, calibration=None),
        data=dataclasses.replace(facts.data, scripts=None),
        choice=None,
        learning_curve=None,
        changes=None,
        reliability=Reliability(None, facts.reliability.after),
        mistakes=(),
        uncertain=(),
        suspects=(),
    )
    tree = Tree(render_page(less.to_dict(), None))
    sections = [one["attrs"]["id"] for one in tree.all("section")]
    assert {"changes", "choice", "learning", "map"}.isdisjoint(sections)
    links = [one["attrs"]["href"] for one in tree.all("a") if "nav" in _tags(one)]
    assert links == [f"#{one}" for one in sections]
    assert len(tree.all("script")) == 2
    assert tree.all("button", "confusion") == []


def test_a_page_without_texts_has_none_of_them():
    points = example_points(with_text=False)
    html = render_page(example_facts(points).to_dict(), points)
    assert "tweet number" not in html
    assert Tree(html).all("p", "mistakes")[0]["text"] == "text not included"


def left_out(html):
    return [one["text"] for one in Tree(html).all("li", "left-out")]


@pytest.mark.parametrize("max_bytes", [120_000, 150_000, 200_000])
def test_a_page_keeps_to_its_size_and_says_what_is_cut(facts, max_bytes):
    points = example_points(5000)
    points.texts[:] = [f"{text} {n**30} " * 4 for n, text in enumerate(points.texts)]
    html = render_page(facts.to_dict(), points, max_bytes=max_bytes)
    assert 0.7 * max_bytes < len(html.encode()) <= max_bytes
    assert left_out(html)[0] == facts.left_out[0]
    assert "characters" in left_out(html)[1]
    notes = [
        one["text"] for one in Tree(html).all("p", "map") if one["attrs"].get("class") == "note"
    ]
    assert notes[:-1] == left_out(html)[1:]


def test_as_many_tweets_as_tweeteval_has_fit_into_the_default(facts):
    points = example_points(45_616)
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(20_000)]
    points.texts[:] = [" ".join(rng.choices(words, k=18)) for _ in points.texts]
    assert 100 < sum(map(len, points.texts)) / len(points.texts) < 130
    html = render_page(facts.to_dict(), points)
    assert len(html.encode()) <= 4_000_000
    assert [one for one in left_out(html)[1:] if "rows, drawn at random" in one] == []


def test_a_page_that_is_too_large_anyhow_names_a_size_that_works(facts, points):
    with pytest.raises(InputError, match="without the map") as caught:
        render_page(facts.to_dict(), points, max_bytes=20_000)
    enough = int(re.search(r"`max_size=(\d+)`", str(caught.value))[1])
    html = render_page(facts.to_dict(), points, max_bytes=enough)
    assert len(html.encode()) == enough
    assert left_out(html)[1] == "The map of 300 rows does not fit into this file."
