"""A head's encoder as a folder of sentence-transformers, read by that library."""

import json

import numpy as np
import pytest
import torch
from architectures import CORPUS, TEXTS
from exports import head_on
from sentence_transformers import SentenceTransformer

from features.backends.choice import Runtime
from features.encoder.probe_texts import PROBE_TEXTS
from features.errors import FileRefused, InputError
from features.spec.normalize import normalizer
from pipeline.export.export import export
from pipeline.export.sentence_folder import plan_of
from pipeline.scoring.predict import encode_for, encoders_for

LAYERS, WIDTH = 3, 32
# Views that modules can make, alone and side by side.
HELD = [
    ["cls"],
    ["mean"],
    ["max"],
    ["mean", "cls"],
    ["cls", "max", "mean"],
    ["cls@-2"],
    ["mean@1", "max@1"],
    ["mean@last2+sum"],
    ["max@last2+mean"],
    ["cls@1:2+sum", "mean@1:2+mean"],
    ["mean@all+sum"],
]


def vectors(head, texts):
    return encode_for(head, texts, encoders_for(head, runtime=Runtime(backend="torch")))


def encoded(folder, texts, **options):
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(
        list(texts), **options
    )


@pytest.mark.parametrize("views", HELD, ids=" ".join)
def test_the_vectors_are_those_of_the_head(views, tiny_model, tmp_path):
    head = head_on(tiny_model("bert"), views, n_layers=LAYERS, width=WIDTH)
    said = []
    export(head, tmp_path / "new", "sentence-transformers", say=said.append)
    normalise = normalizer("tweeteval")
    found = encoded(tmp_path / "new", map(normalise, TEXTS))
    np.testing.assert_allclose(found, vectors(head, TEXTS), atol=1e-5)
    assert "within" in said[-1]


@pytest.mark.parametrize("architecture", ["mpnet", "xlm-roberta"])
def test_other_architectures(architecture, tiny_model, tmp_path):
    head = head_on(tiny_model(architecture), ["mean@-2", "cls@-2"], n_layers=LAYERS, width=WIDTH)
    export(head, tmp_path / "new", "sentence-transformers")
    found = encoded(tmp_path / "new", map(normalizer("tweeteval"), TEXTS))
    np.testing.assert_allclose(found, vectors(head, TEXTS), atol=1e-5)


def test_a_tokenizer_in_python_is_saved_as_it_is(tiny_model, tmp_path):
    """BERTweet's can't hold the normaliser: the README says so, and the prefix is a prompt."""
    head = head_on(tiny_model("bertweet"), ["mean"], n_layers=LAYERS, width=WIDTH, prefix="so a ")
    export(head, tmp_path / "new", "sentence-transformers")
    texts = [text for text in TEXTS if text]
    found = encoded(tmp_path / "new", map(normalizer("tweeteval"), texts))
    np.testing.assert_allclose(found, vectors(head, texts), atol=1e-5)
    assert "encode texts in that form" in (tmp_path / "new/README.md").read_text()


@pytest.mark.parametrize("architecture", ["modernbert", "megatron-bert"])
def test_a_norm_behind_the_last_layer_is_no_layer(architecture, tiny_model, tmp_path):
    """Where a model can't be cut without changing its vectors, there is no folder."""
    head = head_on(tiny_model(architecture), ["mean@-2"], n_layers=LAYERS, width=WIDTH)
    with pytest.raises(FileRefused, match=r"can't be (cut|written)"):
        export(head, tmp_path / "new", "sentence-transformers")
    assert list(tmp_path.iterdir()) == []


def test_raw_texts_are_read_as_the_encoder_reads_them(tiny_model, tmp_path):
    """Links, mentions, and a special token that a tweet says."""
    texts = [*PROBE_TEXTS, "[SEP] @ana_b said https://t.co/x1 [CLS]", "R&amp;D &lt;3"]
    head = head_on(tiny_model("bert"), ["mean"], n_layers=LAYERS, width=WIDTH, prefix="so a ")
    export(head, tmp_path / "new", "sentence-transformers")
    np.testing.assert_allclose(encoded(tmp_path / "new", texts), vectors(head, texts), atol=1e-5)
    said = (tmp_path / "new/README.md").read_text()
    assert "`tweeteval/1`" in said
    assert "`prepare(text)`" in said


def test_layers_that_are_not_needed_are_left_out(tiny_model, tmp_path):
    head = head_on(tiny_model("bert"), ["mean@1"], n_layers=LAYERS, width=WIDTH)
    export(head, tmp_path / "new", "sentence-transformers")
    model = SentenceTransformer(str(tmp_path / "new"), device="cpu", local_files_only=True)
    assert len(model[0].model.encoder.layer) == 1
    assert json.loads((tmp_path / "new/config.json").read_text())["num_hidden_layers"] == 1


def test_the_view_sentence_is_written_as_it_came(tiny_model, tmp_path):
    from sentence_transformers.sentence_transformer import modules as st

    torch.manual_seed(0)
    source = tmp_path / "source"
    modules = [
        st.Transformer(str(tiny_model("bert"))),
        st.Pooling(WIDTH, ("lasttoken", "mean")),
        st.Dense(2 * WIDTH, 8),
        st.Normalize(),
    ]
    SentenceTransformer(modules=modules).save(str(source))
    head = head_on(source, ["cls"], n_layers=LAYERS, width=WIDTH, sentence=True)
    (one,) = head.sources
    sources = (type(one)(one.spec, {"sentence": 8}, "float32", "float32"),)
    head = type(head)(head.labels, head.coef[:, :8], head.intercept, sources, head.metadata)
    export(head, tmp_path / "new", "sentence-transformers")
    texts = list(map(normalizer("tweeteval"), CORPUS))
    np.testing.assert_allclose(encoded(tmp_path / "new", texts), vectors(head, CORPUS), atol=1e-5)
    np.testing.assert_allclose(encoded(tmp_path / "new", texts), encoded(source, texts), atol=1e-5)


@pytest.mark.parametrize(
    ("views", "why"),
    [
        (["mean@last2+concat"], "it puts layers side by side"),
        (["mean-content"], "there is no module for mean-content"),
        (["pooler"], "there is no module for pooler"),
        (["sentence", "mean"], "there is no module for sentence"),
        (["mean", "cls@-2"], "take different layers"),
        (["mean@last2+sum", "mean"], "take different layers"),
    ],
)
def test_what_can_not_be_held_is_refused_with_what_can(views, why):
    with pytest.raises(InputError, match=why) as caught:
        plan_of(views, LAYERS)
    assert "fit a head on such views, e.g. mean@last4+sum" in str(caught.value)


def test_a_refusal_leaves_nothing(tiny_model, tmp_path):
    head = head_on(tiny_model("bert"), ["mean@last2+concat"], n_layers=LAYERS, width=WIDTH)
    with pytest.raises(InputError, match="side by side"):
        export(head, tmp_path / "new", "sentence-transformers")
    assert list(tmp_path.iterdir()) == []
