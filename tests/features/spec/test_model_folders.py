"""Folders as people have them: read where they are unambiguous, else refused with a cure."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from architectures import TEXTS, stock_model, unigram, variant, wordpiece
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from features import FrozenEncoder
from features.backends.choice import PLAIN, PREPACKED
from features.backends.eager.forward import TorchBackend
from features.errors import FileRefused, InputError
from features.spec.checkpoint import find_checkpoint
from features.spec.weights import wrapper_of
from pipeline.cli.commands import main

VIEWS = ["mean", "mean@last4+sum"]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def vectors(folder, texts=TEXTS, **options):
    encoder = FrozenEncoder(folder, pooling=VIEWS, dtype="float32", **options)
    return encoder.encode(texts)


def assert_same_vectors(one, other):
    for view, matrix in vectors(one).items():
        np.testing.assert_array_equal(matrix, vectors(other)[view])


def renamed(folder, target, change):
    """A copy of a model whose tensors have other names."""
    variant(folder, target)
    weights = load_file(target / "model.safetensors")
    save_file(
        {change(name): tensor for name, tensor in weights.items()},
        target / "model.safetensors",
        metadata={"format": "pt"},
    )
    return target


# --------------------------------------------------------------------------- names behind a wrapper

WRAPPED = {
    "DataParallel": lambda name: f"module.{name}",
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "both": lambda name: f"_orig_mod.module.{name}",
    "the other way round": lambda name: f"module._orig_mod.{name}",
    "a model with a head on it": lambda name: f"module.bert.{name}",
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_weights_are_read(tiny_model, tmp_path, kind):
    folder = renamed(tiny_model("bert"), tmp_path / "wrapped", WRAPPED[kind])
    assert_same_vectors(folder, tiny_model("bert"))


@pytest.mark.parametrize("kind", [kind for kind in WRAPPED if "head" not in kind])
def test_a_wrapper_makes_no_other_encoder(tiny_model, tmp_path, kind):
    folder = renamed(tiny_model("bert"), tmp_path / "wrapped", WRAPPED[kind])
    ours, plain = find_checkpoint(folder), find_checkpoint(tiny_model("bert"))
    assert ours.weights_digest() == plain.weights_digest()


def test_wrapped_weights_in_several_files_are_read(tiny_model, tmp_path):
    folder = tmp_path / "shards"
    model = transformers.AutoModel.from_pretrained(tiny_model("bert"))
    model.save_pretrained(folder, max_shard_size="20KB")
    transformers.AutoTokenizer.from_pretrained(tiny_model("bert")).save_pretrained(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"] = {f"module.{name}": file for name, file in index["weight_map"].items()}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for path in find_checkpoint(folder).weight_files:
        content = {f"module.{name}": tensor for name, tensor in load_file(path).items()}
        save_file(content, path, metadata={"format": "pt"})
    assert_same_vectors(folder, tiny_model("bert"))


def test_weights_of_which_only_some_are_wrapped_are_refused(tiny_model, tmp_path):
    folder = renamed(
        tiny_model("bert"),
        tmp_path / "half",
        lambda name: f"module.{name}" if "layer.2." in name else name,
    )
    with pytest.raises(FileRefused, match=r"lack 16 .*encoder\.layer\.2\."):
        FrozenEncoder(folder)


@pytest.mark.parametrize(
    ("names", "wrapper"),
    [
        ([], ""),
        (["module.a", "module.b"], "module."),
        (["module.a", "b"], ""),
        (["module.module.a"], "module.module."),
        (["modules.a"], ""),
    ],
)
def test_wrapper_of_names(names, wrapper):
    assert wrapper_of(names) == wrapper


# ------------------------------------------------------------------------------------- T5's encoder


@pytest.fixture
def t5(tmp_path):
    """The folder of a tiny T5, decoder and all, with its tokenizer."""
    vocab = unigram(("<pad>", "</s>", "<unk>"))
    tokenizer = transformers.T5Tokenizer(vocab=vocab, extra_ids=0)
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=48, num_layers=4, num_heads=4
    )
    torch.manual_seed(3)
    transformers.T5Model(config).save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    return tmp_path / "t5"


def encoder_of(t5, target):
    """What the message about a whole T5 says to do."""
    transformers.T5EncoderModel.from_pretrained(t5).save_pretrained(target)
    transformers.AutoTokenizer.from_pretrained(t5).save_pretrained(target)
    return target


def test_a_whole_t5_is_refused_with_a_cure_that_works(t5, tmp_path):
    with pytest.raises(InputError, match="save its encoder alone") as caught:
        FrozenEncoder(t5)
    message = str(caught.value)
    assert f"T5EncoderModel.from_pretrained({str(t5)!r}).save_pretrained('encoder')" in message
    folder = encoder_of(t5, tmp_path / "encoder")
    model = transformers.T5EncoderModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for row, text in enumerate(TEXTS[:5]):
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=20)
        with torch.no_grad():
            states = model(**tokens, output_hidden_states=True).hidden_states
        mean = torch.stack(states[-4:]).sum(0)[0].mean(0).numpy()
        ours = vectors(folder, TEXTS[:5], max_length=20)["mean@last4+sum"][row]
        np.testing.assert_allclose(ours, mean, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("says", [True, False])
def test_the_encoder_alone_is_read_whatever_its_config_says(t5, tmp_path, says):
    plain = encoder_of(t5, tmp_path / "encoder")
    folder = variant(plain, tmp_path / "says", config={"is_encoder_decoder": says})
    assert_same_vectors(folder, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernels", [PREPACKED, PLAIN])
def test_the_encoder_alone_runs_whatever_is_fused(t5, tmp_path, kernels, dtype):
    """It asks its linear layers for their weights, which fused ones don't have."""
    stock = stock_model(encoder_of(t5, tmp_path / "encoder"))
    place = {"device": torch.device("cpu"), "dtype": dtype, "kernels": kernels}
    backend = TorchBackend(stock, [4], pooler=False, **place)
    (block,) = backend.forward([np.array(stock.probe, np.int32)])
    expected = stock.module(input_ids=torch.tensor([stock.probe])).last_hidden_state
    torch.testing.assert_close(block.layers[4].float(), expected, rtol=0.1, atol=0.1)


def test_the_encoder_alone_has_no_first_token_for_cls(t5, tmp_path):
    with pytest.raises(InputError, match="puts no special token before a text; take mean"):
        FrozenEncoder(encoder_of(t5, tmp_path / "encoder"), pooling="cls")


# ------------------------------------------------------------------------- weights that aren't read


def without_weights(model, folder, *names, config=None):
    """A copy of a model with other files in the place of its weights."""
    variant(model, folder, config=config or {})
    (folder / "model.safetensors").unlink()
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"weights of another kind")
    return folder


# The files that lie there instead, and what the message must say.
OTHER_WEIGHTS = {
    "pickled": (["pytorch_model.bin"], "can run code.*save_pretrained"),
    "a checkpoint of Lightning": (["epoch=3.ckpt"], "can run code.*save_pretrained"),
    "ONNX": (["model.onnx"], "ONNX export gives its last layer alone.*made from, 'some/model'"),
    "ONNX in a folder": (["onnx/model.onnx", "onnx/model_quantized.onnx"], "model.onnx, model_q"),
    "TensorFlow": (["tf_model.h5"], "for TensorFlow.*from_tf=True"),
    "Flax": (["flax_model.msgpack"], "for Flax.*from_flax=True"),
    "llama.cpp": (["model-q4.gguf"], "llama.cpp.*made from, 'some/model'"),
    "nothing": ([], "only safetensors weights are read: load the model"),
    "parts without their index": (
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        "fetch model.safetensors.index.json",
    ),
}


@pytest.mark.parametrize("kind", OTHER_WEIGHTS)
def test_other_weights_are_refused_by_what_they_are(tiny_model, tmp_path, kind):
    names, wording = OTHER_WEIGHTS[kind]
    config = {"_name_or_path": "some/model"}
    folder = without_weights(tiny_model("bert"), tmp_path / "m", *names, config=config)
    with pytest.raises(FileRefused, match=wording) as caught:
        find_checkpoint(folder)
    assert f"no model.safetensors in {folder}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_model_that_an_onnx_export_names_is_read(tiny_model, tmp_path):
    config = {"_name_or_path": str(tiny_model("bert"))}
    folder = without_weights(tiny_model("bert"), tmp_path / "m", "model.onnx", config=config)
    with pytest.raises(FileRefused) as caught:
        find_checkpoint(folder)
    named = re.search(r"made from, '([^']+)'", str(caught.value))
    assert_same_vectors(named[1], tiny_model("bert"))


def test_weights_of_another_name_are_read_once_they_are_renamed(tiny_model, tmp_path):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    with pytest.raises(FileRefused, match=r"weights\.safetensors is there.*rename it to model"):
        find_checkpoint(folder)
    (folder / "weights.safetensors").rename(folder / "model.safetensors")
    assert_same_vectors(folder, tiny_model("bert"))


@pytest.mark.parametrize("inside", ["checkpoint-500", "0_Transformer", "snapshots/0a1b2c"])
def test_a_folder_that_holds_models_names_them(tiny_model, tmp_path, inside):
    shutil.copytree(tiny_model("bert"), tmp_path / "m" / inside)
    (tmp_path / "m" / "1_Pooling").mkdir()
    (tmp_path / "m" / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    with pytest.raises(
        FileRefused, match=r"holds no config\.json; it holds models: give "
    ) as caught:
        find_checkpoint(tmp_path / "m")
    named = str(caught.value).rpartition("give ")[2]
    assert Path(named) == tmp_path / "m" / inside
    assert_same_vectors(named, tiny_model("bert"))


# ----------------------------------------------------------------------------------------- adapters


def adapter_files(folder, base, task=None):
    folder.mkdir(parents=True, exist_ok=True)
    adapter = {"peft_type": "LORA", "base_model_name_or_path": str(base), "task_type": task}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    (folder / "adapter_model.safetensors").write_bytes(b"")


@pytest.mark.parametrize(
    ("task", "peft_class"),
    [
        (None, "AutoPeftModel.from"),
        ("FEATURE_EXTRACTION", "AutoPeftModelForFeatureExtraction.from"),
        ("SEQ_CLS", "AutoPeftModelForSequenceClassification.from"),
        ("NEW_TASK", "AutoPeftModel.from"),
    ],
)
@pytest.mark.parametrize("beside_a_model", [True, False])
def test_an_adapter_is_refused_with_its_model(
    tiny_model, tmp_path, task, peft_class, beside_a_model
):
    folder = tmp_path / "adapter"
    if beside_a_model:
        variant(tiny_model("bert"), folder)
    adapter_files(folder, "some/model", task)
    with pytest.raises(FileRefused, match="holds an adapter") as caught:
        find_checkpoint(folder)
    message = str(caught.value)
    assert f"{peft_class}_pretrained({str(folder)!r}).merge_and_unload()" in message
    assert "AutoTokenizer.from_pretrained('some/model')" in message


def test_what_the_message_about_an_adapter_says_works(tiny_model, tmp_path, monkeypatch):
    peft = pytest.importorskip("peft")
    base, folder = tiny_model("bert"), tmp_path / "adapter"
    options = peft.LoraConfig(
        task_type="FEATURE_EXTRACTION", r=2, target_modules=["query"], init_lora_weights=False
    )
    model = peft.get_peft_model(transformers.AutoModel.from_pretrained(base), options)
    model.save_pretrained(folder)
    with pytest.raises(FileRefused) as caught:
        find_checkpoint(folder)
    monkeypatch.chdir(tmp_path)
    calls = re.findall(
        r"Auto\w+\.from_pretrained\(.*?\.save_pretrained\('merged'\)", str(caught.value)
    )
    assert len(calls) == 2
    for call in calls:
        eval(
            call, {**vars(peft), **vars(transformers), "AutoTokenizer": transformers.AutoTokenizer}
        )
    merged = vectors(tmp_path / "merged")["mean"]
    assert np.abs(merged - vectors(base)["mean"]).max() > 1e-3
    tokens = transformers.AutoTokenizer.from_pretrained(base)(
        "so happy for you", return_tensors="pt"
    )
    with torch.no_grad():
        expected = model.eval()(**tokens).last_hidden_state[0].mean(0).numpy()
    np.testing.assert_allclose(merged[0], expected, rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------- case that is lost

CASED = ("The", "Tram", "Is", "Late", "Oslo", "the", "tram", "is", "late", "oslo", "##s", "a", "b")


def bert_of(folder, pieces, **files):
    """A tiny BERT with a vocabulary and nothing else that says how to read texts."""
    folder.mkdir()
    vocab = [*SPECIAL, *pieces]
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    torch.manual_seed(5)
    config = transformers.BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
    )
    transformers.BertModel(config).save_pretrained(folder)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_a_cased_vocabulary_without_its_config_is_warned_of_with_a_cure_that_works(tmp_path):
    texts = ["The Tram Is Late", "the tram is late"]
    folder = bert_of(tmp_path / "m", CASED)
    with pytest.warns(UserWarning, match="case is lost.*do_lower_case.*tokenizer_config") as caught:
        first, second = vectors(folder, texts)["mean"]
    np.testing.assert_array_equal(first, second)
    content = re.search(r"write (\{.*?\}) into", str(caught[0].message))
    (folder / "tokenizer_config.json").write_text(content[1])
    encoder = FrozenEncoder(folder, pooling="mean", dtype="float32")
    assert encoder.remark == ""
    first, second = encoder.encode(texts)["mean"]
    assert np.abs(first - second).max() > 1e-3


# Whether case is lost: what is in the vocabulary, and what the folder says.
LOST = {
    "nothing said": (CASED, {}, True),
    "a config that does not say": (CASED, {"tokenizer_config": {"model_max_length": 40}}, True),
    "lower case wanted": (CASED, {"tokenizer_config": {"do_lower_case": True}}, True),
    "case kept": (CASED, {"tokenizer_config": {"do_lower_case": False}}, False),
    "no capitals": (tuple(piece for piece in CASED if piece.islower()), {}, False),
    "single capitals": ((*"abcdeABCDE", "the", "tram"), {}, False),
    "a stray word": ((*(f"w{n}" for n in range(300)), "The"), {}, False),
}


@pytest.mark.parametrize("kind", LOST)
def test_when_case_is_lost(tmp_path, kind):
    pieces, files, lost = LOST[kind]
    folder = bert_of(tmp_path / "m", pieces, **files)
    if lost:
        with pytest.warns(UserWarning, match="case is lost"):
            encoder = FrozenEncoder(folder, dtype="float32")
    else:
        encoder = FrozenEncoder(folder, dtype="float32")
    assert ("case is lost" in encoder.remark) == lost


def test_commands_say_once_that_case_is_lost(tmp_path):
    folder = bert_of(tmp_path / "m", CASED)
    tweets = [{"text": f"Tram {n} Is {word}", "label": word} for n in range(5) for word in "ab"]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, tweets)))

    def lines(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return [line for line in result.stderr.splitlines() if "case is lost" in line]

    store, head = tmp_path / "t.h5", tmp_path / "head.joblib"
    options = ["--model", folder, "--pooling", "mean", "--dtype", "float32"]
    (line,) = lines("extract", tmp_path / "t.jsonl", "-o", store, *options)
    assert str(folder) in line
    lines("fit", store, "-o", head, "--C", "1", "--cv", "2")
    (_,) = lines("predict", head, tmp_path / "t.jsonl", "-o", tmp_path / "out.csv")


def test_case_is_not_lost_by_models_as_they_are_saved(tiny_model):
    for architecture in ("bert", "roberta", "albert", "bertweet", "bert-japanese"):
        assert FrozenEncoder(tiny_model(architecture), pooling="mean", dtype="float32").remark == ""
    assert "coffee" in wordpiece(SPECIAL)  # their vocabularies are those of lower case
