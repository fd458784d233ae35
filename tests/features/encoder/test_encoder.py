"""The encoder's vectors against plain transformers, by architecture and way to batch."""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

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
    WORDS,
    Plain,
    bert_tokenizer,
    plain_forward,
    variant,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from features import FrozenEncoder
from features.backends.choice import PREPACKED
from features.backends.trial import Trial
from features.encoder import loading
from features.errors import InputError
from features.spec.checkpoint import find_checkpoint
from features.spec.pooling import BatchPart
from features.spec.tokenizer import load_tokenizer

MAX_LENGTH = 24
TOLERANCE = 1e-5

# Each view as its definition reads, from the hidden states of one text without padding.
VIEWS: dict[str, Callable[[Plain], torch.Tensor]] = {
    "cls": lambda text: text.states[-1][0],
    "mean": lambda text: text.states[-1].mean(0),
    # A text without content has nothing to take the mean of; by definition it is zero then.
    "mean-content": lambda text: (
        text.states[-1][text.content].sum(0) / max(1, int(text.content.sum()))
    ),
    "max": lambda text: text.states[-1].max(0).values,
    "mean@-2": lambda text: text.states[-2].mean(0),
    "mean@0": lambda text: text.states[0].mean(0),
    "cls@last2+sum": lambda text: text.states[-1][0] + text.states[-2][0],
    "max@last3+sum": lambda text: (text.states[-1] + text.states[-2] + text.states[-3]).amax(0),
    "mean@last2+mean": lambda text: ((text.states[-1] + text.states[-2]) / 2).mean(0),
    "mean@all+concat": lambda text: torch.cat([state.mean(0) for state in text.states]),
    "cls@1:2+concat": lambda text: torch.cat([text.states[1][0], text.states[2][0]]),
    "pooler": lambda text: text.pooler,
}


def views_of(architecture: str) -> list[str]:
    return [view for view in VIEWS if view != "pooler" or ARCHITECTURES[architecture].pooler]


def tiny_encoder(folder: Path, **options: Any) -> FrozenEncoder:
    """An encoder in float32, run by torch, that leaves its texts as they are."""
    options = {
        "normalize": "none",
        "max_length": MAX_LENGTH,
        "dtype": "float32",
        "backend": "torch",
        **options,
    }
    return FrozenEncoder(folder, **options)


def by_definition(folder: Path, texts: list[str], view: str, max_length: int) -> np.ndarray:
    return np.stack(
        [VIEWS[view](text).numpy() for text in plain_forward(folder, texts, max_length)]
    )


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for view in left:
        np.testing.assert_allclose(left[view], right[view], rtol=0, atol=TOLERANCE, err_msg=view)


@contextmanager
def watched(encoder: FrozenEncoder) -> Iterator[list[int]]:
    """While open, note how many texts each forward pass is given."""
    rows: list[int] = []
    forward = encoder._engine.backends[0].forward

    def noting(ids: Sequence[np.ndarray]) -> Iterator[BatchPart]:
        rows.append(len(ids))
        return forward(ids)

    encoder._engine.backends[0].forward = noting
    try:
        yield rows
    finally:
        encoder._engine.backends[0].forward = forward


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return (left * right).sum(axis=1) / norms


@pytest.fixture(scope="module")
def encoded(tiny_model) -> Callable[[str], tuple[dict[str, np.ndarray], list[Plain]]]:
    """For an architecture, all views in one batch, and the plain forward passes."""

    @functools.cache
    def both(architecture: str) -> tuple[dict[str, np.ndarray], list[Plain]]:
        folder = tiny_model(architecture)
        encoder = tiny_encoder(folder, pooling=views_of(architecture))
        with watched(encoder) as rows:
            vectors = encoder.encode(TEXTS)
        assert rows == [len(TEXTS)], "one batch for short and long"
        return vectors, plain_forward(folder, TEXTS, MAX_LENGTH)

    return both


@pytest.mark.parametrize(
    ("architecture", "view"), [(a, view) for a in ARCHITECTURES for view in views_of(a)]
)
def test_views_equal_a_plain_forward_pass(encoded, architecture, view):
    vectors, plain = encoded(architecture)
    expected = np.stack([VIEWS[view](text).numpy() for text in plain])
    assert vectors[view].dtype == np.float32
    np.testing.assert_allclose(vectors[view], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_models_under_test_tell_layers_texts_and_views_apart(encoded, architecture):
    # A model whose layers or texts were alike would pass the test above with the wrong ones.
    vectors, plain = encoded(architecture)
    for text in plain:
        assert len(text.states) == N_LAYERS + 1
        for below, above in pairwise(text.states):
            assert (below - above).abs().mean() > 0.05
    for view, matrix in vectors.items():
        distances = np.abs(matrix[:, None] - matrix[None]).max(axis=2)
        assert (distances[~np.eye(len(TEXTS), dtype=bool)] > 1e-2).all(), view
    narrow = [matrix for matrix in vectors.values() if matrix.shape[1] == WIDTH]
    for i, left in enumerate(narrow):
        assert all(np.abs(left - right).max() > 1e-2 for right in narrow[:i])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_texts_up_to_the_last_position_of_the_model(tiny_model, architecture):
    folder = tiny_model(architecture)
    with pytest.raises(InputError, match=f"at most {POSITIONS}"):
        tiny_encoder(folder, max_length=POSITIONS + 1)
    encoder = tiny_encoder(folder, pooling="mean", max_length=None)
    assert encoder.spec.max_length == POSITIONS
    tokens = encoder.tokenize(TEXTS)
    assert max(tokens.lengths) == POSITIONS
    stock = transformers.AutoTokenizer.from_pretrained(folder)
    full = stock(list(TEXTS), truncation=False, verbose=False)["input_ids"]
    assert tokens.truncated == [len(ids) > POSITIONS for ids in full]
    expected = by_definition(folder, TEXTS, "mean", POSITIONS)
    np.testing.assert_allclose(encoder.encode(TEXTS)["mean"], expected, rtol=0, atol=TOLERANCE)


# Views, and the layers that it takes to know them.
DEPTHS = {
    ("mean@0",): 0,
    ("cls@1",): 1,
    ("cls@1:2+concat", "mean@0"): 2,
    ("mean@-2", "max@2"): 3,
    ("cls", "cls@1", "mean@last2+sum"): 4,
}


@pytest.mark.parametrize("pooling", DEPTHS)
@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if ARCHITECTURES[a].layers])
def test_one_pass_for_all_views_and_no_deeper_than_needed(tiny_model, architecture, pooling):
    encoder = tiny_encoder(tiny_model(architecture), pooling=pooling)
    ran: list[str] = []
    layers = encoder._engine.backends[0].model.get_submodule(ARCHITECTURES[architecture].layers)
    for layer in layers:
        layer.register_forward_hook(lambda *_: ran.append("layer"))
    with watched(encoder) as rows:
        vectors = encoder.encode(TEXTS)
    assert rows == [len(TEXTS)]
    assert len(ran) == DEPTHS[pooling]
    assert list(vectors) == list(pooling)


def test_a_pooler_takes_all_layers_and_one_pass(tiny_model):
    encoder = tiny_encoder(tiny_model("bert"), pooling=["mean@0", "pooler"])
    with watched(encoder) as rows:
        vectors = encoder.encode(TEXTS)
    assert rows == [len(TEXTS)]
    expected = by_definition(tiny_model("bert"), TEXTS, "pooler", MAX_LENGTH)
    np.testing.assert_allclose(vectors["pooler"], expected, rtol=0, atol=TOLERANCE)


BATCHED = ["cls", "mean-content", "max@last2", "mean@0"]
# All different, of 1 to 13 words.
MANY = [f"{WORDS[i]} {' '.join(WORDS[i % 7 : i % 7 + i % 13])}" for i in range(66)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_size_of_batches_does_not_move_vectors(tiny_model, architecture):
    folder = tiny_model(architecture)
    alone = tiny_encoder(folder, pooling=BATCHED, max_batch_tokens=1)
    with watched(alone) as rows:
        expected = alone.encode(MANY)
    assert rows == [1] * len(MANY)
    longest = max(alone.tokenize(MANY).lengths)
    for size in (2, 7, 64):
        batched = tiny_encoder(folder, pooling=BATCHED, max_batch_tokens=size * longest)
        with watched(batched) as rows:
            vectors = batched.encode(MANY)
        assert sum(rows) == len(MANY)
        # Shorter texts come in larger batches: it is tokens that the budget counts.
        assert max(rows) >= size
        assert_same(vectors, expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_order_and_duplicates_do_not_move_vectors(tiny_model, architecture):
    encoder = tiny_encoder(tiny_model(architecture), pooling=BATCHED, max_batch_tokens=60)
    in_order = encoder.encode(TEXTS)
    picked = np.random.default_rng(5).integers(len(TEXTS), size=31)
    with watched(encoder) as rows:
        shuffled = encoder.encode([TEXTS[i] for i in picked])
    assert sum(rows) == len(set(picked.tolist())), "each text runs once"
    assert_same(shuffled, {view: matrix[picked] for view, matrix in in_order.items()})


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.one_of(st.sampled_from(TEXTS), st.text(max_size=30)), max_size=12))
def test_any_texts_in_any_company(tiny_model, texts):
    encoder = property_encoder(tiny_model("roberta"))
    together = encoder.encode(texts)
    for row, text in enumerate(texts):
        assert_same({v: m[row : row + 1] for v, m in together.items()}, encoder.encode([text]))


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(len(TEXTS))))
def test_any_order_on_minilm(minilm, order):
    encoder = property_encoder(minilm)
    expected = {view: matrix[order] for view, matrix in encoder.encode(TEXTS).items()}
    assert_same(encoder.encode([TEXTS[i] for i in order]), expected)


@functools.cache
def property_encoder(folder: Path) -> FrozenEncoder:
    """Loaded once for all examples of a property."""
    return tiny_encoder(folder, pooling=["cls", "mean"], max_batch_tokens=80)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tokenizer_that_pads_on_the_left(tiny_model, tmp_path, architecture):
    right = tiny_model(architecture)
    left = variant(right, tmp_path / "left", tokenizer_config={"padding_side": "left"})
    assert transformers.AutoTokenizer.from_pretrained(left).padding_side == "left"
    views = views_of(architecture)
    assert_same(
        tiny_encoder(left, pooling=views).encode(TEXTS),
        tiny_encoder(right, pooling=views).encode(TEXTS),
    )


def test_no_texts(tiny_model):
    encoder = tiny_encoder(tiny_model("bert"), pooling=["cls", "mean@all+concat"])
    vectors = encoder.encode([])
    assert {view: matrix.shape for view, matrix in vectors.items()} == {
        "cls": (0, WIDTH),
        "mean@all+concat": (0, WIDTH * (N_LAYERS + 1)),
    }
    assert all(matrix.dtype == np.float32 for matrix in vectors.values())


def test_a_single_text_is_not_taken_for_a_list_of_letters(tiny_model):
    with pytest.raises(InputError, match="list"):
        tiny_encoder(tiny_model("bert")).encode("so happy for you")


def test_views_say_their_width_before_any_text(tiny_model):
    views = views_of("bert")
    encoder = tiny_encoder(tiny_model("bert"), pooling=views)
    assert list(encoder.views) == views
    vectors = encoder.encode(["ok"])
    assert encoder.views == {view: matrix.shape[1] for view, matrix in vectors.items()}


def test_texts_that_are_normalised_to_the_same_run_once(tiny_model):
    encoder = tiny_encoder(tiny_model("bert"), normalize="tweeteval", pooling="mean")
    with watched(encoder) as rows:
        vectors = encoder.encode(["@ana is late", "@bob is late", "@user is late", "ana is late"])
    assert rows == [2]
    matrix = vectors["mean"]
    np.testing.assert_array_equal(matrix[0], matrix[1])
    np.testing.assert_array_equal(matrix[0], matrix[2])
    assert np.abs(matrix[0] - matrix[3]).max() > 0.1


def test_batches_come_as_they_were_planned(tiny_model):
    encoder = tiny_encoder(tiny_model("bert"), pooling=["mean", "cls"], max_batch_tokens=40)
    tokens = encoder.tokenize(TEXTS)
    full, plan = encoder.run(tokens), encoder.plan(tokens)
    assert len(plan) > 3
    assert sorted(np.concatenate(plan)) == list(range(len(TEXTS)))
    seen = []
    for rows, vectors in encoder.run_batches(tokens, plan):
        seen.append(rows.tolist())
        for view, matrix in vectors.items():
            np.testing.assert_array_equal(matrix, full[view][rows])
    assert sorted(seen) == sorted(rows.tolist() for rows in plan)


@pytest.mark.parametrize("skip", [{0}, {1, 2}, "all but the last", "all"])
def test_a_batch_does_not_depend_on_which_others_run(tiny_model, skip):
    encoder = tiny_encoder(tiny_model("bert"), pooling="mean", max_batch_tokens=40)
    tokens = encoder.tokenize(TEXTS)
    full, plan = encoder.run(tokens), encoder.plan(tokens)
    skip = set(range(len(plan) - (skip != "all"))) if isinstance(skip, str) else skip
    found = {
        rows.tobytes(): vectors for rows, vectors in encoder.run_batches(tokens, plan, skip=skip)
    }
    wanted = [rows for number, rows in enumerate(plan) if number not in skip]
    assert set(found) == {rows.tobytes() for rows in wanted}
    for rows in wanted:
        np.testing.assert_array_equal(found[rows.tobytes()]["mean"], full["mean"][rows])


def test_the_longest_batch_runs_first(tiny_model):
    # A device that is too small should say so at once, not after an hour.
    encoder = tiny_encoder(tiny_model("bert"), pooling="mean", max_batch_tokens=40)
    widths: list[int] = []
    forward = encoder._engine.backends[0].forward
    encoder._engine.backends[0].forward = lambda ids: [
        widths.append(max(map(len, ids))),
        *forward(ids),
    ][1:]
    encoder.encode(TEXTS)
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == MAX_LENGTH


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"device": "tpu"}, ["'tpu'", "auto, cpu, cuda, cuda:N, mps"]),
        ({"device": "cpu:1"}, ["'cpu:1'"]),
        ({"device": "cuda:99"}, ["'cuda:99'", "not there"]),
        ({"dtype": "int4"}, ["'int4'", "auto, float32, bfloat16, float16, int8"]),
        ({"max_batch_tokens": 0}, ["0", "at least 1"]),
        ({"max_length": 2}, ["2", "at least 3"]),
        ({"normalize": "lower"}, ["'lower'", "tweeteval, none"]),
        ({"revision": "main"}, ["'main'", "local folder"]),
    ],
    ids=str,
)
def test_wrong_options_are_named_with_what_is_allowed(tiny_model, options, named):
    with pytest.raises(InputError) as error:
        tiny_encoder(tiny_model("bert"), **options)
    for part in named:
        assert part in str(error.value)


LAYERS_THAT_ARE_NOT_THERE = {
    "mean@7": "no layer 7;.* 0 \\(embeddings\\) to 4",
    "cls@-6": "no layer -6;.* -1 to -5",
    "mean@last6": "no layer -6",
    "mean@2:9+concat": "no layer 9",
}


@pytest.mark.parametrize("pooling", LAYERS_THAT_ARE_NOT_THERE)
def test_layers_that_are_not_there_are_named(tiny_model, pooling):
    with pytest.raises(InputError, match=LAYERS_THAT_ARE_NOT_THERE[pooling]):
        tiny_encoder(tiny_model("bert"), pooling=["mean", pooling]).encode(["ok"])


def test_layers_that_are_not_there_are_refused_before_any_text(tiny_model):
    with pytest.raises(InputError, match="no layer 7"):
        tiny_encoder(tiny_model("bert"), pooling="mean@7")


# The model itself.

PINNED_TEXT = "The bus is late again, thanks for nothing. 🙄 @user http"
# From transformers alone, on an x86 CPU.
PINNED = {
    "mean": [-0.08989, -0.12796, 0.37565, -0.1629, 0.07745, -0.05939, 0.3716, -0.052],
    "cls": [0.03333, 0.10691, 0.25911, 0.00784, 0.17319, 0.20068, 0.21007, -0.10131],
}


@pytest.mark.parametrize("view", PINNED)
def test_pinned_vectors_of_minilm(minilm, view):
    encoder = FrozenEncoder(pooling=view, dtype="float32")
    assert encoder.views == {view: 384}
    # The normaliser brings the raw tweet into the pinned form.
    raw = PINNED_TEXT.replace("@user", "@BusCo").replace("http", "https://t.co/x7")
    for text in (PINNED_TEXT, raw):
        found = encoder.encode([text])[view][0, :8]
        np.testing.assert_allclose(found, PINNED[view], rtol=0, atol=2e-4)


def test_minilm_mean_is_that_of_sentence_transformers(minilm):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    texts = [*TEXTS, PINNED_TEXT, " ".join(WORDS * 6)]  # the last is longer than 256 tokens
    theirs = sentence_transformers.SentenceTransformer(str(minilm), device="cpu").encode(texts)
    encoder = tiny_encoder(minilm, pooling="mean", max_length=256)
    assert encoder.tokenize(texts).truncated == [False] * (len(texts) - 1) + [True]
    ours = encoder.encode(texts)["mean"]
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


def test_a_model_of_the_size_of_bert_base(tmp_path):
    torch.manual_seed(3)
    tokenizer = bert_tokenizer(tmp_path)
    model = transformers.BertModel(transformers.BertConfig(vocab_size=2000))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = FrozenEncoder(
        tmp_path, pooling=["cls", "mean@last4+sum"], dtype="float32", normalize="none"
    )
    assert encoder.views == {"cls": 768, "mean@last4+sum": 768}
    texts = TEXTS[:5]
    vectors = encoder.encode(texts)
    plain = plain_forward(tmp_path, texts, 128)
    assert len(plain[0].states) == 13
    cls = np.stack([text.states[-1][0].numpy() for text in plain])
    last4 = np.stack([sum(text.states[-4:]).mean(0).numpy() for text in plain])
    np.testing.assert_allclose(vectors["cls"], cls, rtol=0, atol=1e-4)
    np.testing.assert_allclose(vectors["mean@last4+sum"], last4, rtol=0, atol=1e-4)


# Precision.

HALF_VIEWS = ["cls", "mean", "mean@last4+sum"]


def test_bfloat16_keeps_the_direction_of_minilm_vectors(minilm):
    texts = [*TEXTS[2:], PINNED_TEXT, "what a lovely day!", "worst. film. ever."]
    exact = FrozenEncoder(pooling=HALF_VIEWS, dtype="float32")
    half = FrozenEncoder(pooling=HALF_VIEWS, dtype="bfloat16")
    assert (exact.dtype, exact.precision) == ("float32", "float32")
    assert (half.dtype, half.precision) == ("bfloat16", "half")
    assert half.spec.fingerprint == exact.spec.fingerprint
    left, right = exact.encode(texts), half.encode(texts)
    for view in HALF_VIEWS:
        assert right[view].dtype == np.float32
        assert cosines(left[view], right[view]).mean() >= 0.9999, view
        assert np.abs(left[view] - right[view]).max() > 1e-4, "it was computed in bfloat16"


def test_auto_precision_keeps_the_contract(minilm):
    encoder = FrozenEncoder(pooling=HALF_VIEWS)
    assert encoder.dtype in ("float32", "bfloat16", "float16")
    assert encoder.precision == ("float32" if encoder.dtype == "float32" else "half")
    exact = FrozenEncoder(pooling=HALF_VIEWS, dtype="float32").encode(TEXTS)
    found = encoder.encode(TEXTS)
    assert all(cosines(exact[view], found[view]).mean() >= 0.9999 for view in HALF_VIEWS)


@pytest.fixture
def fast_in_half(monkeypatch, tmp_path) -> Callable[[str], None]:
    """Make this CPU look many times faster in a half precision, whether it is or not.

    And fastest in torch's fused kernels: so that what is taken does not hang on what is measured.
    """

    def look(half: str) -> None:
        def rate(dtype: torch.dtype, kernels: str, inputs: int, outputs: int) -> float:
            return (10.0 if dtype == getattr(torch, half) else 1.0) * (1 + (kernels == PREPACKED))

        monkeypatch.setattr(loading, "Trial", functools.partial(Trial, product_rate=rate))
        monkeypatch.setattr("features.encoder.loading.half_dtypes", lambda device: (half,))
        # However slow it is, it is waited for.
        monkeypatch.setattr(
            "features.backends.trial._raced", lambda run, share, clock: run.measure(share) or ""
        )
        # What is taken here is not remembered elsewhere.
        monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))

    return look


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_auto_takes_half_precision_where_it_is_fast_and_close(minilm, fast_in_half, half):
    fast_in_half(half)
    encoder = FrozenEncoder(pooling="mean", backend="torch")
    assert (encoder.dtype, encoder.precision) == (half, "half")
    parameters = encoder._engine.backends[0].model.parameters()
    assert {p.dtype for p in parameters} == {getattr(torch, half)}
    assert set(encoder.choice.rates) == {f"torch {half}"}
    assert set(encoder.choice.left_out) == {
        "torch float32",
        "torch float32 plain",
        f"torch {half} plain",
    }


def test_auto_leaves_a_half_precision_that_is_not_close_enough(
    tiny_model, monkeypatch, fast_in_half
):
    fast_in_half("bfloat16")
    monkeypatch.setitem(loading.MIN_COSINE, "half", 1.01)  # no vectors are that close
    automatic = tiny_encoder(tiny_model("bert"), pooling="mean", dtype="auto")
    assert (automatic.dtype, automatic.precision) == ("float32", "float32")
    assert re.fullmatch(
        r"its vectors keep a cosine of 0\.99\d+, not 1\.01",
        automatic.choice.left_out["torch bfloat16"],
    )
    exact = tiny_encoder(tiny_model("bert"), pooling="mean").encode(TEXTS)
    np.testing.assert_array_equal(automatic.encode(TEXTS)["mean"], exact["mean"])


@pytest.fixture
def overflowing(tiny_model, tmp_path) -> Path:
    """A model whose hidden states are beyond the largest float16, 65504."""
    folder = variant(tiny_model("bert"), tmp_path / "overflowing")
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.output.LayerNorm.weight"
    weights[name] = weights[name] * 1e6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_values_that_overflow_are_computed_in_float32(overflowing):
    pooling = ["mean@1", "mean@2"]
    found = tiny_encoder(overflowing, pooling=pooling, dtype="float16").encode(TEXTS)
    in_float32 = tiny_encoder(overflowing, pooling=pooling).encode(TEXTS)
    assert np.abs(in_float32["mean@2"]).max() > 65504
    for view in pooling:
        np.testing.assert_allclose(found[view], in_float32[view], rtol=1e-4, atol=1e-4)


def test_auto_leaves_a_half_precision_that_overflows(overflowing, fast_in_half):
    fast_in_half("float16")
    automatic = tiny_encoder(overflowing, pooling="mean@2", dtype="auto")
    assert (automatic.dtype, automatic.precision) == ("float32", "float32")
    assert "cosine of nan" in automatic.choice.left_out["torch float16"]
    exact = tiny_encoder(overflowing, pooling="mean@2").encode(TEXTS)
    np.testing.assert_array_equal(automatic.encode(TEXTS)["mean@2"], exact["mean@2"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_names_of_special_tokens_in_a_text_are_text(tiny_model, architecture):
    """Else a tweet could end itself, mask itself, or be nothing but padding."""
    folder = tiny_model(architecture)
    stock = transformers.AutoTokenizer.from_pretrained(folder)
    special = dict(zip(stock.all_special_ids, stock.all_special_tokens, strict=True))
    special.pop(stock.unk_token_id, None)  # what is unknown in it may be said to be unknown
    text = " ".join(["a", *special.values(), "".join(special.values()), "b"])
    tokenizer = load_tokenizer(find_checkpoint(folder), max_length=1000)
    prefix, suffix = tokenizer.vocabulary.prefix, tokenizer.vocabulary.suffix
    (ids,) = tokenizer.tokenize([text]).ids
    inner = ids[prefix : len(ids) - suffix]
    assert len(inner) > 2
    assert not {special[i] for i in inner.tolist() if i in special}


def test_the_default_model_reads_special_tokens_as_their_characters(minilm):
    encoder = FrozenEncoder(minilm, normalize="none", dtype="float32")
    spelt, apart = encoder.tokenize(
        ["a [SEP] b [MASK] [CLS][PAD]", "a [ SEP ] b [ mask ] [cls] [pad]"]
    ).ids
    np.testing.assert_array_equal(spelt, apart)
