"""A head as an ONNX graph gives what `predict` gives, wherever it runs and however it is padded."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import transformers
from architectures import ARCHITECTURES, N_LAYERS, TEXTS, WIDTH
from exports import VIEWS, Exported, expected, head_on
from stores import make_head

from features.errors import InputError
from features.spec.checkpoint import find_checkpoint
from pipeline.export.export import export

MAX_LENGTH = 24
RAW = (
    *TEXTS,
    "@ana_b I\\u2019m in &lt;3 https://t.co/x1 &amp;amp; &eacute; AT&T (mail a@b.org @5 $AAPL)",
    "[SEP] [CLS] </s> <s> <pad> [MASK] the end",
    "<script>alert(1)</script> \u202e\x1b[31m e" + "\u0301" * 300,
    " \n ",
)
PYTHON_ONLY = ("bertweet", "bert-japanese")
# One for each way to number positions, to attend and to cut words; the others take as long again.
USUAL = ("bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert")


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory):
    """Give the export of an architecture with all views, and its head; made once."""
    kept = {}

    def make(name):
        if name not in kept:
            views = [*VIEWS, *(["pooler"] if ARCHITECTURES[name].pooler else [])]
            head = head_on(
                tiny_model(name), views, n_layers=N_LAYERS, width=WIDTH, max_length=MAX_LENGTH
            )
            folder = tmp_path_factory.mktemp("export") / name
            export(head, folder)
            kept[name] = Exported(folder), head
        return kept[name]

    return make


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in USUAL else pytest.mark.slow)
        for name in ARCHITECTURES
        if name not in PYTHON_ONLY
    ],
)
def test_it_gives_what_predict_gives_for_all_poolings(name, made):
    exported, head = made(name)
    np.testing.assert_allclose(exported.score(RAW), expected(head, RAW), atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_padding_changes_nothing_on_either_side_nor_within(name, made):
    exported, _ = made(name)
    together = exported.score(RAW)
    alone = [one.ids[: sum(one.attention_mask)] for one in exported.ids(RAW)]
    rng = np.random.default_rng(0)
    for ids, scores in zip(alone, together, strict=True):
        ids, n = np.array(ids), len(ids)
        for where in (
            np.arange(n),
            np.arange(n) + 7,
            np.sort(rng.choice(n + 9, n, replace=False)),
        ):
            row, mask = np.full(n + 9, 4), np.zeros(n + 9)
            row[where], mask[where] = ids, 1
            np.testing.assert_allclose(exported.run([row], [mask])[0], scores, atol=2e-6)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_ids_that_nobody_cut_are_cut_as_by_the_encoder(name, made):
    """transformers.js cuts what stands last, the special token; others cut nothing."""
    exported, _ = made(name)
    text = exported.prepare("so happy for you two " * 30)
    wanted = exported.score([text])
    exported.tokenizer.no_truncation()
    try:
        (whole,) = exported.tokenizer.encode_batch([text])
    finally:
        exported.tokenizer.enable_truncation(MAX_LENGTH)
    assert len(whole.ids) > 2 * MAX_LENGTH
    for ids in (whole.ids, whole.ids[:MAX_LENGTH], whole.ids[: MAX_LENGTH + 1]):
        np.testing.assert_allclose(exported.run([ids], [[1] * len(ids)]), wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta"])
def test_transformers_reads_the_tokenizer_as_it_is(name, made):
    exported, head = made(name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported.folder)
    texts = [exported.prepare(text) for text in RAW]
    for padding, most in ((True, None), ("max_length", 40), ("longest", 700)):
        read = tokenizer(texts, padding=padding, truncation=True, max_length=most)
        np.testing.assert_allclose(
            exported.run(read["input_ids"], read["attention_mask"]), expected(head, RAW), atol=1e-5
        )
    config = transformers.AutoConfig.from_pretrained(exported.folder)
    assert config.id2label == dict(enumerate(head.labels))


def test_a_model_that_sees_padding_is_refused(tiny_model, tmp_path):
    """Batches of other runtimes would give other vectors; the message says so."""
    folder = tmp_path / "convbert"
    folder.mkdir()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model("bert"))
    config = transformers.ConvBertConfig(
        vocab_size=len(tokenizer),
        embedding_size=WIDTH,
        hidden_size=WIDTH,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
    )
    transformers.ConvBertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    head = head_on(folder, ["mean"], n_layers=N_LAYERS, width=WIDTH, max_length=MAX_LENGTH)
    with pytest.raises(InputError, match="other vectors beside padding"):
        export(head, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_cuts_on_the_left(tiny_model, tmp_path):
    folder = tmp_path / "left"
    folder.mkdir()
    for path in tiny_model("bert").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "truncation_side": "left"}))
    head = head_on(folder, ["cls", "mean"], n_layers=N_LAYERS, width=WIDTH, max_length=MAX_LENGTH)
    export(head, tmp_path / "out")
    exported = Exported(tmp_path / "out")
    np.testing.assert_allclose(exported.score(RAW), expected(head, RAW), atol=1e-5)
    exported.tokenizer.no_truncation()
    np.testing.assert_allclose(exported.score(RAW), expected(head, RAW), atol=1e-5)


def test_a_prefix_is_read_before_each_text_the_empty_one_too(tiny_model, tmp_path):
    head = head_on(
        tiny_model("bert"),
        ["cls", "mean-content"],
        n_layers=N_LAYERS,
        width=WIDTH,
        max_length=MAX_LENGTH,
        prefix="the meeting: ",
    )
    export(head, tmp_path / "out")
    np.testing.assert_allclose(
        Exported(tmp_path / "out").score(RAW), expected(head, RAW), atol=1e-5
    )


def test_it_runs_without_torch_transformers_and_frostline(made, tmp_path):
    exported, head = made("bert")
    code = """
import sys
for name in ("torch", "transformers", "features", "pipeline", "onnx", "sklearn"):
    sys.modules[name] = None
import json, numpy as np, onnxruntime, tokenizers
folder, texts = sys.argv[1], json.loads(sys.argv[2])
sys.path.insert(0, folder)
from prepare import prepare
read = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json").encode_batch(
    [prepare(text) for text in texts])
session = onnxruntime.InferenceSession(folder + "/onnx/model.onnx")
found = session.run(["probabilities"], {
    "input_ids": np.array([one.ids for one in read]),
    "attention_mask": np.array([one.attention_mask for one in read])})[0]
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
print(json.dumps([labels, found.tolist()]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(exported.folder), json.dumps(RAW)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    labels, found = json.loads(result.stdout)
    assert labels == list(head.labels)
    np.testing.assert_allclose(found, expected(head, RAW), atol=1e-5)


def test_layers_behind_the_deepest_view_are_left_out_and_weights_are_there_once(
    tiny_model, tmp_path
):
    sizes = {}
    for name, views in {"all": list(VIEWS), "one": ["mean"], "shallow": ["mean@2"]}.items():
        head = head_on(tiny_model("bert"), views, n_layers=N_LAYERS, width=WIDTH)
        export(head, tmp_path / name)
        graph = onnx.load(tmp_path / name / "onnx" / "model.onnx").graph
        sizes[name] = sum(int(np.prod(one.dims)) for one in graph.initializer)
        sizes[name] -= head.coef.size
    layer = 4 * (WIDTH + 1) * WIDTH + (WIDTH + 1) * 48 + 49 * WIDTH + 4 * WIDTH
    assert abs(sizes["one"] - sizes["shallow"] - 2 * layer) < 100
    assert abs(sizes["all"] - sizes["one"]) < 200


def test_the_same_head_gives_the_same_bytes(tiny_model, tmp_path):
    head = head_on(tiny_model("bert"), ["mean"], n_layers=N_LAYERS, width=WIDTH)
    for name in ("a", "b"):
        export(head, tmp_path / name)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    assert len(files) == 6
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_graph_says_what_it_is(made):
    exported, head = made("bert")
    graph = onnx.load(exported.folder / "onnx" / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert [one.version for one in graph.opset_import] == [17]
    shapes = {
        one.name: [axis.dim_param or axis.dim_value for axis in one.type.tensor_type.shape.dim]
        for one in [*graph.graph.input, *graph.graph.output]
    }
    assert shapes == {
        "input_ids": ["texts", "tokens"],
        "attention_mask": ["texts", "tokens"],
        "probabilities": ["texts", len(head.labels)],
        "logits": ["texts", len(head.labels)],
    }
    said = {one.key: one.value for one in graph.metadata_props}
    assert json.loads(said["labels"]) == list(head.labels)
    (encoder,) = json.loads(said["encoders"])
    assert encoder["fingerprint"] == head.sources[0].spec.fingerprint
    assert encoder["model"] == "bert"
    config = json.loads((exported.folder / "config.json").read_text())
    assert config["id2label"] == {str(n): label for n, label in enumerate(head.labels)}
    assert config["frostline"]["normalizer"] == "tweeteval/1"


def test_a_prior_moves_the_graph_as_it_moves_predict(tiny_model, tmp_path):
    labels = ['<script>"no"</script>', "y\ne\u202es"]
    head = head_on(
        tiny_model("bert"), ["mean", "cls"], n_layers=N_LAYERS, width=WIDTH, labels=labels
    ).with_prior({labels[0]: 0.9, labels[1]: 0.1})
    export(head, tmp_path / "out")
    exported = Exported(tmp_path / "out")
    np.testing.assert_allclose(exported.score(RAW), expected(head, RAW), atol=1e-5)
    assert json.loads(exported.session.get_modelmeta().custom_metadata_map["labels"]) == labels


def test_vectors_in_half_precision_are_rounded_as_those_of_the_fit(tiny_model, tmp_path):
    """A value at the border of two halves may fall to the other side: more than 1e-5, not 1e-3."""
    head = head_on(
        tiny_model("bert"), ["mean", "max"], n_layers=N_LAYERS, width=WIDTH, store_dtype="float16"
    )
    export(head, tmp_path / "out")
    wanted = expected(head, RAW)
    exact = [dataclasses.replace(one, store_dtype="float32") for one in head.sources]
    unrounded = expected(dataclasses.replace(head, sources=tuple(exact)), RAW)
    found = Exported(tmp_path / "out").score(RAW)
    assert np.abs(found - wanted).mean() < np.abs(found - unrounded).mean() / 3
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("name", PYTHON_ONLY)
def test_a_tokenizer_of_python_alone_is_refused(name, tiny_model, tmp_path):
    head = head_on(tiny_model(name), ["mean"], n_layers=N_LAYERS, width=WIDTH)
    with pytest.raises(InputError, match="runs in Python alone"):
        export(head, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_int8_is_refused(tmp_path):
    head = make_head(3)
    spec = dataclasses.replace(head.sources[0].spec, quantization="int8/1")
    source = dataclasses.replace(head.sources[0], spec=spec, precision="int8")
    with pytest.raises(InputError, match="int8/1"):
        export(dataclasses.replace(head, sources=(source,)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def joined(heads):
    """Give a head on the vectors of several, whose views are mixed."""
    columns = [np.cumsum([0, *(one.width for one in head.sources)]) for head in heads]
    sources, coef = [], []
    for number in range(len(heads[0].sources)):
        for head, ends in zip(heads, columns, strict=True):
            sources.append(head.sources[number])
            coef.append(head.coef[:, ends[number] : ends[number + 1]])
    return dataclasses.replace(heads[0], sources=tuple(sources), coef=np.hstack(coef))


def test_encoders_that_read_the_same_tokens_share_a_graph(tiny_model, tmp_path):
    places = [tiny_model("bert"), tiny_model("electra")]
    sizes = {"n_layers": N_LAYERS, "width": WIDTH, "max_length": MAX_LENGTH}
    head = joined([head_on(place, ["mean", "max@1"], **sizes) for place in places])
    export(head, tmp_path / "out")
    np.testing.assert_allclose(
        Exported(tmp_path / "out").score(RAW), expected(head, RAW), atol=1e-5
    )
    with pytest.raises(InputError, match="has 2 encoders, `models` names 1"):
        export(head, tmp_path / "other", models=places[:1])


@pytest.mark.parametrize("other", [{"name": "roberta"}, {"prefix": "so: "}, {"max_length": 20}])
def test_encoders_that_read_other_tokens_are_refused(other, tiny_model, tmp_path):
    sizes = {"n_layers": N_LAYERS, "width": WIDTH, "max_length": MAX_LENGTH}
    changes = {key: value for key, value in other.items() if key != "name"}
    head = joined(
        [
            head_on(tiny_model("bert"), ["mean"], **sizes),
            head_on(tiny_model(other.get("name", "electra")), ["mean"], **sizes | changes),
        ]
    )
    with pytest.raises(InputError, match="don't cut texts into the same tokens"):
        export(head, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_weights_of_another_model_are_refused(tiny_model, tmp_path):
    head = head_on(tiny_model("bert"), ["mean"], n_layers=N_LAYERS, width=WIDTH)
    assert find_checkpoint(tiny_model("electra"))
    with pytest.raises(Exception, match="makes vectors of encoder"):
        export(head, tmp_path / "out", models=[tiny_model("electra")])
