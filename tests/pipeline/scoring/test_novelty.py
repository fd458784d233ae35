"""Who is warned of what the head has not seen, and who is not."""

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from other_languages import FRENCH, GERMAN
from stores import blobs, write_store

from features.extract import extract
from pipeline.cli.commands import main
from pipeline.data.join import open_joined
from pipeline.fit import fit
from pipeline.head.head import load_head, save_head
from pipeline.scoring.evaluate import Scores
from pipeline.scoring.novelty import is_of_another_kind, watched
from pipeline.scoring.predict import score_stores

EXAMPLES = Path(__file__).parents[3] / "examples"
# The examples have some tweets in other languages, which no head may learn here.
ENGLISH = re.compile(r"\b(the|and|my|you|of|to|with|it|for)\b", re.IGNORECASE)


def block(novelty):
    n = len(novelty)
    return Scores(
        ["x"] * n, None, [None] * n, np.full((n, 2), 0.5), [""] * n, novelty=np.array(novelty)
    )


@pytest.mark.parametrize(
    ("far", "rows", "expected"),
    [
        (0, 0, False),
        (3, 3, False),
        (40, 40, True),
        (8, 40, False),
        (50, 1000, False),
        (190, 1000, False),
        (210, 1000, True),
        (3, 10, False),
    ],
)
def test_far_beyond_one_in_twenty(far, rows, expected):
    assert is_of_another_kind(far, rows) == expected


def test_a_warning_comes_once_at_the_end():
    said = []
    blocks = [block([2.0] * 300), block([2.0] * 300)]
    for n, passed in enumerate(watched(blocks, warn=said.append)):
        assert passed is blocks[n]
        assert said == []
    (line,) = said
    assert line.startswith("WARNING: 600 of 600 rows (100%) lie farther")
    assert "multilingual encoder" in line


def test_a_stream_is_warned_while_it_goes_on():
    said = []
    stream = watched([block([2.0] * 100)] * 5, warn=said.append, live=True)
    seen = [len(said) for _ in stream]
    assert seen == [0, 0, 1, 1, 1]
    assert len(said) == 1


def test_a_head_that_can_not_tell_says_nothing():
    one = dataclasses.replace(block([9.0] * 500), novelty=None)
    assert len(list(watched([one], warn=pytest.fail))) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("novelty")
    X, y = blobs(600, 8, 3)
    write_store(folder / "train.h5", X, y)
    head = fit(folder / "train.h5", C=0.1).head
    save_head(head, folder / "head.joblib")
    save_head(dataclasses.replace(head, novelty=None), folder / "old.joblib")
    X, y = blobs(600, 8, 3, seed=1)
    texts = [f"unseen {i}" for i in range(600)]
    write_store(folder / "same.h5", X, y, texts=texts)
    write_store(folder / "other.h5", X * np.float16(4), y, texts=texts)
    return folder


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", ["predict", "evaluate", "quantify"])
def test_commands_warn_of_another_kind_alone(command, folder, tmp_path):
    for name, warned in (("same.h5", False), ("other.h5", True)):
        more = ["-o", tmp_path / "out.csv"] if command != "evaluate" else []
        result = run(command, folder / "head.joblib", folder / name, *more)
        assert result.exit_code == 0, result.output
        assert result.stderr.count("WARNING") == warned
    result = run(command, folder / "old.joblib", folder / "other.h5", *more)
    assert "WARNING" not in result.stderr


def test_predict_writes_how_far_rows_are(folder, tmp_path):
    out = tmp_path / "out.csv"
    arguments = [folder / "same.h5", "-o", out, "--novelty"]
    assert run("predict", folder / "head.joblib", *arguments).exit_code == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-2:] == ["novelty", "flags"]
    novelty = np.array([float(row["novelty"]) for row in rows])
    head = load_head(folder / "head.joblib")
    np.testing.assert_allclose(novelty, head.novelty.of(blobs(600, 8, 3, seed=1)[0]), atol=1e-3)
    assert 0.01 < (novelty > 1).mean() < 0.15
    result = run("predict", folder / "old.joblib", *arguments)
    assert result.exit_code == 2
    assert "can't tell how far tweets lie from those it was fitted on" in result.stderr
    assert "leave out --novelty" in result.stderr


@pytest.fixture(scope="module")
def languages(tmp_path_factory, minilm):
    """Scores by a head of English tweets, of tweets that it has not seen: in English and not."""
    folder = tmp_path_factory.mktemp("languages")
    with (EXAMPLES / "tweets.csv").open(encoding="utf-8", newline="") as file:
        rows = [(r["text"], r["label"]) for r in csv.DictReader(file) if ENGLISH.search(r["text"])]
    apart = [rows[n] for n in np.random.default_rng(0).permutation(len(rows))[:500]]
    # What has no label is not fitted.
    unseen = [(text, "") for text in [*(text for text, _ in apart[:100]), *FRENCH, *GERMAN]]
    with (folder / "tweets.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *unseen, *apart[100:]])
    tweets, vectors = folder / "tweets.csv", folder / "tweets.h5"
    extract(tweets, vectors, model=minilm, device="cpu", dtype="float32")
    head = fit(vectors, C=0.01).head
    with open_joined(vectors) as stores:
        novelty = np.concatenate([block.novelty for block in score_stores(head, stores)])
    return {"english": novelty[:100], "french": novelty[100:140], "german": novelty[140:180]}


@pytest.mark.parametrize(("name", "warned"), [("english", 0), ("french", 1), ("german", 1)])
def test_tweets_in_another_language_are_warned_of(name, warned, languages):
    said = []
    list(watched([block(languages[name])], warn=said.append))
    assert len(said) == warned
