"""Who is told that a head is measured on texts that it was fitted on, and who is not."""

import csv
from dataclasses import replace

import pytest
from click.testing import CliRunner
from stores import blobs, write_store

from features import extract
from pipeline import fit, save_head
from pipeline.cli.commands import main
from pipeline.data.join import open_joined
from pipeline.head.training_texts import TrainingTexts
from pipeline.scoring.known_texts import told_of_known_texts
from pipeline.scoring.predict import score_stores

TEXTS = [f"text {n}" for n in range(100)]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A head of the first 60 of 100 texts, and vectors of some of these by name."""
    folder = tmp_path_factory.mktemp("known")
    X, y = blobs(100)
    labels = y.copy()
    labels[50:55] = -1
    paths = {
        name: write_store(folder / f"{name}.h5", X[rows], labels[rows], texts=TEXTS[rows])
        for name, rows in {
            "train": slice(0, 60),
            "some": slice(50, 90),
            "new": slice(60, 100),
        }.items()
    }
    return fit(paths["train"], C=0.01).head, paths


def said_of(head, path):
    said = []
    with open_joined([path]) as stores:
        passed = list(told_of_known_texts(head, score_stores(head, stores), warn=said.append))
        assert sum(len(block.ids) for block in passed) == stores.n_rows
    return said


def test_labelled_rows_of_known_texts_are_counted(fitted):
    """Of the 10 rows that are known 5 have no label, so that they are measured on 35."""
    head, paths = fitted
    head = replace(head, texts=TrainingTexts.of(stored_digests(paths["train"])))
    (line,) = said_of(head, paths["some"])
    assert line.startswith("WARNING: 5 of 35 labelled rows have a text that the head was fitted on")


def test_other_texts_are_passed_in_silence(fitted):
    head, paths = fitted
    assert said_of(head, paths["new"]) == []


def test_a_head_without_digests_says_nothing(fitted):
    head, paths = fitted
    assert said_of(replace(head, texts=None), paths["train"]) == []


def test_of_a_sample_only_those_are_counted_that_could_be_known(fitted):
    head, paths = fitted
    half = TrainingTexts(head.texts.digests[:20], head.texts.texts)
    (line,) = said_of(replace(head, texts=half), paths["train"])
    assert line.startswith("WARNING: 20 of 20 labelled rows whose texts it would know have a text")


def stored_digests(path):
    with open_joined([path]) as stores:
        return stores.texts()


def test_tweets_are_known_after_normalising(tmp_path, tiny_model):
    """Another mention and another link are the same text to the encoder."""
    moods = ["glad", "sad"]
    rows = [(f"@someone {mood} {n} https://t.co/{n}", mood) for n in range(10) for mood in moods]
    write(tmp_path / "train.csv", rows)
    write(tmp_path / "copy.csv", [(text.replace("someone", "other"), mood) for text, mood in rows])
    write(
        tmp_path / "new.csv", [(f"so {mood} today {n}", mood) for n in range(3) for mood in moods]
    )
    model = tiny_model("bert")
    extract(tmp_path / "train.csv", tmp_path / "train.h5", model=model, pooling="mean")
    save_head(fit(tmp_path / "train.h5", C=0.01).head, tmp_path / "head.joblib")
    for name, warned in {"copy.csv": True, "train.h5": True, "new.csv": False}.items():
        arguments = ["evaluate", str(tmp_path / "head.joblib"), str(tmp_path / name)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        assert ("20 of 20 labelled rows have a text" in " ".join(result.stderr.split())) == warned
        assert "labelled rows" not in result.stdout


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerows([("text", "label"), *rows])
