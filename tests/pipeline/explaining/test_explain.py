"""`explain` with the packaged MiniLM and a head fitted on the example tweets, in float32."""

import csv
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from features.extract import extract
from pipeline.cli.commands import main
from pipeline.explaining.explain import MOST_WORDS, explain
from pipeline.explaining.page import explanation_page
from pipeline.fit import fit
from pipeline.head.head import load_head, save_head
from pipeline.report.explanation import explanation_text
from pipeline.scoring.predict import encoders_for

ROOT = Path(__file__).parents[3]
CLEAR_TWEETS = ROOT / "tests" / "data" / "clear_tweets.csv"
TEXT = "I hate the hold music of this bank"
HOSTILE = [
    "<script>alert('x')</script> \" onload=alert(1) &lt;b&gt; &amp; </textarea><!--",
    "so \u202ehappy\u202c \u2066you\u2069 \u200fe\u061c",
    "a" + "\u0301" * 10_000 + " sad",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x00 bell\x07 \x9b31m",
    "{{ 7 * 7 }} {% raw %} ${x} %s {0}",
    "\ud83d half of a pair \udcff",
    "👨‍👩‍👧‍👦 🏳️‍🌈 e\u200d\u200d",
    "",
    " \n\t ",
    "... --- ...",
    "word " * 3000,
    "x" * 20_000,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, minilm):
    """`train.h5` of the example tweets, and `head.joblib` fitted on it; nothing to be changed."""
    folder = tmp_path_factory.mktemp("explain")
    tweets = ROOT / "examples" / "tweets.csv"
    extract(tweets, folder / "train.h5", model=minilm, dtype="float32", device="cpu")
    save_head(fit(folder / "train.h5", C=0.01, cv=5).head, folder / "head.joblib")
    return folder


@pytest.fixture(scope="module")
def head(folder):
    return load_head(folder / "head.joblib")


@pytest.fixture(scope="module")
def encoders(head):
    return encoders_for(head)


@pytest.fixture(scope="module")
def found(head, encoders, folder):
    return explain(head, TEXT, encoders, training=folder / "train.h5", number=3, confirm=1)


def run(*arguments, **options):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)


def done(*arguments, **options):
    result = run(*arguments, **options)
    assert result.exit_code == 0, result.output
    return result


# Each text, and what a person's editor would leave of it without each of its words.
EDITED = {
    "so happy, for you": ["happy, for you", "so , for you", "so happy, you", "so happy, for"],
    "@ana it's https://t.co/x1 bad!": [
        "it's https://t.co/x1 bad!",
        "@ana https://t.co/x1 bad!",
        "@ana it's bad!",
        "@ana it's https://t.co/x1 !",
        "@ana it's https://t.co/x1 bad",
    ],
    "not bad 🎉": ["bad 🎉", "not 🎉", "not bad"],
}


def test_words_left_out_are_texts_that_predict_scores(folder, head, encoders, tmp_path):
    texts = [one for text, edited in EDITED.items() for one in (text, *edited)]
    with (tmp_path / "edited.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    output = tmp_path / "scored.jsonl"
    done("predict", folder / "head.joblib", tmp_path / "edited.csv", "-o", output)
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    scored = iter([[row["label"], *(row[f"p_{name}"] for name in head.labels)] for row in rows])
    for text, edited in EDITED.items():
        one = explain(head, text, encoders)
        label, *proba = next(scored)
        assert one.labels[one.winner] == label
        np.testing.assert_allclose(one.proba, proba, atol=1e-4)
        assert len(one.words) == len(edited)
        odds = np.log(proba) - np.log1p(-np.array(proba))
        for word in one.words:
            _, *without = next(scored)
            np.testing.assert_allclose(word.proba, without, atol=1e-4)
            p = without[one.winner]
            assert word.effect == pytest.approx(odds[one.winner] - np.log(p / (1 - p)), abs=2e-3)


def test_the_views_add_up_to_what_the_head_says(found, head, folder):
    base, parts = found.views.between(found.winner, found.runner_up)
    assert base + parts.sum() == pytest.approx(
        found.logits[found.winner] - found.logits[found.runner_up], abs=1e-10
    )
    assert found.views.names == ("mean@-4", "mean@-3", "mean@-2", "mean@-1")
    written = found.to_dict()["views"]
    assert written["base"] + sum(written["parts"].values()) == pytest.approx(
        written["difference"], abs=1e-10
    )
    p = found.proba
    assert written["difference"] == pytest.approx(np.log(p[found.winner] / p[found.runner_up]))


def test_tweets_behind_a_label(found, folder):
    training = found.training
    assert not training.is_another_fit
    assert training.rows == 956
    for some in (training.speaking_for, training.speaking_against):
        assert len(some) == 3
        assert some[0].confirmed == pytest.approx(some[0].effect, rel=0.35)


def test_clear_tweets_have_the_word_that_a_person_would_name(head, encoders):
    """Of a head of 956 tweets; benchmarks/explain.py asks one of many more, which names all."""
    with CLEAR_TWEETS.open(encoding="utf-8", newline="") as file:
        tweets = list(csv.DictReader(file))
    assert len(tweets) == 20
    named = 0
    for tweet in tweets:
        one = explain(head, tweet["text"], encoders)
        strongest = max(one.words, key=lambda word: word.effect)
        named += one.word(strongest) in tweet["words"].split()
    assert named >= 14


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and text outside of the style."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self._style = [], "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag):
        self._style = False

    def handle_data(self, data):
        if not self._style:
            self.text += data


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_texts_are_shown_as_texts(number, head, encoders):
    text = HOSTILE[number]
    one = explain(head, text, encoders)
    assert np.isfinite([word.effect for word in one.words]).all()
    assert len(one.words) == min(one.n_words, MOST_WORDS)
    json.loads(json.dumps(one.to_dict(), ensure_ascii=False).encode())
    for colours in (False, True):
        shown = explanation_text(one, colours=colours)
        plain = re.sub(r"\x1b\[(0|1|31|32)m", "", shown) if colours else shown
        assert all(c.isprintable() or c == "\n" for c in plain)
        assert len(shown) < 6000 + 20 * len(one.words) + 100 * len("\\u202e")
    page = Page(explanation_page(one, 'a"<b>.joblib'))
    assert not {tag for tag, _ in page.tags} & {"script", "img", "b>", "iframe", "textarea"}
    assert {name for _, attrs in page.tags for name in attrs if name.startswith("on")} == set()
    assert 'a"<b>.joblib' in page.text
    assert "\x1b" not in page.text
    if number == 0:
        assert "<script>alert('x')</script>" in page.text


def test_a_long_text_is_cut_and_says_so(head, encoders):
    one = explain(head, "good word " * 200, encoders)
    assert (one.n_words, len(one.words), one.truncated) == (400, MOST_WORDS, True)
    remarks = " ".join(one.remarks())
    assert "400 words; the first 128" in remarks
    assert "longer than the head's model reads" in remarks
    assert "400 words" in explanation_text(one, colours=False)
    assert "400 words" in explanation_page(one, "head.joblib")
    assert not [line for line in explain(head, TEXT, encoders).remarks() if "words" in line]


def test_a_text_without_words(head, encoders):
    one = explain(head, "...", encoders)
    assert one.words == ()
    assert "no word to leave out" in explanation_text(one, colours=False)


def test_the_page_needs_nothing_from_outside(found):
    page = Page(explanation_page(found, "head.joblib"))
    (policy,) = (
        attrs["content"]
        for tag, attrs in page.tags
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert not [attrs for _, attrs in page.tags if "style" in attrs]
    links = [attrs.get("href", attrs.get("src")) for _, attrs in page.tags]
    assert {link for link in links if link} == {"data:,"}
    for one in found.training.listed:
        assert one.id in page.text
    for word in found.words:
        assert found.word(word) in page.text


def test_a_pipe_gets_json_and_files_what_they_are_for(folder, tmp_path):
    result = done(
        *("explain", folder / "head.joblib", "-", "--training", folder / "train.h5"),
        *("--tweets", ROOT / "examples" / "tweets.csv", "-n", "2", "--confirm", "0"),
        *("-o", tmp_path / "e.html", "--json", tmp_path / "e.json"),
        input=f"{TEXT}\n",
    )
    told = json.loads(result.stdout)
    assert told == json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert (told["format"], told["version"], told["text"]) == ("frostline explanation", 1, TEXT)
    assert sum(told["probabilities"].values()) == pytest.approx(1)
    with (ROOT / "examples" / "tweets.csv").open(encoding="utf-8", newline="") as file:
        texts = {row["id"]: row["text"] for row in csv.DictReader(file)}
    for one in told["training"]["for"] + told["training"]["against"]:
        assert one["text"] == texts[one["id"]]
        assert one["confirmed"] is None
    assert "frostline explanation" in (tmp_path / "e.html").read_text(encoding="utf-8")


def test_another_prior_moves_the_probabilities(folder):
    plain, moved = (
        json.loads(done("explain", folder / "head.joblib", TEXT, *more).stdout)
        for more in ([], ["--prior", "negative=0.1,neutral=0.8,positive=0.1"])
    )
    a, b = (one["probabilities"] for one in (plain, moved))
    assert b["neutral"] / b["negative"] == pytest.approx(8 * a["neutral"] / a["negative"])


def on_a_terminal(folder, **environment):
    """What the command prints on a terminal."""
    parent, child = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "explain", str(folder / "head.joblib"), TEXT],
        stdout=child,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", **environment},
    ) as process:
        os.close(child)
        found = b""
        while True:
            try:
                piece = os.read(parent, 4096)
            except OSError:  # its end, on Linux
                break
            if not piece:
                break
            found += piece
    os.close(parent)
    assert process.returncode == 0
    return found.decode()


def test_colours_are_for_terminals_that_want_them(folder):
    assert "\x1b[" in on_a_terminal(folder)
    plain = on_a_terminal(folder, NO_COLOR="1")
    assert "\x1b" not in plain
    assert "Words: how much the log-odds of" in plain


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-o", "e.pdf"], "must end in .html"),
        (["-o", "folder.html"], "is a folder"),
        (["-o", "no/e.html"], "does not exist"),
        (["-o", "e.html", "--json", "e.html"], "is the output already"),
        (["--json", "head.joblib"], "is an input too"),
        (["--tweets", "t.csv"], "--tweets needs --training"),
        (["--corrections", "t.csv"], "--corrections needs --training"),
        (["--id-column", "id"], "--id-column: which tweets? Give --tweets as well"),
        (["--training", "none.h5"], "none.h5"),
        (["--training", "train.h5", "-n", "0"], "-n is 0"),
        (["--prior", "estimate"], "estimate"),
    ],
)
def test_what_can_not_be_asked(folder, more, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    for name in ("head.joblib", "train.h5"):
        shutil.copy(folder / name, name)
    before = sorted(tmp_path.iterdir())
    result = run("explain", "head.joblib", TEXT, *more)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")
    assert sorted(tmp_path.iterdir()) == before


def test_too_much_on_standard_input_is_no_tweet(folder):
    result = run("explain", folder / "head.joblib", "-", input="x" * 100_001)
    assert result.exit_code == 2
    assert "give one tweet" in result.stderr
