"""Attention over texts laid end to end, against plain attention of each text by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features.backends.eager import product_rates
from features.backends.eager.packed_attention import (
    ATTENTION,
    NotPackable,
    Packing,
    join,
    packed_attention,
    packing,
)

WIDTH = 8
# How far a value of about 1 may be off.
PRECISION = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 0.1}


def states(lengths, *, heads=4, shared_by=1, device="cpu", dtype=torch.float32, seed=0):
    """Query, key and value of these texts: (1, heads, T, WIDTH)."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(1, n, sum(lengths), WIDTH, generator=generator).to(device, dtype)
        for n in (heads, heads // shared_by, heads // shared_by)
    )


def by_definition(query, key, value, *, scaling=None, window=None):
    """softmax(q k' / sqrt(d)) v of one text, (heads, t, d) each, head by head."""
    n = query.shape[1]
    at = torch.arange(n)
    outside = (at[:, None] - at).abs() >= (window or n)
    attended = []
    for head in range(len(query)):
        of = head * len(key) // len(query)
        scores = query[head] @ key[of].T * (scaling or WIDTH**-0.5)
        attended.append(scores.masked_fill(outside, -torch.inf).softmax(-1) @ value[of])
    return torch.stack(attended, dim=1)  # (t, heads, d)


def apart(lengths, qkv, **options):
    """Each text alone, one behind the other: (1, T, heads, d)."""
    pieces = zip(*(part[0].split(lengths, dim=1) for part in qkv), strict=True)
    return torch.cat([by_definition(*piece, **options) for piece in pieces])[None]


def together(lengths, qkv, **options):
    with packing(Packing(tuple(lengths))):
        attended, weights = packed_attention(torch.nn.Identity(), *qkv, None, **options)
    assert weights is None
    return attended


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 3, 5, 9, 15, 16, 17, 33])),
        min_size=1,
        max_size=5,
    ).map(lambda groups: [length for n, length in groups for _ in range(n)]),
    shared_by=st.sampled_from([1, 2, 4]),
    scaling=st.sampled_from([None, 0.25, 1.0]),
    window=st.sampled_from([None, 1, 2, 5, 16, 100]),
    attend=st.sampled_from(list(ATTENTION.values())),
    dtype=st.sampled_from(list(PRECISION)),
)
def test_each_text_attends_as_if_it_were_alone(lengths, shared_by, scaling, window, attend, dtype):
    qkv = states(lengths, shared_by=shared_by, dtype=dtype)
    found = together(lengths, qkv, scaling=scaling, sliding_window=window, attend=attend)
    assert found.dtype == dtype
    expected = apart(lengths, [one.double() for one in qkv], scaling=scaling, window=window)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=PRECISION[dtype])


def test_long_texts_attend_alike_by_products():
    lengths = [127, 128, 129, 200]
    qkv = states(lengths, dtype=torch.float64)
    found = together(lengths, qkv, attend=ATTENTION["products"])
    torch.testing.assert_close(found, apart(lengths, qkv), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("attention", ATTENTION)
def test_a_neighbour_moves_nothing(attention, dtype):
    lengths, attend = [3, 3, 5], ATTENTION[attention]
    first, second = states(lengths, dtype=dtype), states(lengths, dtype=dtype, seed=1)
    for mine, theirs in zip(first, second, strict=True):
        theirs[:, :, 3:6] = mine[:, :, 3:6]  # the text in the middle
    found = [together(lengths, qkv, attend=attend)[0, 3:6] for qkv in (first, second)]
    assert torch.equal(*found)
    whole = [together(lengths, qkv, attend=attend) for qkv in (first, second)]
    assert not torch.equal(*whole)


@pytest.mark.parametrize(
    ("fused", "products", "expected"),
    [(1.0, 0.5, True), (1.0, 0.95, False), (0.5, 1.0, False), (1.0, 100.0, False)],
)
def test_products_are_taken_where_they_are_clearly_faster(monkeypatch, fused, products, expected):
    seconds = {"attend_fused": fused, "attend_by_products": products}
    monkeypatch.setattr(product_rates, "_seconds", lambda call: seconds[call.func.__name__])
    measure = product_rates.products_attend_faster.__wrapped__  # without its memory
    assert measure(torch.bfloat16, 2, 8) is expected


def test_a_window_of_the_text_or_more_is_none():
    lengths = [5, 2]
    qkv = states(lengths)
    full = together(lengths, qkv)
    assert torch.equal(together(lengths, qkv, sliding_window=5), full)
    assert not torch.allclose(together(lengths, qkv, sliding_window=4), full)


def test_values_may_be_of_another_width():
    query, key, value = states([2, 4])
    found = together([2, 4], (query, key, value[..., :3]))
    torch.testing.assert_close(found, together([2, 4], (query, key, value))[..., :3])


def test_a_mask_of_the_model_is_refused():
    class Biased(torch.nn.Module):
        pass

    with packing(Packing((2,))), pytest.raises(NotPackable, match="Biased brings a mask"):
        packed_attention(Biased(), *states([2]), torch.zeros(1, 1, 2, 2))


def test_no_texts_are_known_outside_of_packing():
    with pytest.raises(LookupError):
        packed_attention(torch.nn.Identity(), *states([2]), None)
    with packing(Packing((2,))):
        pass
    with pytest.raises(LookupError):
        packed_attention(torch.nn.Identity(), *states([2]), None)


# Where texts lie.


def test_groups_are_neighbours_of_one_length():
    assert Packing((4,)).groups == ((slice(0, 1), slice(0, 4)),)
    assert Packing((2, 2, 7, 2, 1, 1, 1)).groups == (
        (slice(0, 2), slice(0, 4)),
        (slice(2, 3), slice(4, 11)),
        (slice(3, 4), slice(11, 13)),
        (slice(4, 7), slice(13, 16)),
    )


def test_positions_begin_anew_with_each_text():
    assert Packing((3, 1, 2)).positions(0).tolist() == [0, 1, 2, 0, 0, 1]
    assert Packing((3, 1, 2)).positions(2).tolist() == [2, 3, 4, 2, 2, 3]


def test_bounds_are_the_beginnings_and_the_end():
    bounds = Packing((3, 1, 2)).bounds(torch.device("cpu"))
    assert bounds.tolist() == [0, 3, 4, 6]
    assert bounds.dtype == torch.int32


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=6))
def test_joined_texts_come_apart_again(texts):
    ids, lie = join(texts)
    assert ids.dtype == torch.int64
    assert [part.tolist() for part in ids[0].split(list(lie.lengths))] == texts
    bounds = lie.bounds(torch.device("cpu")).tolist()
    assert len(lie.positions(0)) == bounds[-1] == sum(map(len, texts))
    covered = [(rows.stop - rows.start, at.stop - at.start) for rows, at in lie.groups]
    assert sum(n for n, _ in covered) == len(texts)
    assert sum(n for _, n in covered) == bounds[-1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [None, 2, 5])
@pytest.mark.parametrize("shared_by", [1, 2])
def test_on_cuda_within_rounding(dtype, window, shared_by):
    lengths = [1, 9, 3, 3, 40]
    qkv = states(lengths, shared_by=shared_by, device="cuda", dtype=dtype)
    found = together(lengths, qkv, sliding_window=window).float().cpu()
    expected = apart(lengths, [part.float().cpu() for part in qkv], window=window)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-2)
