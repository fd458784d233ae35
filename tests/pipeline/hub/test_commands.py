"""The commands that write cards and folders of heads, and every command that takes one."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard
from stores import blobs, write_store

from pipeline.cli.commands import main
from pipeline.head.head import load_head


def run(*words, code=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "s.h5", *blobs(300, 8, 3))
    return tmp_path


@pytest.fixture
def exported(folder):
    run("fit", "s.h5", "-o", "head.joblib", "--C", "0.1")
    run("export", "head.joblib", "--format", "safetensors", "-o", "exported")
    return folder


def test_fit_writes_a_card(folder):
    run("fit", "s.h5", "-o", "mine.joblib", "--C", "0.1", "--card", "README.md")
    card = ModelCard((folder / "README.md").read_text())
    assert card.data.library_name == "frostline"
    assert "frostline predict mine.joblib tweets.csv" in card.text
    written = load_head("mine.joblib").metadata["metrics"]["macro_recall"]
    assert card.data.eval_results[0].metric_value == written


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["-o", "h.joblib", "--card", "card.txt"], "must end in .md"),
        (["-o", "card.md", "--card", "card.md"], "another output already; give --card another"),
        (["-o", "h.joblib", "--card", "no/card.md"], "does not exist"),
        (["-o", "h.joblib", "--json", "c.md", "--card", "c.md"], "another output already"),
        (["-o", "hf:jane/tweets"], "is a place on the hub; name a file"),
    ],
)
def test_what_fit_refuses_before_the_work(words, match, folder):
    output = run("fit", "s.h5", "--C", "0.1", *words, code=2)
    assert match in output
    assert output.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["s.h5"]


def test_export_keeps_the_digests_unless_it_is_told_not_to(exported):
    assert load_head("exported").texts.texts == 300
    run("export", "head.joblib", "--format", "safetensors", "-o", "bare", "--no-training-texts")
    assert load_head("bare").texts is None
    np.testing.assert_array_equal(load_head("bare").coef, load_head("exported").coef)


def test_an_exported_head_answers_for_the_prior_that_is_asked_for(exported):
    run("export", "exported", "--format", "safetensors", "-o", "moved", "--prior", "training")
    expected = load_head("exported").with_prior("training")
    assert load_head("moved").prior.tolist() == expected.prior.tolist()


SAME = {
    "predict": ["predict", "HEAD", "s.h5", "-o", "-"],
    "evaluate": ["evaluate", "HEAD", "s.h5"],
    "quantify": ["quantify", "HEAD", "s.h5"],
    "suspects": ["suspects", "HEAD", "s.h5", "-o", "-"],
    "inspect": ["inspect", "HEAD"],
    "report": ["report", "HEAD", "s.h5", "-o", "r.json"],
    "against": ["fit", "s.h5", "-o", "new.joblib", "--C", "0.2", "--against", "HEAD"],
}


@pytest.mark.parametrize("command", SAME)
def test_a_folder_is_a_head_for_every_command(command, exported):
    said = []
    for head in ("head.joblib", "exported"):
        output = run(*(head if word == "HEAD" else word for word in SAME[command]))
        # All but the seconds of a fit.
        said.append(re.sub(r"(load|select|solve|total) \d+\.\d+", "", output.replace(head, "HEAD")))
    assert said[0] == said[1]


def test_a_folder_is_not_replaced_by_an_output(exported):
    before = (exported / "exported" / "config.json").read_bytes()
    output = run("evaluate", "exported", "s.h5", "--json", "exported/config.json", code=2)
    assert "is an input too" in output
    assert (exported / "exported" / "config.json").read_bytes() == before
    output = run("fit", "s.h5", "--C", "0.1", "-o", "exported", code=2)
    assert "is a folder" in output
    assert json.loads(before)["format"] == "frostline-head"


def test_a_head_is_no_encoder(exported):
    (exported / "tweets.txt").write_text("good day\n")
    output = run("extract", "tweets.txt", "-o", "t.h5", "--model", "exported", code=3)
    assert "holds a head of frostline, not an encoder" in output
