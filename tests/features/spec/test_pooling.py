import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError
from features.spec.pooling import (
    COMBINE,
    TOKENS,
    HiddenStates,
    parse_pooling,
    parse_poolings,
)

# ------------------------------------------------------------------------------------ the grammar

CANONICAL = [
    ("cls", "cls"),
    ("cls@-1", "cls"),
    ("cls@last1", "cls"),
    ("cls@-1:-1", "cls"),
    (" mean ", "mean"),
    ("mean@-1", "mean"),
    ("mean@-2", "mean@-2"),
    ("mean@0", "mean@0"),
    ("mean@12", "mean@12"),
    ("mean@last4", "mean@last4+sum"),
    ("mean@last4+sum", "mean@last4+sum"),
    ("mean@-4:-1", "mean@last4+sum"),
    ("mean@-4:-1+mean", "mean@last4+mean"),
    ("mean@-4:-2", "mean@-4:-2+sum"),
    ("mean@1:3", "mean@1:3+sum"),
    ("mean-content", "mean-content"),
    ("mean-content@last2+concat", "mean-content@last2+concat"),
    ("max@all", "max@all+sum"),
    ("max@0:-1+concat", "max@0:-1+concat"),
    ("pooler", "pooler"),
    ("pooler@-1", "pooler"),
]
# What each message must name besides what was written: what is allowed, or what to write.
WRONG = [
    ("", "TOKENS[@LAYERS][+COMBINE]"),
    ("average", "cls, mean, mean-content, max, pooler"),
    ("CLS", "cls, mean, mean-content, max, pooler"),
    ("mean_content", "mean-content"),
    ("mean@", "-1, -2, 0, last4, all, -4:-1"),
    ("mean@last", "-1, -2, 0, last4, all, -4:-1"),
    ("mean@last0", "-1, -2, 0, last4, all, -4:-1"),
    ("mean@last04", "-1, -2, 0, last4, all, -4:-1"),
    ("mean@-last4", "-1, -2, 0, last4, all, -4:-1"),
    ("mean@first4", "-1, -2, 0, last4, all, -4:-1"),
    ("mean@1:", "-1, -2, 0, last4, all, -4:-1"),
    ("mean@1:2:3", "-1, -2, 0, last4, all, -4:-1"),
    ("mean@last4:last2", "-1, -2, 0, last4, all, -4:-1"),
    ("mean@9999", "-1, -2, 0, last4, all, -4:-1"),
    ("mean@1.5", "TOKENS[@LAYERS][+COMBINE]"),
    ("mean@１", "TOKENS[@LAYERS][+COMBINE]"),
    ("mean@last4+", "TOKENS[@LAYERS][+COMBINE]"),
    ("mean@last4+max", "sum, mean, concat"),
    ("mean@last4+sum+sum", "TOKENS[@LAYERS][+COMBINE]"),
    ("mean+sum", "mean@last4+sum"),
    ("cls@-2+concat", "cls@last4+concat"),
    ("cls@last1+sum", "cls@last4+sum"),
    ("pooler@-2", "write just 'pooler'"),
    ("pooler@last4", "write just 'pooler'"),
    ("pooler+sum", "write just 'pooler'"),
    ("mean,cls", "TOKENS[@LAYERS][+COMBINE]"),
    ("../mean", "TOKENS[@LAYERS][+COMBINE]"),
]
# For a model of six layers, each H wide: numbers of the layers, and the view's width in H.
RESOLVED = [
    ("cls", (6,), 1),
    ("mean@-2", (5,), 1),
    ("mean@0", (0,), 1),
    ("mean@-7", (0,), 1),
    ("mean@6", (6,), 1),
    ("mean@last4", (3, 4, 5, 6), 1),
    ("mean@last4+concat", (3, 4, 5, 6), 4),
    ("mean@last7+mean", (0, 1, 2, 3, 4, 5, 6), 1),
    ("mean@all+concat", (0, 1, 2, 3, 4, 5, 6), 7),
    ("mean@-4:-2+concat", (3, 4, 5), 3),
    ("mean@1:3", (1, 2, 3), 1),
    ("mean@0:-1+concat", (0, 1, 2, 3, 4, 5, 6), 7),
    ("mean@2:2+concat", (2,), 1),
    ("pooler", (6,), 1),
]


@pytest.mark.parametrize(("text", "name"), CANONICAL)
def test_canonical_names(text, name):
    assert parse_pooling(text).name == name


@pytest.mark.parametrize(("text", "allowed"), WRONG)
def test_a_wrong_one_says_what_is_allowed(text, allowed):
    with pytest.raises(InputError) as caught:
        parse_pooling(text)
    assert repr(text) in str(caught.value)
    assert allowed in str(caught.value)


@pytest.mark.parametrize(("text", "numbers", "times"), RESOLVED)
def test_layers_of_a_model(text, numbers, times):
    pooling = parse_pooling(text)
    assert pooling.layer_numbers(6) == numbers
    assert pooling.width(6, 384) == 384 * times


@pytest.mark.parametrize("text", ["mean@7", "mean@-8", "mean@last8", "mean@0:7", "cls@-8:-1"])
def test_a_layer_that_is_not_there(text):
    with pytest.raises(InputError, match=r"layers are 0 \(embeddings\) to 6, or -1 to -7"):
        parse_pooling(text).layer_numbers(6)


@pytest.mark.parametrize("text", ["mean@3:1", "mean@-1:-4", "mean@5:-4"])
def test_a_range_that_runs_backwards(text):
    with pytest.raises(InputError, match="first layer comes after its last"):
        parse_pooling(text).layer_numbers(6)


def layers():
    number = st.integers(-999, 999).map(str)
    last = st.integers(1, 999).map(lambda n: f"last{n}")
    return st.one_of(
        st.just("all"), number, last, st.tuples(number, number).map(lambda ends: ":".join(ends))
    )


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    st.sampled_from(TOKENS),
    st.one_of(st.just(""), layers().map(lambda text: f"@{text}")),
    st.one_of(st.just(""), st.sampled_from(COMBINE).map(lambda text: f"+{text}")),
)
def test_a_canonical_name_reads_as_itself(tokens, layers, combine):
    text = tokens + layers + combine
    several = "last" in layers or "all" in layers or ":" in layers
    try:
        pooling = parse_pooling(text)
    except InputError:
        # Only `pooler` with layers, and a combination of one layer, are refused by their meaning.
        assert tokens == "pooler" or (combine and (not several or layers in ("@last1", "@-1:-1")))
        return
    assert parse_pooling(pooling.name) == pooling
    assert parse_pooling(pooling.name).name == pooling.name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mean@-01", "mean"),
        ("mean@00", "mean@0"),
        ("mean@-4:-01", "mean@last4+sum"),
    ],
)
def test_a_leading_zero_is_refused_or_dropped(text, name):
    try:
        pooling = parse_pooling(text)
    except InputError:
        return
    assert pooling.name == name


def test_minus_zero_is_refused():
    with pytest.raises(InputError):
        parse_pooling("mean@-0:-1")


def test_several_are_read_in_order():
    assert [p.name for p in parse_poolings(["mean@last4", "cls"])] == ["mean@last4+sum", "cls"]
    assert [p.name for p in parse_poolings("cls")] == ["cls"]


@pytest.mark.parametrize(
    ("texts", "wording"),
    [([], "name at least one"), (["mean", "cls", "mean@-1"], "'mean' is given twice")],
)
def test_several_that_cannot_be(texts, wording):
    with pytest.raises(InputError, match=wording):
        parse_poolings(texts)


# -------------------------------------------------------------------------------------- the maths

LAYERS = 3
LENGTHS = (5, 4, 3)
# One special token before the text and two behind it, so that no mean is like another by symmetry;
# the last text has no content.
PREFIX, SUFFIX = 1, 2


def known_states(side="right", junk=0.0, dtype=torch.float32, pad_to=7):
    """The state at token t of layer l is (100 l + t, -(100 l + t)); padding holds `junk`."""
    shape = (len(LENGTHS), pad_to)
    attended, content = torch.zeros(shape, dtype=bool), torch.zeros(shape, dtype=bool)
    layers = {n: torch.full((*shape, 2), junk, dtype=dtype) for n in range(LAYERS + 1)}
    for row, length in enumerate(LENGTHS):
        start = 0 if side == "right" else pad_to - length
        attended[row, start : start + length] = True
        content[row, start + PREFIX : start + length - SUFFIX] = True
        for number, states in layers.items():
            values = 100 * number + torch.arange(length)
            states[row, start : start + length] = torch.stack([values, -values], 1).to(dtype)
    return HiddenStates(layers, attended, content, torch.tensor([[7.0, -7], [8, -8], [9, -9]]))


def both_signs(*values):
    return [[value, -value] for value in values]


BY_HAND = {
    "cls": both_signs(300, 300, 300),
    "cls@0": both_signs(0, 0, 0),
    "cls@1:2": both_signs(300, 300, 300),
    "cls@all": both_signs(600, 600, 600),
    "cls@all+mean": both_signs(150, 150, 150),
    "cls@last2+concat": [[200, -200, 300, -300]] * 3,
    "mean": both_signs(302, 301.5, 301),
    "mean@0": both_signs(2, 1.5, 1),
    "mean@-2": both_signs(202, 201.5, 201),
    "mean@last2": both_signs(504, 503, 502),
    "mean@last2+mean": both_signs(252, 251.5, 251),
    "mean@0:1+concat": [[2, -2, 102, -102], [1.5, -1.5, 101.5, -101.5], [1, -1, 101, -101]],
    "mean-content": both_signs(301.5, 301, 0),
    "mean-content@last2": both_signs(503, 502, 0),
    "mean-content@last2+concat": [[201.5, -201.5, 301.5, -301.5], [201, -201, 301, -301], [0] * 4],
    "max": [[304, -300], [303, -300], [302, -300]],
    "max@0": [[4, 0], [3, 0], [2, 0]],
    "max@last2": [[508, -500], [506, -500], [504, -500]],
    "max@all+mean": [[154, -150], [153, -150], [152, -150]],
    "pooler": both_signs(7, 8, 9),
}


@pytest.mark.parametrize("junk", [0.0, 1e9, -1e9, math.inf, math.nan])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("text", BY_HAND)
def test_vectors_by_hand(text, side, junk):
    pooling = parse_pooling(text)
    vectors = pooling.pool(known_states(side, junk), LAYERS)
    torch.testing.assert_close(vectors, torch.tensor(BY_HAND[text], dtype=torch.float32))
    assert vectors.shape[1] == pooling.width(LAYERS, 2)


def test_every_token_choice_is_checked_by_hand():
    assert {parse_pooling(text).tokens for text in BY_HAND} == set(TOKENS)


@pytest.mark.parametrize("text", BY_HAND)
def test_no_padding_at_all(text):
    longest = known_states(pad_to=max(LENGTHS))
    vectors = parse_pooling(text).pool(longest, LAYERS)
    torch.testing.assert_close(vectors, torch.tensor(BY_HAND[text], dtype=torch.float32))


def test_layers_are_combined_before_tokens_are_pooled():
    rising = torch.tensor([[[0.0], [10.0]]])
    hidden = HiddenStates(
        {0: rising, 1: rising.flip(1)},
        torch.ones(1, 2, dtype=bool),
        torch.ones(1, 2, dtype=bool),
    )
    # Each token sums to 10. Pooled first, the two maxima would sum to 20.
    assert parse_pooling("max@all").pool(hidden, 1).tolist() == [[10.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("text", BY_HAND)
def test_vectors_are_float32(text, dtype):
    assert parse_pooling(text).pool(known_states(dtype=dtype), LAYERS).dtype == torch.float32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # float16 ends at 65504, and above 2048 it holds every other integer only.
        ("mean@last2", [[120_000.0]]),
        ("mean@last2+mean", [[60_000.0]]),
        ("mean", [[60_000.0]]),
        ("mean@0", [[1.0 + 1 / 4096]]),
    ],
)
def test_half_precision_is_pooled_in_float32(text, expected):
    n = 4096
    large = torch.full((1, n, 1), 60_000.0, dtype=torch.float16)
    small = torch.ones((1, n, 1), dtype=torch.float16)
    small[0, 0] = 2.0
    every = torch.ones(1, n, dtype=bool)
    hidden = HiddenStates({0: small, 1: large, 2: large}, every, every)
    assert parse_pooling(text).pool(hidden, 2).tolist() == expected
