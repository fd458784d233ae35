"""The view `sentence` is the vector that sentence-transformers gives of the same folder."""

import json

import numpy as np
import pytest
import torch
from architectures import CORPUS, POSITIONS, TEXTS, variant
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st
from torch import nn

from features import FrozenEncoder, extract
from features.errors import FileRefused, InputError
from features.spec.checkpoint import find_checkpoint
from features.spec.encoder_spec import make_spec
from features.spec.sentence_folder import read_sentence_modules
from features.spec.sentence_modules import ACTIVATIONS, MODES
from features.store.reader import FeatureStore
from pipeline import fit
from pipeline.scoring.predict import encode_for, encoders_for

WIDTH = 32
RAW = {"normalize": "none", "dtype": "float32", "backend": "torch"}


def sentence_folder(model, folder, pooling="mean", steps=(), include_prompt=True, **about):
    """Save a tiny model with modules as sentence-transformers saves it."""
    torch.manual_seed(0)
    transformer = st.Transformer(str(variant(model, folder.parent / f"{folder.name}-model")))
    width = transformer.get_embedding_dimension()
    pooled = st.Pooling(width, pooling, include_prompt=include_prompt)
    made, width = [], pooled.get_embedding_dimension()
    for step in steps:
        made.append(step(width))
        width = getattr(made[-1], "out_features", width)
    SentenceTransformer(modules=[transformer, pooled, *made], **about).save(str(folder))
    return folder


def expected(folder, texts=TEXTS, **options):
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return model.encode(list(texts), **options)


def dense(out=24, activation=None, **options):
    return lambda width: st.Dense(width, out, activation_function=activation, **options)


def trained_norm(width):
    norm = st.LayerNorm(width)
    nn.init.normal_(norm.norm.weight)
    nn.init.normal_(norm.norm.bias)
    return norm


def normalize(width):
    return st.Normalize()


def weighted_layers(model, folder):
    """A folder whose tokens are a mean of its last layers, by weights."""
    torch.manual_seed(0)
    source = variant(model, folder.parent / f"{folder.name}-model")
    changed(source, "config.json", output_hidden_states=True)
    transformer = st.Transformer(str(source))
    layers = transformer.model.config.num_hidden_layers
    weighted = st.WeightedLayerPooling(WIDTH, layers, layer_start=layers - 1)
    weighted.layer_weights.data[:] = torch.tensor([0.25, 1.5])
    SentenceTransformer(modules=[transformer, weighted, st.Pooling(WIDTH, "max")]).save(str(folder))
    return folder


def test_a_mean_of_layers(tiny_model, tmp_path):
    folder = weighted_layers(tiny_model("bert"), tmp_path / "m")
    vectors = FrozenEncoder(folder, pooling=["sentence", "max"], **RAW).encode(TEXTS)
    np.testing.assert_allclose(vectors["sentence"], expected(folder), atol=1e-5)
    assert not np.allclose(vectors["sentence"], vectors["max"], atol=1e-2)


# What stands behind the transformer: pooling, and the steps that follow.
FOLDERS = {
    **{mode: (mode, ()) for mode in MODES},
    "several modes": (("mean", "max", "cls"), ()),
    "normalize": ("mean", (normalize,)),
    "no activation": ("mean", (dense(),)),
    "no bias": ("cls", (dense(bias=False),)),
    "residual": ("mean", (dense(use_residual=True),)),
    "residual of one width": ("max", (lambda w: dense(w, nn.Tanh(), use_residual=True)(w),)),
    "layer norm": ("mean", (trained_norm,)),
    "dropout": ("mean", (lambda width: st.Dropout(0.5), normalize)),
    "all": (("cls", "mean"), (dense(16, nn.Tanh()), trained_norm, dense(8), normalize)),
    **{name: ("mean", (dense(24, getattr(nn, name)()),)) for name in ACTIVATIONS},
}


@pytest.mark.parametrize("case", FOLDERS)
def test_the_vectors_are_those_of_sentence_transformers(case, tiny_model, tmp_path):
    pooling, steps = FOLDERS[case]
    folder = sentence_folder(tiny_model("bert"), tmp_path / "m", pooling, steps)
    encoder = FrozenEncoder(folder, pooling=["sentence", "mean@-2"], **RAW)
    vectors = encoder.encode(TEXTS)
    reference = expected(folder)
    assert encoder.views["sentence"] == reference.shape[1]
    np.testing.assert_allclose(vectors["sentence"], reference, atol=1e-5)


@pytest.mark.parametrize("architecture", ["mpnet", "xlm-roberta"])
def test_other_architectures(architecture, tiny_model, tmp_path):
    folder = sentence_folder(
        tiny_model(architecture), tmp_path / "m", ("cls", "weightedmean"), (dense(), normalize)
    )
    vectors = FrozenEncoder(folder, pooling="sentence", **RAW).encode(TEXTS)["sentence"]
    np.testing.assert_allclose(vectors, expected(folder), atol=1e-5)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_exported_models_give_the_same(backend, tiny_model, tmp_path):
    folder = sentence_folder(
        tiny_model("bert"), tmp_path / "m", ("mean", "lasttoken"), (dense(), normalize)
    )
    for _ in range(2):  # exported, and then opened without torch
        encoder = FrozenEncoder(folder, pooling="sentence", **{**RAW, "backend": backend})
        np.testing.assert_allclose(encoder.encode(TEXTS)["sentence"], expected(folder), atol=1e-5)


PROMPTS = {"query": "so what a : ", "plain": "the bus is "}


@pytest.mark.parametrize("pooling", [MODES, ("max", "cls")])
@pytest.mark.parametrize("include_prompt", [True, False])
def test_prompts(include_prompt, pooling, tiny_model, tmp_path):
    """By name, by default, as a prefix, and none; their tokens are pooled or left out."""
    folder = sentence_folder(
        tiny_model("bert"),
        tmp_path / "m",
        pooling,
        include_prompt=include_prompt,
        prompts=PROMPTS,
        default_prompt_name="query",
    )
    for ours, theirs in (
        ({}, {}),
        ({"prompt_name": "plain"}, {"prompt_name": "plain"}),
        ({"prefix": "not bad "}, {"prompt": "not bad "}),
        ({"prompt_name": ""}, {"prompt": ""}),
    ):
        encoder = FrozenEncoder(folder, pooling="sentence", **RAW, **ours)
        assert encoder.spec.prefix == PROMPTS.get(ours.get("prompt_name", "query"), "") or ours.get(
            "prefix"
        )
        np.testing.assert_allclose(
            encoder.encode(CORPUS)["sentence"], expected(folder, CORPUS, **theirs), atol=1e-5
        )


def test_the_length_is_that_of_the_folder(tiny_model, tmp_path):
    folder = sentence_folder(tiny_model("bert"), tmp_path / "m")
    settings = json.loads((folder / "sentence_bert_config.json").read_text())
    (folder / "sentence_bert_config.json").write_text(json.dumps({**settings, "max_seq_length": 9}))
    encoder = FrozenEncoder(folder, pooling="sentence", **RAW)
    assert encoder.spec.max_length == 9
    np.testing.assert_allclose(encoder.encode(TEXTS)["sentence"], expected(folder), atol=1e-5)
    assert FrozenEncoder(folder, pooling="mean", **RAW).spec.max_length == POSITIONS


def test_an_older_folder(tiny_model, tmp_path):
    """A folder of its own for the transformer, and older names of the modes."""
    folder = sentence_folder(tiny_model("bert"), tmp_path / "m", ("mean", "max"), (dense(),))
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        if path.name not in ("modules.json", "config_sentence_transformers.json", "README.md"):
            path.rename(inner / path.name)
    (folder / "1_Pooling/config.json").write_text(
        json.dumps(
            {
                "word_embedding_dimension": WIDTH,
                "pooling_mode_cls_token": False,
                "pooling_mode_mean_tokens": True,
                "pooling_mode_max_tokens": True,
            }
        )
    )
    torch.manual_seed(0)
    vectors = FrozenEncoder(inner, pooling="sentence", **RAW).encode(TEXTS)["sentence"]
    np.testing.assert_allclose(vectors, expected(folder), atol=1e-5)


# --- what an encoder is -------------------------------------------------------------------------


def spec(folder, **options):
    return make_spec(find_checkpoint(folder), **options)


def test_other_views_keep_their_fingerprint(tiny_model, tmp_path):
    """The modules are part of the spec only where they are asked for."""
    folder = sentence_folder(tiny_model("bert"), tmp_path / "m", "mean", (dense(),))
    plain = spec(folder)
    assert "modules" not in plain.to_dict()
    assert plain.fingerprint == spec(tiny_model("bert")).fingerprint
    with_modules = spec(folder, sentence=True)
    assert with_modules.fingerprint != plain.fingerprint
    assert with_modules.differences(plain) == [("modules", with_modules.modules[:12], "")]


def test_the_fingerprint_covers_all_modules(tiny_model, tmp_path):
    """A weight, an activation, a mode, a module: each makes another encoder."""

    def made(name, *arguments, **options):
        folder = sentence_folder(tiny_model("bert"), tmp_path / name, *arguments, **options)
        return spec(folder, sentence=True).fingerprint

    def other_weights(width):
        module = dense()(width)
        module.linear.weight.data[3, 4] += 1e-6
        return module

    first = made("a", "mean", (dense(),))
    assert made("b", "mean", (dense(),)) == first  # whatever it is called
    others = {
        first,
        made("c", "mean", (other_weights,)),
        made("d", "mean", (dense(24, nn.Tanh()),)),
        made("e", "max", (dense(),)),
        made("f", "mean", (dense(), normalize)),
        made("g", "mean", (dense(),), include_prompt=False),
        made("h", "mean"),
    }
    assert len(others) == 7


def test_a_store_and_a_head_of_it(tiny_model, tmp_path):
    """All views in one pass; a head finds its modules, and refuses others."""
    folder = sentence_folder(tiny_model("bert"), tmp_path / "m", "mean", (dense(8), normalize))
    (tmp_path / "a.csv").write_text(
        "text,label\n" + "".join(f'"{text}{n}",{n % 2}\n' for n in range(3) for text in CORPUS)
    )
    extract(
        tmp_path / "a.csv",
        tmp_path / "a.h5",
        model=folder,
        pooling=["cls", "sentence"],
        store_dtype="float32",
        **RAW,
    )
    with FeatureStore(tmp_path / "a.h5") as store:
        assert store.views == {"cls": WIDTH, "sentence": 8}
        cached = store.read("sentence")
        assert store.spec.modules == read_sentence_modules(folder).digest
    texts = [f"{text}{n}" for n in range(3) for text in CORPUS]
    np.testing.assert_allclose(cached, expected(folder, texts), atol=1e-5)
    head = fit(tmp_path / "a.h5", pooling="sentence").head
    encoders = encoders_for(head)
    np.testing.assert_allclose(encode_for(head, texts, encoders), cached, atol=1e-5)
    other = sentence_folder(tiny_model("bert"), tmp_path / "o", "mean", (dense(9), normalize))
    with pytest.raises(FileRefused, match=r"modules: .* here"):
        encoders_for(head, models=[other])
    with pytest.raises(InputError, match=r"no modules\.json"):
        encoders_for(head, models=[tiny_model("bert")])


# --- what is refused ----------------------------------------------------------------------------


def changed(folder, name, **settings):
    path = folder / name
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, **settings}))


def module_type(folder, number, name):
    modules = json.loads((folder / "modules.json").read_text())
    modules[number]["type"] = name
    (folder / "modules.json").write_text(json.dumps(modules))


ST = "sentence_transformers.models"
REFUSED = {
    "a module of others": (
        lambda f: module_type(f, 2, "custom.Evil"),
        "module 'custom.Evil' .* is not honoured",
    ),
    "layers that are not weighted after all": (
        lambda f: module_type(f, 1, f"{ST}.WeightedLayerPooling"),
        "WeightedLayerPooling in .* has no effect",
    ),
    "words that are weighted": (
        lambda f: module_type(f, 1, f"{ST}.WordWeights"),
        "WordWeights' .* is not honoured",
    ),
    "no pooling": (lambda f: module_type(f, 1, f"{ST}.Dense"), "must begin with Transformer and"),
    "no list": (lambda f: (f / "modules.json").write_text("{}"), "lists nothing"),
    "no JSON": (lambda f: (f / "modules.json").write_text("["), "not valid JSON"),
    "a path outside": (
        lambda f: (f / "modules.json").write_text(
            (f / "modules.json").read_text().replace("2_Dense", "../2_Dense")
        ),
        "names a path outside of its folder",
    ),
    "a pooling that is unknown": (
        lambda f: changed(f, "1_Pooling/config.json", pooling_mode="median"),
        "pooling_mode .*median",
    ),
    "an activation of others": (
        lambda f: changed(f, "2_Dense/config.json", activation_function="os.system"),
        "the activation 'os.system'",
    ),
    "an activation that is not here": (
        lambda f: changed(
            f, "2_Dense/config.json", activation_function="torch.nn.modules.activation.Softmax"
        ),
        "the activation .*Softmax",
    ),
    "another input": (
        lambda f: changed(f, "2_Dense/config.json", module_input_name="token_embeddings"),
        "module_input_name 'token_embeddings'",
    ),
    "pickled weights": (
        lambda f: (f / "2_Dense/model.safetensors").rename(f / "2_Dense/pytorch_model.bin"),
        "pickled weights can run code",
    ),
    "weights of something else": (
        lambda f: changed(f, "2_Dense/config.json", bias=False),
        "the module has linear.weight",
    ),
    "no weights": (
        lambda f: (f / "2_Dense/model.safetensors").write_bytes(b"no"),
        "not a safetensors file",
    ),
    "lower case": (
        lambda f: (
            changed(f, "sentence_bert_config.json", do_lower_case=True),
            changed(f, "tokenizer_config.json", do_lower_case=False),
        ),
        "do_lower_case of .* is not honoured",
    ),
    "a dimension": (
        lambda f: changed(f, "config_sentence_transformers.json", truncate_dim=4),
        "truncate_dim of .* is not honoured",
    ),
    "another task": (
        lambda f: changed(f, "sentence_bert_config.json", transformer_task="fill-mask"),
        "transformer_task 'fill-mask'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_honoured_is_refused(case, tiny_model, tmp_path):
    change, said = REFUSED[case]
    folder = sentence_folder(tiny_model("bert"), tmp_path / "m", "mean", (dense(),))
    change(folder)
    with pytest.raises(FileRefused, match=said) as caught:
        FrozenEncoder(folder, pooling="sentence", **RAW)
    assert "\n" not in str(caught.value)


def test_modules_that_do_not_fit_each_other(tiny_model, tmp_path):
    folder = sentence_folder(tiny_model("bert"), tmp_path / "m", "mean", (dense(),))
    changed(folder, "1_Pooling/config.json", pooling_mode=["mean", "max"])
    with pytest.raises(FileRefused, match="Dense, takes 32 columns, and 64 come in"):
        FrozenEncoder(folder, pooling="sentence", **RAW)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt_name": "nope"}, "no such prompt; it has: 'plain', 'query'"),
        ({"prompt_name": "query", "prefix": "x"}, "give one"),
        ({"pooling": "sentence@-2"}, "sentence takes no layers"),
    ],
)
def test_calls_that_can_not_be_meant(options, said, tiny_model, tmp_path):
    folder = sentence_folder(tiny_model("bert"), tmp_path / "m", prompts=PROMPTS)
    with pytest.raises(InputError, match=said):
        FrozenEncoder(folder, **{"pooling": "sentence", **RAW, **options})


def test_a_folder_without_modules(tiny_model):
    with pytest.raises(InputError, match="is no folder of sentence-transformers"):
        FrozenEncoder(tiny_model("bert"), pooling="sentence", **RAW)
