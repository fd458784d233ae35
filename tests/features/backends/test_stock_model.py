"""Stock models: what must be in a checkpoint, what running it finds, what never runs."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np
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
    stock_model,
    variant,
)
from safetensors.torch import load_file, save_file
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from features import FrozenEncoder
from features.backends.eager.packed_attention import implementation, packed_attention
from features.backends.eager.stock_model import DeepestReached, LayerTaps
from features.errors import FileRefused, FrostlineError, InputError

TOLERANCE = 1e-5


def taps_left(model: torch.nn.Module) -> int:
    # Hooks behind modules are transformers' own, which keep the hidden states.
    return sum(len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shape_of_the_model_and_what_it_has(tiny_model, architecture):
    stock = stock_model(tiny_model(architecture))
    assert (stock.n_layers, stock.hidden_size) == (N_LAYERS, WIDTH)
    assert stock.n_embeddings == stock.module.config.vocab_size
    assert stock.has_pooler == ARCHITECTURES[architecture].pooler
    assert stock.layers == ARCHITECTURES[architecture].layers
    assert not stock.module.training
    assert not any(parameter.requires_grad for parameter in stock.module.parameters())
    assert {parameter.dtype for parameter in stock.module.parameters()} == {torch.float32}
    assert taps_left(stock.module) == 0


# What is found by running it.

# Position id of a text's first token where the model runs packed. None where it can't: MPNet,
# DeBERTa and SqueezeBERT have attention of their own, with position biases or over transposed
# states; Megatron-BERT's does not ask the registry.
FIRST_POSITION = {
    "bert": 0,
    "roberta": 2,  # behind the padding token's id, 1
    "xlm-roberta": 2,
    "camembert": 2,
    "bertweet": 2,
    "bert-japanese": 0,
    "distilbert": 0,
    "electra": 0,
    "mpnet": None,
    "deberta": None,
    "deberta-v2": None,
    "modernbert": 0,
    "megatron-bert": None,
    "squeezebert": None,
    "albert": 0,
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_who_runs_packed_and_where_positions_begin(tiny_model, architecture):
    stock = stock_model(tiny_model(architecture))
    assert stock.heeds_padding
    assert stock.first_position == FIRST_POSITION[architecture]
    assert stock.module.config._attn_implementation != implementation(""), "as it was before"


def blind_to_windows(*args, sliding_window=None, **kwargs):
    return packed_attention(*args, sliding_window=None, **kwargs)


def blind_to_borders(*args, **kwargs):
    return sdpa_attention_forward(*args, **kwargs)


def failing(*args, **kwargs):
    raise RuntimeError("no such kernel")


@pytest.mark.parametrize(
    ("attention", "refused"),
    [
        (packed_attention, []),
        (blind_to_windows, ["modernbert"]),
        (blind_to_borders, ["bert", "roberta", "modernbert"]),
        (failing, ["bert", "roberta", "modernbert"]),
    ],
)
def test_a_packed_attention_that_is_wrong_is_not_used(tiny_model, monkeypatch, attention, refused):
    monkeypatch.setitem(AttentionInterface._global_mapping, implementation(""), attention)
    found = {a: stock_model(tiny_model(a)) for a in ("bert", "roberta", "modernbert")}
    assert [name for name, stock in found.items() if stock.first_position is None] == refused
    assert implementation("") not in {
        stock.module.config._attn_implementation for stock in found.values()
    }


# Multiplications and additions of a layer, 2 a weight: query, key, value and output are 32 by 32,
# the feed-forward 32 by 48 there and back.
OF_A_LAYER = 2 * (4 * 32 * 32 + 2 * 32 * 48)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("bert", OF_A_LAYER),
        ("distilbert", OF_A_LAYER),
        ("albert", OF_A_LAYER),  # one layer of weights, used four times
        ("modernbert", OF_A_LAYER + 2 * 32 * 48),  # gated: the way there is twice as wide
    ],
)
def test_work_for_a_token(tiny_model, architecture, expected):
    stock = stock_model(tiny_model(architecture))
    found = [stock.flops_per_token(deepest) for deepest in range(N_LAYERS + 1)]
    assert found == [deepest * expected for deepest in range(N_LAYERS + 1)]


def test_work_for_a_token_is_not_known_without_layers(tiny_model):
    assert stock_model(tiny_model("squeezebert")).flops_per_token(2) == 0


# Taps.


@pytest.fixture
def stock(tiny_model):
    return stock_model(tiny_model("bert"))


IDS = torch.tensor([[2, 8, 21, 13, 3]]), torch.tensor([[2, 30, 31, 32, 33, 34, 3]])


def states_of(stock, ids):
    with torch.inference_mode():
        return stock.module(input_ids=ids, output_hidden_states=True).hidden_states


def test_taps_leave_the_wanted_states_and_end_behind_the_deepest(stock):
    calls = []
    layers = stock.layers_of(stock.module)
    with LayerTaps(layers) as taps, torch.inference_mode():
        watch = [layer.register_forward_hook(lambda *_: calls.append(1)) for layer in layers]
        with taps.recording({0, 2}, 2) as states, pytest.raises(DeepestReached):
            stock.module(input_ids=IDS[0])
        for handle in watch:
            handle.remove()
    assert len(calls) == 2
    assert sorted(states) == [0, 2]
    expected = states_of(stock, IDS[0])
    for number, state in states.items():
        torch.testing.assert_close(state, expected[number], rtol=0, atol=0)


def test_taps_go_when_they_are_closed(stock):
    with LayerTaps(stock.layers_of(stock.module)):
        assert taps_left(stock.module) == N_LAYERS
    assert taps_left(stock.module) == 0


def test_nobody_records_nothing_is_kept_and_nothing_ends(stock):
    with LayerTaps(stock.layers_of(stock.module)) as taps, torch.inference_mode():
        with taps.recording({1}, 1) as states, pytest.raises(DeepestReached):
            stock.module(input_ids=IDS[0])
        last = stock.module(input_ids=IDS[1]).last_hidden_state
    assert list(states) == [1]
    torch.testing.assert_close(last, states_of(stock, IDS[1])[-1], rtol=0, atol=0)


def test_a_pass_that_fails_ends_its_recording(stock):
    with LayerTaps(stock.layers_of(stock.module)) as taps, torch.inference_mode():
        with pytest.raises(IndexError), taps.recording({1}, 1):
            stock.module(input_ids=torch.tensor([[2, 10**6, 3]]))
        with taps.recording({3}, 3) as states, pytest.raises(DeepestReached):
            stock.module(input_ids=IDS[0])
    torch.testing.assert_close(states[3], states_of(stock, IDS[0])[3], rtol=0, atol=0)


def test_two_threads_record_each_its_own_pass(stock):
    """They meet before every layer, so that their calls alternate."""
    together = threading.Barrier(2, timeout=30)

    def pass_of(taps, ids):
        with torch.inference_mode(), taps.recording({0, 1, 3}, -1) as states:
            stock.module(input_ids=ids)
        return states

    def meet(*_):
        together.wait()

    layers = stock.layers_of(stock.module)
    meeting = [layer.register_forward_pre_hook(meet) for layer in layers]
    with LayerTaps(layers) as taps, ThreadPoolExecutor(2) as threads:
        both = list(threads.map(partial(pass_of, taps), IDS))
    for handle in meeting:
        handle.remove()
    for ids, states in zip(IDS, both, strict=True):
        assert sorted(states) == [0, 1, 3]
        expected = states_of(stock, ids)
        for number, state in states.items():
            torch.testing.assert_close(state, expected[number], rtol=0, atol=TOLERANCE)


def test_the_states_of_these_tests_differ(stock):
    for below, above in pairwise(states_of(stock, IDS[0])):
        assert (below - above).abs().mean() > 0.05


# How it is loaded.


@pytest.mark.parametrize(
    "asked",
    ["sdpa", "eager", "flash_attention_2", "made_up", "kernels-community/flash-attn", "x/y@v1:f"],
)
def test_attention_is_ours_to_choose(tiny_model, tmp_path, asked):
    folder = variant(tiny_model("bert"), tmp_path / "m", config={"attn_implementation": asked})
    assert stock_model(folder).module.config._attn_implementation == "sdpa"


def test_attention_is_ours_to_choose_by_its_older_name(tiny_model, tmp_path):
    for number, key in enumerate(("_attn_implementation", "_attn_implementation_internal")):
        changed = {key: "someone/some-kernel", "use_kernels": True}
        folder = variant(tiny_model("bert"), tmp_path / f"m{number}", config=changed)
        model = stock_model(folder).module
        assert model.config._attn_implementation == "sdpa"
        assert not getattr(model, "use_kernels", False)


def test_weights_in_half_precision_are_loaded_as_float32(tiny_model, tmp_path):
    folder = tmp_path / "half"
    model = transformers.AutoModel.from_pretrained(tiny_model("bert"), dtype=torch.float16)
    model.save_pretrained(folder)
    stock = stock_model(folder)
    assert {parameter.dtype for parameter in stock.module.parameters()} == {torch.float32}


# What a checkpoint must hold.


def test_an_encoder_decoder_is_refused_with_an_alternative(tmp_path):
    config = transformers.T5Config(
        vocab_size=120, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4
    )
    transformers.T5Model(config).save_pretrained(tmp_path)
    bert_tokenizer(tmp_path).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"\(t5\) is an encoder-decoder; save its encoder alone"):
        FrozenEncoder(tmp_path)


def test_an_encoder_decoder_whose_encoder_has_no_class_is_refused_with_others(tmp_path):
    config = transformers.BartConfig(
        vocab_size=120,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=40,
    )
    transformers.BartModel(config).save_pretrained(tmp_path)
    bert_tokenizer(tmp_path).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"\(bart\) is an encoder-decoder; choose .*BERT"):
        FrozenEncoder(tmp_path)


def test_weights_without_some_of_the_encoder_are_refused(tiny_model, tmp_path):
    folder = variant(tiny_model("bert"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    lost = [name for name in weights if name.startswith("encoder.layer.2.")]
    kept = {name: tensor for name, tensor in weights.items() if name not in lost}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FileRefused, match=rf"lack {len(lost)} .*encoder\.layer\.2\."):
        stock_model(folder)


def test_a_config_with_more_layers_than_the_weights_is_refused(tiny_model, tmp_path):
    deeper = variant(tiny_model("bert"), tmp_path / "m", config={"num_hidden_layers": 6})
    with pytest.raises(FileRefused, match=r"encoder\.layer\.4\."):
        stock_model(deeper)


# What says that it puts a token around texts, and does not say which.
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}


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


# An architecture, what is changed in its files, and what is said.
BROKEN = {
    "positions beyond the table": (
        "xlm-roberta",
        {"config": {"pad_token_id": 3}},
        "does not run as an encoder of texts: index",
    ),
    "a norm of no number": (
        "electra",
        {"config": {"layer_norm_eps": -0.5}},
        "does not run as an encoder of texts",
    ),
    "an unknown token that is unknown": (
        "bert",
        {"tokenizer_config": {"unk_token": "gelu_new"}},
        r"its tokenizer cannot read texts: WordPiece error: Missing \[UNK\]",
    ),
    "a template of tokens that are not there": (
        "albert",
        {"tokenizer": {"post_processor": TEMPLATE}},
        "its tokenizer cannot (be loaded|read texts)",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_models_that_fail_at_a_text_are_refused(tiny_model, tmp_path, case):
    architecture, change, told = BROKEN[case]
    folder = variant(tiny_model(architecture), tmp_path / "m", **change)
    with pytest.raises(FileRefused, match=told) as caught:
        FrozenEncoder(folder, normalize="none").encode(["ok \u2603 \U0001f9ff"])
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("told", ["long", "", [], {}, None], ids=repr)
def test_a_length_that_the_tokenizer_says_in_other_words_is_no_harm(tiny_model, tmp_path, told):
    folder = variant(
        tiny_model("bert"), tmp_path / "m", tokenizer_config={"model_max_length": told}
    )
    texts = ["so happy for you", "the bus is late " * 40]
    found = FrozenEncoder(folder, pooling="mean", dtype="float32").encode(texts)
    expected = FrozenEncoder(tiny_model("bert"), pooling="mean", dtype="float32").encode(texts)
    np.testing.assert_array_equal(found["mean"], expected["mean"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"vocab_size": 10**9}, r"declares a model of [\d,]{13,} numbers, and its weights have"),
        ({"hidden_size": 10**6}, "declares a model of|cannot be loaded"),
        ({"intermediate_size": 10**12}, "declares a model of"),
        ({"max_position_embeddings": 10**11}, "declares a model of"),
        ({"hidden_size": 10**18}, "cannot be loaded|declares a model of"),
        ({"num_hidden_layers": 10**9}, "says num_hidden_layers 1000000000; no encoder has more"),
        ({"num_hidden_layers": 10**400}, "says num_hidden_layers 10000000000000000000; no enc"),
        ({"text_config": {"n_layers": [4, 5000]}}, "says n_layers 5000"),
    ],
    ids=str,
)
def test_a_config_of_an_absurd_size_is_refused_before_it_takes_memory(
    tiny_model, tmp_path, monkeypatch, change, told
):
    folder = variant(tiny_model("bert"), tmp_path / "m", config=change)
    loaded = []
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda *a, **k: loaded.append(a))
    with pytest.raises(FileRefused, match=told) as caught:
        FrozenEncoder(folder)
    assert str(folder) in str(caught.value)
    assert not loaded


def test_layers_that_share_their_weights_are_bounded_too(tiny_model, tmp_path):
    """A file of any size can be run a million times."""
    folder = variant(tiny_model("albert"), tmp_path / "m", config={"num_hidden_layers": 10**6})
    with pytest.raises(FileRefused, match="says num_hidden_layers 1000000"):
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
        stock_model(tiny_model("bert"))
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
