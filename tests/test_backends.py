"""The forward pass by itself: devices, layers, masks, and what a checkpoint must hold."""

import sys
from pathlib import Path

import pytest
import torch
import transformers
from architectures import (
    ARCHITECTURES,
    N_LAYERS,
    POSITIONS,
    TEXTS,
    WIDTH,
    Architecture,
    bert_tokenizer,
    build,
    plain_forward,
    variant,
)
from safetensors.torch import load_file, save_file

from features import FrozenEncoder
from features.backends import DEFAULT_BATCH_TOKENS, TorchBackend, choose_device, half_dtypes
from features.checkpoint import find_checkpoint
from features.errors import FileRefused, FrostlineError, InputError

# In every tiny vocabulary: special tokens, then pieces.
PROBE = [2, 8, 21, 13, 3]
TOLERANCE = 1e-5


def load(folder: Path) -> TorchBackend:
    padding_id = transformers.AutoConfig.from_pretrained(folder).pad_token_id
    return TorchBackend(find_checkpoint(folder), PROBE, padding_id or 0)


def hooks_left(model: torch.nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shape_of_the_model_and_what_it_has(tiny_model, architecture):
    backend = load(tiny_model(architecture))
    assert (backend.n_layers, backend.hidden_size) == (N_LAYERS, WIDTH)
    assert backend.has_pooler == ARCHITECTURES[architecture].pooler
    assert not backend.model.training
    assert not any(parameter.requires_grad for parameter in backend.model.parameters())
    assert {parameter.dtype for parameter in backend.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("layers", [[0], [1, 3], [0, 4], [4], [0, 1, 2, 3, 4]], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_layers_that_were_asked_for_and_no_others(tiny_model, architecture, layers):
    folder = tiny_model(architecture)
    backend = load(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["the old library", "so"]
    rows = [tokenizer(text)["input_ids"] for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[tokenizer.pad_token_id] * (width - len(row))] for row in rows])
    attended = torch.tensor([[i < len(row) for i in range(width)] for row in rows])
    assert not attended.all()

    before = hooks_left(backend.model)
    states, pooler = backend.forward(ids, attended, layers, pooler=False)
    assert hooks_left(backend.model) == before
    assert sorted(states) == layers
    assert pooler is None
    for row, plain in enumerate(plain_forward(folder, texts, POSITIONS)):
        for layer in layers:
            found = states[layer][row][attended[row]]
            torch.testing.assert_close(found, plain.states[layer], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if ARCHITECTURES[a].pooler])
def test_the_pooler_comes_along_with_any_layers(tiny_model, architecture):
    folder = tiny_model(architecture)
    backend = load(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer("the old library")["input_ids"]])
    states, pooler = backend.forward(ids, torch.ones_like(ids, dtype=torch.bool), [1], pooler=True)
    (plain,) = plain_forward(folder, ["the old library"], POSITIONS)
    assert list(states) == [1]
    torch.testing.assert_close(states[1][0], plain.states[1], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(pooler[0], plain.pooler, rtol=0, atol=TOLERANCE)


def test_a_pass_that_fails_leaves_no_hooks_behind(tiny_model):
    backend = load(tiny_model("bert"))
    before = hooks_left(backend.model)
    beyond_the_vocabulary = torch.tensor([[2, 10**6, 3]])
    with pytest.raises(IndexError):
        backend.forward(
            beyond_the_vocabulary, torch.ones(1, 3, dtype=torch.bool), [1], pooler=False
        )
    assert hooks_left(backend.model) == before
    # And the next one is whole again.
    ids = torch.tensor([PROBE])
    states, _ = backend.forward(ids, torch.ones_like(ids, dtype=torch.bool), [4], pooler=False)
    assert states[4].shape == (1, len(PROBE), WIDTH)


@pytest.mark.parametrize("asked", ["sdpa", "eager", "flash_attention_2", "made_up"])
def test_attention_is_ours_to_choose(tiny_model, tmp_path, asked):
    folder = variant(tiny_model("bert"), tmp_path / "m", config={"attn_implementation": asked})
    assert load(folder).model.config._attn_implementation == "sdpa"


def test_attention_is_ours_to_choose_by_its_older_name(tiny_model, tmp_path):
    changed = {"_attn_implementation": "flash_attention_2"}
    folder = variant(tiny_model("bert"), tmp_path / "m", config=changed)
    assert load(folder).model.config._attn_implementation == "sdpa"


def test_weights_in_half_precision_are_loaded_as_float32(tiny_model, tmp_path):
    folder = tmp_path / "half"
    model = transformers.AutoModel.from_pretrained(tiny_model("bert"), dtype=torch.float16)
    model.save_pretrained(folder)
    backend = load(folder)
    assert {parameter.dtype for parameter in backend.model.parameters()} == {torch.float32}


def test_moving_changes_the_precision_of_the_weights(tiny_model):
    backend = load(tiny_model("bert"))
    backend.to(torch.device("cpu"), torch.bfloat16)
    ids = torch.tensor([PROBE])
    states, _ = backend.forward(ids, torch.ones_like(ids, dtype=torch.bool), [2], pooler=False)
    assert states[2].dtype == torch.bfloat16


# Devices.


def test_auto_is_the_best_device_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


def test_devices_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(InputError, match=r"'cuda:2' is not there: this machine has 2"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:-1", "cuda:x", "cpu:0", "meta"])
def test_names_of_no_device_are_refused(name):
    with pytest.raises(InputError, match=f"{name!r}"):
        choose_device(name)


def test_half_precision_by_device(monkeypatch):
    assert half_dtypes(torch.device("cuda"))[0] == torch.float16
    assert half_dtypes(torch.device("mps")) == (torch.float16,)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False})
    assert half_dtypes(torch.device("cpu")) == ()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert half_dtypes(torch.device("cpu")) == (torch.bfloat16,)


@pytest.mark.parametrize("device", DEFAULT_BATCH_TOKENS)
def test_every_device_has_a_batch_size_and_half_precisions(device):
    assert DEFAULT_BATCH_TOKENS[device] > 512
    assert torch.float32 not in half_dtypes(torch.device(device))


# What a checkpoint must hold.


def test_an_encoder_decoder_is_refused_with_an_alternative(tmp_path):
    config = transformers.T5Config(
        vocab_size=120, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4
    )
    transformers.T5Model(config).save_pretrained(tmp_path)
    bert_tokenizer(tmp_path).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"\(t5\) is an encoder-decoder; choose .*BERT"):
        FrozenEncoder(tmp_path)


def test_weights_without_some_of_the_encoder_are_refused(tiny_model, tmp_path):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    lost = [name for name in weights if name.startswith("encoder.layer.2.")]
    kept = {name: tensor for name, tensor in weights.items() if name not in lost}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FileRefused, match=rf"lack {len(lost)} .*encoder\.layer\.2\."):
        load(folder)


def test_a_config_with_more_layers_than_the_weights_is_refused(tiny_model, tmp_path):
    deeper = variant(tiny_model("bert"), tmp_path / "m", config={"num_hidden_layers": 6})
    with pytest.raises(FileRefused, match=r"encoder\.layer\.4\."):
        load(deeper)


@pytest.mark.parametrize(
    "change",
    [
        {"vocab_size": 10},
        {"intermediate_size": 64},
        {"num_attention_heads": 5},
        {"hidden_act": "made_up"},
        {"model_type": "made_up"},
        {"hidden_size": "wide"},
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_is_refused(tiny_model, tmp_path, change):
    folder = variant(tiny_model("bert"), tmp_path / "m", config=change)
    with pytest.raises(FileRefused, match=str(folder)):
        FrozenEncoder(folder)


def test_a_pooler_that_was_never_trained_is_refused(tiny_model, tmp_path):
    # Loaded into BertModel, a masked-language model gets a pooler of random numbers.
    source = tiny_model("bert")
    config = transformers.AutoConfig.from_pretrained(source)
    model = transformers.BertForMaskedLM(config)
    assert not any("pooler" in name for name in model.state_dict())
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(tmp_path)
    assert FrozenEncoder(tmp_path, pooling="cls").views == {"cls": WIDTH}
    with pytest.raises(InputError, match="no trained pooler; take cls or mean"):
        FrozenEncoder(tmp_path, pooling=["cls", "pooler"])


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if not ARCHITECTURES[a].pooler])
def test_a_pooler_that_is_not_there_is_refused(tiny_model, architecture):
    with pytest.raises(InputError, match="no trained pooler; take cls or mean"):
        FrozenEncoder(tiny_model(architecture), pooling="pooler")


# Behind the encoder of a task model lies the same encoder.
def test_a_model_with_a_classifier_gives_its_encoder(tiny_model, tmp_path):
    source = tiny_model("roberta")
    model = transformers.RobertaForSequenceClassification.from_pretrained(source)
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(tmp_path)
    options = {"pooling": ["cls", "mean@2"], "dtype": "float32"}
    plain, task = (FrozenEncoder(f, **options).encode(TEXTS) for f in (source, tmp_path))
    for view in plain:
        torch.testing.assert_close(
            torch.from_numpy(task[view]), torch.from_numpy(plain[view]), rtol=0, atol=TOLERANCE
        )


CODE = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from transformers import BertConfig, BertModel, BertTokenizer
class Config(BertConfig): pass
class Model(BertModel): pass
class Tokenizer(BertTokenizer): pass
"""
AUTO_MAP = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}


@pytest.mark.parametrize("model_type", ["bert", "made_up"])
def test_code_in_a_model_folder_never_runs(tiny_model, tmp_path, monkeypatch, model_type):
    # Where transformers copies such code to, and imports it from.
    modules = str(tmp_path / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    marker = tmp_path / "ran"
    folder = variant(
        tiny_model("bert"),
        tmp_path / "m",
        config={"model_type": model_type, "auto_map": AUTO_MAP},
        tokenizer_config={"auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}},
    )
    (folder / "evil.py").write_text(CODE.format(marker=str(marker)))
    if model_type == "bert":  # transformers has its own code for it
        assert FrozenEncoder(folder, pooling="cls").encode(["ok"])["cls"].shape == (1, WIDTH)
    else:
        with pytest.raises(FileRefused, match="cannot be loaded"):
            FrozenEncoder(folder)
    assert not marker.exists()
    # The same folder does run its code for those who trust it: so the trap is armed.
    transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert marker.exists()


def test_loading_leaves_the_logging_of_transformers_alone(tiny_model):
    transformers.logging.set_verbosity_info()
    try:
        load(tiny_model("bert"))
        assert transformers.logging.get_verbosity() == transformers.logging.INFO
        assert transformers.logging.is_progress_bar_enabled()
    finally:
        transformers.logging.set_verbosity_warning()


# Models that transformers runs, but whose vectors would be wrong.

# A text's vectors depend on the padding behind it: by a convolution, a Fourier transform, the
# neighbour's embedding, or landmarks over all positions.
SEE_PADDING = {
    "convbert": Architecture(
        transformers.ConvBertConfig, bert_tokenizer, options={"embedding_size": WIDTH}
    ),
    "fnet": Architecture(transformers.FNetConfig, bert_tokenizer),
    "mobilebert": Architecture(
        transformers.MobileBertConfig,
        bert_tokenizer,
        options={"intra_bottleneck_size": 16, "embedding_size": 16},
    ),
    "nystromformer": Architecture(
        transformers.NystromformerConfig,
        bert_tokenizer,
        options={"num_landmarks": 4, "segment_means_seq_len": 4},
    ),
}


@pytest.mark.parametrize("architecture", SEE_PADDING)
def test_models_that_see_padding_are_refused_or_never_padded(tmp_path, architecture):
    folder = build(SEE_PADDING[architecture], tmp_path)
    try:
        encoder = FrozenEncoder(folder, pooling="mean", normalize="none", dtype="float32")
    except FrostlineError:
        return
    found = torch.from_numpy(encoder.encode(TEXTS)["mean"])
    plain = plain_forward(folder, TEXTS, POSITIONS)
    expected = torch.stack([text.states[-1].mean(0) for text in plain])
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


# Positions are numbered from the padding id + 1 here too.
MORE_OFFSETS = {
    "ibert": (transformers.IBertConfig, {}),
    "roberta-prelayernorm": (transformers.RobertaPreLayerNormConfig, {}),
    "xlm-roberta-xl": (transformers.XLMRobertaXLConfig, {}),
    "luke": (transformers.LukeConfig, {"entity_emb_size": 16, "entity_vocab_size": 10}),
    "esm": (transformers.EsmConfig, {"position_embedding_type": "absolute"}),
}


@pytest.mark.parametrize("architecture", MORE_OFFSETS)
def test_the_default_length_fits_models_that_start_positions_late(tmp_path, architecture):
    config, options = MORE_OFFSETS[architecture]
    folder = build(Architecture(config, bert_tokenizer, options=options), tmp_path)
    encoder = FrozenEncoder(folder, pooling="mean", dtype="float32")
    assert encoder.encode(TEXTS)["mean"].shape == (len(TEXTS), WIDTH)


def test_a_tokenizer_of_another_model_is_refused(tiny_model, tmp_path):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["zeppelin"])  # and the embeddings were not resized
    tokenizer.save_pretrained(folder)
    with pytest.raises(FileRefused, match="tokenizer"):
        FrozenEncoder(folder, pooling="mean").encode(["the old zeppelin"])


def test_a_model_of_images_is_refused(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=8,
        patch_size=4,
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    bert_tokenizer(tmp_path).save_pretrained(tmp_path)
    with pytest.raises(FrostlineError):
        FrozenEncoder(tmp_path)


def test_an_empty_text_where_the_tokenizer_adds_no_special_tokens(tiny_model, tmp_path):
    folder = variant(tiny_model("modernbert"), tmp_path / "m", tokenizer={"post_processor": None})
    encoder = FrozenEncoder(folder, pooling="mean", dtype="float32")
    assert encoder.encode([""])["mean"].shape == (1, WIDTH)
