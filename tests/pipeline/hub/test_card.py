"""The card says what the head says, in metadata that the hub reads and Markdown that holds."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from report_examples import HOSTILE
from sklearn.metrics import accuracy_score, f1_score, recall_score
from stores import SPEC, blobs, make_head, write_store

from features.errors import InputError
from features.spec.checkpoint import DEFAULT_HUB_ID, DEFAULT_MODEL
from pipeline import fit
from pipeline.evaluation.metrics import METRICS
from pipeline.head.pretrained import card_for
from pipeline.hub.card import HUB_METRICS
from pipeline.hub.card_text import FIGURES


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    path = tmp_path_factory.mktemp("card") / "s.h5"
    write_store(path, *blobs(400, 8, 3))
    return fit(path, cv=5).head


def with_spec(head, **changes):
    spec = dataclasses.replace(head.sources[0].spec, **changes)
    return dataclasses.replace(
        head, sources=tuple(dataclasses.replace(one, spec=spec) for one in head.sources)
    )


def with_metadata(head, **changes):
    return dataclasses.replace(head, metadata=head.metadata | changes)


def parsed(card):
    """As huggingface_hub reads it, which raises where the metadata are not as the hub wants."""
    return ModelCard(card)


def test_the_metadata_are_those_that_the_hub_reads(fitted):
    head = with_spec(fitted, model=DEFAULT_MODEL)
    data = parsed(card_for(head, "hf:jane/tweets", license="mit", language=("en", "de"))).data
    assert data.library_name == "frostline"
    assert data.pipeline_tag == "text-classification"
    assert data.base_model == DEFAULT_HUB_ID
    assert data.license == "mit"
    assert data.language == ["en", "de"]
    assert data.tags[:2] == ["frostline", "tweets"]
    assert data.metrics == ["recall", "accuracy", "f1"]
    assert data.model_name == "tweets"
    for result in data.eval_results:
        assert result.task_type == "text-classification"
        assert result.dataset_type == "unknown"
        assert result.dataset_name == fitted.metadata["measured_on"]


def test_the_results_are_those_of_scikit_learn(fitted):
    """Counted again from the confusion matrix of held-out rows."""
    counts = fitted.metadata["metrics"]["confusion"]
    pairs = [(t, p) for t, row in enumerate(counts) for p, n in enumerate(row) for _ in range(n)]
    true, found = np.array(pairs).T
    expected = {
        "recall": recall_score(true, found, average="macro"),
        "accuracy": accuracy_score(true, found),
        "f1": f1_score(true, found, average="macro"),
    }
    results = {one.metric_type: one for one in parsed(card_for(fitted, "x")).data.eval_results}
    assert {name: one.metric_value for name, one in results.items()} == pytest.approx(expected)
    for name in ("recall", "f1"):
        assert results[name].metric_args == {"average": "macro"}


def test_every_figure_has_its_words():
    """A new metric is shown in cards by being added to the table."""
    assert {name.replace("-", "_") for name in METRICS} <= set(FIGURES)
    assert set(HUB_METRICS) <= set(FIGURES)


def test_the_interval_is_in_the_text(fitted):
    low, high = fitted.metadata["metrics"]["macro_recall_interval"]
    assert f"{low:.4f} to {high:.4f}" in card_for(fitted, "x")


def test_what_is_not_known_is_left_out():
    card = card_for(make_head(), "head.joblib")
    assert yaml.safe_load(card.split("---\n")[1]).keys() == {
        "library_name",
        "pipeline_tag",
        "tags",
    }
    for word in ("Results", "None", "nan", "unknown", "model-index", "C = 0.01, chosen"):
        assert word not in card
    assert "not calibrated" in card
    assert "C = 0.01" in card


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": "google-bert/bert-base-uncased", "revision": "a" * 40}, True),
        ({"model": "google-bert/bert-base-uncased"}, False),
        ({"model": "/home/jane/models/own"}, False),
        ({"model": "owner/na me\n- evil: yes", "revision": "x"}, False),
    ],
)
def test_an_encoder_is_linked_where_the_hub_has_it(changes, expected, fitted):
    head = with_spec(fitted, **changes)
    data = parsed(card_for(head, "x")).data
    assert data.base_model == (changes["model"] if expected else None)
    assert ("--model" in card_for(head, "x")) is not expected


def test_data_sets_of_the_hub_are_named(fitted):
    name = "hf:cardiffnlp/tweet_eval/sentiment:train[:7]@" + "a" * 40
    inputs = {"inputs": [name, "own.csv", "hf:a_folder:train", "hf:../x/y"], "rows": 7}
    head = with_metadata(fitted, data=[inputs])
    card = parsed(card_for(head, "x"))
    assert card.data.datasets == ["cardiffnlp/tweet_eval"]
    assert card.data.eval_results[0].dataset_type == "cardiffnlp/tweet_eval"
    assert f"Vectors of `{name}`, `own.csv`, `hf:a_folder:train`, `hf:../x/y`, 7 rows" in card.text


def test_what_the_vectors_were_made_from(fitted):
    assert [one["inputs"] for one in fitted.metadata["data"]] == [["made up"]]
    card = card_for(fitted, "x")
    digest = "f" * 64
    of = "Vectors of `made up`, 400 rows"
    assert f"{of}, digest of ids, texts and labels {digest}." in card
    assert fitted.metadata["processor"][:8] in card


def test_the_same_head_has_the_same_card(fitted):
    assert card_for(fitted, "x") == card_for(fitted, "x")


@pytest.mark.parametrize("hostile", [*HOSTILE, "\n---\nlicense: mit\n---\n", "```\n# x", "'\"\\"])
def test_hostile_names_break_nothing(hostile, fitted):
    """As a label, a file, a model, a prefix, a version, and the place."""
    labels = (hostile, "b", "c")
    metrics = fitted.metadata["metrics"]
    classes = [{**one, "label": label} for one, label in zip(metrics["classes"], labels)]  # noqa: B905
    head = with_metadata(
        dataclasses.replace(with_spec(fitted, model=hostile, prefix=hostile), labels=labels),
        metrics=metrics | {"classes": classes},
        measured_on=hostile,
        data=[{"inputs": [hostile], "input_digests": [hostile], "backend": hostile}],
        versions={hostile: hostile},
        processor=hostile,
        class_weight=hostile,
        calibration={"method": hostile},
    )
    head = dataclasses.replace(head)
    card = card_for(head, hostile.replace("/", "_") or "x")
    plain = card_for(fitted, "x")
    card.encode()
    assert all(c.isprintable() or c == "\n" for c in card)
    # The same headings, fences and metadata as those of a head that is not hostile.
    for pattern in (r"(?m)^##? .*$", r"(?m)^```\w*$", r"(?m)^---$"):
        mine, theirs = re.findall(pattern, card), re.findall(pattern, plain)
        assert len(mine) == len(theirs), pattern
        assert mine[1:] == theirs[1:]
    data = parsed(card).data
    assert data.license is None
    assert data.library_name == "frostline"
    outside = re.sub(r"(?ms)^```.*?^```$|`[^`\n]*`", "", parsed(card).text)
    for raw in ("<script", "<img", "[a](", "![b", "javascript:"):
        assert raw not in outside
    for block in parsed(card).text.split("\n\n"):
        if block.startswith("|"):
            cells = {re.sub(r"\\.", "", line).count("|") for line in block.split("\n")}
            assert len(cells) == 1, block


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_reader_of_markdown_finds_no_html_pictures_or_links(hostile, fitted):
    """But for the link to the encoder, which the hub has."""
    head = with_spec(fitted, model=DEFAULT_MODEL, prefix=hostile)
    labels = (hostile, "https://evil.example", "www.evil.example")
    head = dataclasses.replace(head, labels=labels)
    head = with_metadata(head, measured_on=hostile, processor=hostile, data=[{"inputs": [hostile]}])
    tokens = [
        inner
        for token in MarkdownIt("commonmark")
        .enable("table")
        .parse(parsed(card_for(head, "x")).text)
        for inner in [token, *(token.children or [])]
    ]
    kinds = {token.type for token in tokens}
    assert not kinds & {"html_block", "html_inline", "image"}
    links = {token.attrs["href"] for token in tokens if token.type == "link_open"}
    assert links == {f"https://huggingface.co/{DEFAULT_HUB_ID}"}
    assert {"table_open", "heading_open", "fence"} <= kinds


ODD = [
    {"metrics": {"macro_recall": 0.5, "classes": "x", "macro_recall_interval": [1, "a"]}},
    {"metrics": {"macro_recall": 0.5, "accuracy": "high", "rows": -1, "classes": [7, {}]}},
    {"metrics": {"macro_recall": float("nan"), "log_loss": float("inf"), "macro_f1": [0.5]}},
    {"measured_on": 7, "data": "x", "conflicts": [], "corrections": 3, "calibration": []},
    {
        "data": [3, {"inputs": "x", "rows": True}],
        "grid": [{}, 5],
        "seconds": 2,
    },
    {"versions": {"a": 1}, "frostline": [], "processor": {}, "class_weight": ["x"]},
    {"C": "much", "rows": 5, "class_rows": None, "prior": None, "seed": {"a": []}},
]


@pytest.mark.parametrize("metadata", ODD)
def test_what_a_stranger_says_of_a_head_is_taken_or_left(metadata, fitted):
    card = card_for(with_metadata(fitted, **metadata), "x")
    for word in ("nan", "inf,", "None"):
        assert word not in card
    parsed(card)


@pytest.mark.parametrize("value", ["a: b", "mit\n", "", "é", "{}"])
def test_a_licence_is_a_word(value, fitted):
    with pytest.raises(InputError, match="`license` is"):
        card_for(fitted, "x", license=value)
    with pytest.raises(InputError, match="`language` is"):
        card_for(fitted, "x", language=["en", value])


def test_many_classes_are_cut():
    labels = [f"class number {n}" for n in range(100)]
    head = with_metadata(make_head(100, labels=labels), class_rows=[3] * 100, prior=[0.01] * 100)
    card = card_for(head, "x")
    assert "class number 29" in card
    assert "class number 30" not in card
    assert "and 70 more" in card
    assert "And 70 classes more." in card


def test_the_python_of_a_card_is_that_of_the_docs(fitted):
    """Whose blocks run: the same lines, but for the place and the model."""
    (block,) = python_of(card_for(with_spec(fitted, model=DEFAULT_MODEL), "sentiment"))
    page = Path(__file__).parents[3] / "docs" / "hub.md"
    assert block in python_of(page.read_text(encoding="utf-8"))


def python_of(page):
    return re.findall(r"(?ms)^```python\n(.*?)^```$", page)


def test_spec_of_the_tests_is_a_local_model():
    """So that the cards above have `--model` where nothing else is said."""
    assert "--model no-such-model" in card_for(make_head(spec=SPEC), "head.joblib")
