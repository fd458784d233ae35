"""`dtype="int8"`: an encoder of its own, near to float32, and refused where it is not."""

import numpy as np
import pytest
from architectures import ARCHITECTURES, TEXTS

from features import FeatureStore, FrozenEncoder, extract
from features.backends.eager.fused_layers import _Single
from features.backends.eager.int8 import Int8FeedForward, Int8Linear
from features.backends.trial import int8_reason
from features.errors import InputError
from pipeline import fit
from pipeline.head.head import load_head, save_head
from pipeline.scoring.predict import encoders_for

# Of the layers of MiniLM.
REASON = int8_reason((384, 1536))
pytestmark = pytest.mark.skipif(REASON != "", reason=f"int8: {REASON}")
TWEETS = [f"{mood} {thing}, {n} times" for n, mood in enumerate(("good", "bad", "so so", "sad"))
          for thing in ("bus", "film", "rain", "library", "concert", "coffee")]  # fmt: skip


@pytest.fixture(scope="module")
def int8(minilm):
    return FrozenEncoder(minilm, pooling=["mean", "cls"], dtype="int8")


def test_vectors_are_near_to_float32_and_not_the_same(int8, minilm):
    exact = FrozenEncoder(minilm, pooling=["mean", "cls"], dtype="float32").encode(TWEETS)
    for view, found in int8.encode(TWEETS).items():
        cosine = (found * exact[view]).sum(1) / (
            np.linalg.norm(found, axis=1) * np.linalg.norm(exact[view], axis=1)
        )
        assert 0.99 < cosine.mean() < 0.9999999
    assert (int8.dtype, int8.precision, int8.spec.quantization) == ("int8", "int8", "int8/1")


def test_most_of_the_products_are_of_integers(int8):
    model = int8._engine.backends[0].model
    # Of each layer: query, key and value in one, attention's output, and the feed-forward in one.
    products = [
        getattr(part, name)
        for part in model.encoder.modules()
        for name in ("_product",)
        if hasattr(part, name)
    ]
    assert sum(isinstance(product, Int8FeedForward) for product in products) == 6
    assert not any(isinstance(part, _Single) for part in model.pooler.modules())
    assert all(isinstance(product, Int8Linear | Int8FeedForward) for product in products)


def test_a_text_does_not_depend_on_its_neighbours(int8):
    alone = [int8.encode([text])["mean"][0] for text in TWEETS[:6]]
    together = int8.encode([*TWEETS[:6], "a neighbour " * 40, "another"])["mean"][:6]
    # Attention runs in bfloat16, whose sums depend on how they are cut up.
    cosine = (alone * together).sum(1) / (
        np.linalg.norm(alone, axis=1) * np.linalg.norm(together, axis=1)
    )
    assert cosine.min() > 0.9999


def test_it_is_refused_where_it_is_not_near_enough(minilm, monkeypatch):
    monkeypatch.setattr("features.encoder.encoder.MIN_INT8_COSINE", 0.99999)
    encoder = FrozenEncoder(minilm, pooling="mean", dtype="int8")
    with pytest.raises(
        InputError, match=r"mean cosine of only 0\.99\d\d to float32 on 24 of these"
    ):
        encoder.encode(TWEETS)


def test_it_is_another_encoder_to_stores_and_heads(minilm, tmp_path):
    source = tmp_path / "tweets.csv"
    source.write_text(
        "text,label\n" + "".join(f'"{t}",{t.split()[0]}\n' for t in TWEETS), encoding="utf-8"
    )
    store, other = tmp_path / "int8.h5", tmp_path / "other.h5"
    summary = extract(source, store, model=minilm, pooling="mean", dtype="int8")
    assert summary.precision == "int8"
    with pytest.raises(InputError, match="quantization: int8/1 in the file, none asked for"):
        extract(source, store, model=minilm, pooling="mean")
    extract(source, other, model=minilm, pooling="mean")
    with FeatureStore(store) as a, FeatureStore(other) as b:
        assert a.fingerprint != b.fingerprint
    head = fit(store, C=0.01).head
    save_head(head, tmp_path / "head.joblib")
    assert encoders_for(load_head(tmp_path / "head.joblib"))[0].dtype == "int8"


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if ARCHITECTURES[a].layers])
def test_every_architecture_runs_in_int8_or_is_refused_with_the_figure(
    tiny_model, monkeypatch, architecture
):
    # Products of layers this narrow may gain nothing, which is not what is tested here.
    monkeypatch.setattr("features.encoder.loading.int8_reason", lambda widths: "")
    encoder = FrozenEncoder(
        tiny_model(architecture), pooling="mean", dtype="int8", normalize="none", max_length=24
    )
    try:
        vectors = encoder.encode(TEXTS)["mean"]
    except InputError as error:
        assert "keeps a mean cosine of only" in str(error)
    else:
        assert np.isfinite(vectors).all()
