"""What a folder of sentence-transformers holds and is not used is named, with what to do."""

import json
import re
import shutil

import numpy as np
import pytest
from architectures import POSITIONS, TEXTS, variant
from click.testing import CliRunner

from features import FrozenEncoder
from features.spec.checkpoint import DEFAULT_MODEL, find_checkpoint
from features.spec.encoder_spec import make_spec
from features.spec.unused_parts import unused_parts
from pipeline.cli.commands import main

PROMPTS = "config_sentence_transformers.json"
SETTINGS = "sentence_bert_config.json"
MODULES = "modules.json"


def modules(*types):
    return [
        {"idx": n, "name": str(n), "path": "" if n == 0 else f"{n}_{kind}", "type": f"some.{kind}"}
        for n, kind in enumerate(types)
    ]


def sentence_folder(model, target, **files):
    variant(model, target)
    names = {"prompts": PROMPTS, "settings": SETTINGS, "modules": MODULES}
    for name, content in files.items():
        path = target / names.get(name, f"{name}.json")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return target


def said(folder, **options):
    checkpoint = find_checkpoint(folder)
    return unused_parts(checkpoint, make_spec(checkpoint, **options))


# What a cased model's tokenizer says.
KEPT = {"tokenizer_config": {"do_lower_case": False, "model_max_length": POSITIONS}}
# The files of a folder, the options, and the parts that must be named; none, where nothing is said.
CASES = {
    "a plain model": ({}, {}, []),
    "prompts": (
        {"prompts": {"prompts": {"query": "query: ", "passage": "passage: "}}},
        {},
        ["prompts (query 'query: ', passage 'passage: ')", "`prefix`", "try 'query: '"],
    ),
    "prompts for other things": (
        {"prompts": {"prompts": {"STS": "sts: ", "Classification": "classify: "}}},
        {},
        ["try 'classify: '"],
    ),
    "a default prompt": (
        {"prompts": {"prompts": {"query": "q: ", "b": "b: "}, "default_prompt_name": "b"}},
        {},
        ["try 'b: '"],
    ),
    "a default that is not there": (
        {"prompts": {"prompts": {"c": "c: "}, "default_prompt_name": ["b"]}},
        {},
        ["try 'c: '"],
    ),
    "prompts and a prefix": ({"prompts": {"prompts": {"query": "query: "}}}, {"prefix": "x"}, []),
    "empty prompts": ({"prompts": {"prompts": {"query": "", "document": ""}}}, {}, []),
    "no prompts": ({"prompts": {"__version__": {}, "prompts": None}}, {}, []),
    "lower case": (
        {"settings": {"do_lower_case": True, "max_seq_length": POSITIONS}, **KEPT},
        {},
        ["do_lower_case of sentence_bert_config.json", "tokenizer_config.json"],
    ),
    "lower case, done": (
        {"settings": {"do_lower_case": True}, "tokenizer_config": {"do_lower_case": True}},
        {},
        [],
    ),
    "case kept": ({"settings": {"do_lower_case": False}}, {}, []),
    "a length": (
        {"settings": {"max_seq_length": 16}},
        {},
        [f"max_seq_length 16 of {SETTINGS} ({POSITIONS} tokens are read", "`max_length=16`"],
    ),
    "that length": ({"settings": {"max_seq_length": 16}}, {"max_length": 16}, []),
    "no length": ({"settings": {"max_seq_length": None}}, {}, []),
    "an older name": (
        {"sentence_roberta_config": {"max_seq_length": 16}},
        {},
        ["max_seq_length 16 of sentence_roberta_config.json"],
    ),
    "layers": (
        {"modules": modules("Transformer", "Pooling", "Dense", "Normalize")},
        {},
        ["Dense, Normalize behind its pooling"],
    ),
    "no layers": ({"modules": modules("Transformer", "Pooling", "Dropout")}, {}, []),
    "modules of another form": ({"modules": {"0": "some.Dense"}}, {}, []),
    "modules that are none": ({"modules": ["Dense", 1, None]}, {}, []),
    "damaged": ({"modules": "[", "prompts": "nope", "settings": "[1]"}, {}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_used_is_named(tiny_model, tmp_path, case):
    files, options, named = CASES[case]
    line = said(sentence_folder(tiny_model("bert"), tmp_path / "m", **files), **options)
    assert bool(line) == bool(named)
    assert "\n" not in line
    for part in named:
        assert part in line


def test_all_parts_stand_in_one_line_behind_the_name(tiny_model, tmp_path):
    folder = sentence_folder(
        tiny_model("bert"),
        tmp_path / "m",
        prompts={"prompts": {"query": "query: "}},
        settings={"do_lower_case": True, "max_seq_length": 8},
        modules=modules("Transformer", "Pooling", "Dense"),
        **KEPT,
    )
    line = said(folder)
    assert line.startswith(f"model '{folder}' has parts that are not used: prompts (")
    assert [line.count(part) for part in ("do_lower_case", "max_seq_length", "Dense")] == [1] * 3


def test_long_prompts_are_cut_and_many_are_not_all_listed(tiny_model, tmp_path):
    prompts = {f"task {n}": "Instruct: " + "x" * 500 for n in range(50)}
    folder = sentence_folder(tiny_model("bert"), tmp_path / "m", prompts={"prompts": prompts})
    line = said(folder)
    assert len(line) < 1000
    assert "task 3" in line
    assert "task 4" not in line


def test_the_default_model_is_known(minilm, tmp_path):
    for name in (DEFAULT_MODEL, minilm):
        assert said(name) == ""
    shutil.copytree(minilm, tmp_path / "copy")
    line = said(tmp_path / "copy")
    assert "max_seq_length 256" in line
    assert "Normalize" in line


def test_the_library_warns(tiny_model, tmp_path):
    prompts = {"prompts": {"query": "query: "}}
    folder = sentence_folder(tiny_model("bert"), tmp_path / "m", prompts=prompts)
    with pytest.warns(UserWarning, match="parts that are not used: prompts"):
        FrozenEncoder(folder, dtype="float32")


def test_the_cure_for_lower_case_works(tiny_model, tmp_path):
    model = variant(tiny_model("bert"), tmp_path / "cased", **KEPT)
    folder = sentence_folder(model, tmp_path / "m", settings={"do_lower_case": True})
    lowered = FrozenEncoder(model, pooling="mean", dtype="float32").encode(
        [text.lower() for text in TEXTS]
    )["mean"]
    assert "write it into tokenizer_config.json" in said(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= json.loads((folder / SETTINGS).read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert said(folder) == ""
    ours = FrozenEncoder(folder, pooling="mean", dtype="float32").encode(TEXTS)["mean"]
    plain = [
        n for n, text in enumerate(TEXTS) if text.isascii()
    ]  # the tokenizer strips accents too
    np.testing.assert_array_equal(ours[plain], lowered[plain])


def test_the_cure_for_prompts_and_length_works(tiny_model, tmp_path):
    folder = sentence_folder(
        tiny_model("bert"),
        tmp_path / "m",
        prompts={"prompts": {"query": "so happy: "}},
        settings={"max_seq_length": 16},
    )
    line = said(folder)
    prefix = re.search("try '(.*?)'", line)[1]
    length = int(re.search("`max_length=(.*?)`", line)[1])
    assert said(folder, prefix=prefix, max_length=length) == ""


def test_commands_name_it_once_with_their_options(tiny_model, tmp_path):
    files = {"prompts": {"prompts": {"query": "query: "}}, "settings": {"max_seq_length": 16}}
    folder = sentence_folder(
        tiny_model("bert"), tmp_path / "m", **files, modules=modules("Transformer", "Dense")
    )
    tweets = [{"text": f"the bus is {word} {n}", "label": word} for n in range(9) for word in "ab"]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, tweets)))

    def lines(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return [line for line in result.stderr.splitlines() if "not used" in line]

    model = ["--model", folder, "--pooling", "mean", "--dtype", "float32"]
    store, head = tmp_path / "t.h5", tmp_path / "head.joblib"
    (line,) = lines("extract", tmp_path / "t.jsonl", "-o", store, *model)
    assert "--prefix puts one before each text: try 'query: '" in line
    assert "--max-length 16" in line
    assert "Dense" in line
    assert lines("fit", store, "-o", head, "--C", "1", "--cv", "2") == []
    (line,) = lines("predict", head, tmp_path / "t.jsonl", "-o", tmp_path / "out.csv")
    assert "prompts (query 'query: ')" in line
    (_,) = lines("evaluate", head, tmp_path / "t.jsonl", "--model", folder)
    taken = ["--prefix", "query: ", "--max-length", "16"]
    (line,) = lines("extract", tmp_path / "t.jsonl", "-o", store, "--overwrite", *model, *taken)
    assert "prompts" not in line
