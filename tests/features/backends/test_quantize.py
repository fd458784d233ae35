"""Linear layers in 8-bit integers: against plain integer arithmetic, and row by row."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from features import FrozenEncoder
from features.backends.eager import int8
from features.backends.eager.int8 import Int8FeedForward, Int8Linear
from features.backends.eager.int8_ranges import (
    GELU_FLOOR,
    SAMPLE_ROWS,
    Inputs,
    column_steps,
    gelu_step,
    record_inputs,
)
from features.backends.eager.product_rates import int8_is_exact
from features.backends.trial import int8_reason
from features.errors import CannotContinue, InputError

can_run = pytest.mark.skipif(
    not int8_is_exact(), reason="this CPU adds pairs of 8-bit products up in 16 bits, or has none"
)


def inputs_of(x):
    return Inputs(x.abs().amax(0), x)


def layer_and_inputs(rows=200, k=48, n=32, *, seed=0, bias=True):
    """A layer and inputs with a few columns that are much wider than the others."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, k, generator=generator)
    x[:, ::17] *= 20
    weight = torch.randn(n, k, generator=generator) / k**0.5
    return weight, torch.randn(n, generator=generator) if bias else None, x


def exact(weight, bias, x, steps):
    """The layer in numpy: integers multiplied and added up as 64-bit integers."""
    weight, x, steps = (t.double().numpy() for t in (weight, x, steps))
    folded = weight * steps
    row_steps = np.abs(folded).max(1) / 127
    q_weight = np.rint(folded / row_steps[:, None]).astype(np.int64)
    q_x = np.clip(np.rint(x / steps), -127, 127).astype(np.int64)
    y = (q_x @ q_weight.T) * row_steps
    return y if bias is None else y + bias.double().numpy()


@can_run
@pytest.mark.parametrize("k, n", [(48, 32), (7, 5), (1, 1), (384, 130)])
@pytest.mark.parametrize("bias", [True, False])
def test_agrees_with_integer_arithmetic(k, n, bias):
    weight, b, x = layer_and_inputs(k=k, n=n, bias=bias)
    steps = column_steps(weight, inputs_of(x))
    y = Int8Linear(weight, b, inputs_of(x))(x).double().numpy()
    wanted = exact(weight, b, x, steps)
    # float32 and float64 may round a borderline value to different integers: rare, and one step.
    wrong = np.abs(y - wanted) > 1e-5 * np.abs(wanted).max()
    assert wrong.mean() < 0.02
    one_step = float((weight.abs() * steps).max()) * 2
    assert np.abs(y - wanted).max() <= one_step


@can_run
def test_by_hand():
    # Peaks 127 and 254 and a weight that needs no rounding: steps are such that all is exact.
    x = torch.tensor([[127.0, -254.0], [0.0, 2.0], [1.0, 0.0]])
    y = Int8Linear(torch.tensor([[1.0, 0.5]]), torch.tensor([3.0]), inputs_of(x))(x)
    assert torch.allclose(y, torch.tensor([[3.0], [4.0], [4.0]]), atol=0.02)


def signed(integers):
    """The integers that unsigned ones with a zero point stand for."""
    assert integers.dtype == torch.uint8
    zero = int8._Columns.scale[1]
    return [value - zero for value in integers.flatten().tolist()]


def test_rounds_half_to_even_and_saturates():
    columns = int8._Columns(torch.tensor([1.0]))
    x = [0.5, 1.5, 2.5, -0.5, -1.5, 126.4, 127.6, 1e6, -1e6, 3e38, -3e38, float("inf"), 1e-30, -0.0]
    wanted = [0, 2, 2, 0, -2, 126, 127, 127, -127, 127, -127, 127, 0, 0]
    assert signed(columns.integers(torch.tensor(x)[:, None])) == wanted


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=70))
def test_integers_are_those_of_numpy(values):
    got = int8._Columns(torch.tensor([1.0])).integers(torch.tensor(values)[:, None])
    wanted = np.clip(np.rint(np.array(values, np.float32)), -127, 127)
    assert signed(got) == wanted.tolist()


@can_run
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_depends_on_no_other(dtype, threads):
    weight, bias, x = layer_and_inputs(rows=300, k=50, n=37)
    inputs, residual = inputs_of(x), torch.randn(300, 37).to(dtype)
    plain = Int8Linear(weight, bias, inputs)
    gelu = Int8Linear(weight, bias, inputs, gelu=True)
    up, down = nn.Linear(50, 90), nn.Linear(90, 37)
    both = Int8FeedForward(up, down, inputs, inputs_of(nn.functional.gelu(up(x)).detach()))
    x = x.to(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for layer, extra in ((plain, None), (plain, residual), (gelu, None), (both, residual)):
            wanted = layer(x, extra)
            for rows in ([7], [3, 299], [*range(9)], [*range(100, 133)], [*range(299, -1, -1)]):
                # Huge neighbours must not matter either: no step comes from the batch.
                crowd = torch.cat([x[rows], torch.full((5, 50), 1e4, dtype=dtype)])
                beside = None
                if extra is not None:
                    beside = torch.cat([extra[rows], torch.zeros(5, 37, dtype=dtype)])
                assert torch.equal(layer(crowd, beside)[: len(rows)], wanted[rows])
    finally:
        torch.set_num_threads(before)


@can_run
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_residual_is_added_and_kept(dtype):
    weight, bias, x = layer_and_inputs()
    layer = Int8Linear(weight, bias, inputs_of(x))
    residual = torch.randn(len(x), 32).to(dtype)
    copy = residual.clone()
    y = layer(x.to(dtype), residual)
    assert torch.equal(residual, copy)
    assert y.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    assert torch.allclose(y, layer(x.to(dtype)) + residual, rtol=tolerance, atol=tolerance)


@can_run
def test_gelu_and_dtype_and_leading_dimensions():
    weight, bias, x = layer_and_inputs()
    plain = Int8Linear(weight, bias, inputs_of(x))
    bent = Int8Linear(weight, bias, inputs_of(x), gelu=True)
    assert torch.allclose(bent(x), nn.functional.gelu(plain(x)), atol=1e-5)
    half = Int8Linear(weight, bias, inputs_of(x), dtype=torch.bfloat16)(x)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), plain(x), rtol=1e-2, atol=1e-2)
    folded = plain(x.view(4, 50, 48))
    assert folded.shape == (4, 50, 32)
    assert torch.equal(folded.view(200, 32), plain(x))


@can_run
@pytest.mark.parametrize("seed", range(3))
def test_close_to_float32_in_spite_of_wide_columns(seed):
    weight, bias, x = layer_and_inputs(rows=400, k=96, n=64, seed=seed)
    y = Int8Linear(weight, bias, inputs_of(x[:200]))(x[200:])
    wanted = x[200:] @ weight.T + bias
    cosine = torch.cosine_similarity(y, wanted)
    assert cosine.mean() > 0.999
    # A row beyond the recorded ranges saturates.
    assert cosine.min() > 0.98


def test_wide_columns_move_into_the_weight():
    weight, _, x = layer_and_inputs(rows=400, k=96, n=64)
    steps = column_steps(weight, inputs_of(x))
    same = torch.full_like(steps, float(x.abs().max()) / 127)
    wanted = (x @ weight.T).double().numpy()
    error, error_of_same = (
        np.abs(exact(weight, None, x, s) - wanted).mean() for s in (steps, same)
    )
    assert error < error_of_same / 2
    assert steps[17] > 2 * steps[1]


def test_a_huge_row_does_not_widen_the_steps_of_the_rest():
    x = nn.functional.gelu(torch.randn(4000, 32, generator=torch.Generator().manual_seed(0)))
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(1))
    x[0, 0] = 35.0
    step, _ = gelu_step(weight, inputs_of(x))
    assert step < 0.3 * 35 / 255


@can_run
@pytest.mark.parametrize(
    "broken", ["input column", "weight column", "weight row", "input", "weight"]
)
def test_zeros(broken):
    weight, bias, x = layer_and_inputs()
    match broken:
        case "input column":
            x[:, 3] = 0
        case "weight column":
            weight[:, 3] = 0
        case "weight row":
            weight[3] = 0
        case "input":
            x[:] = 0
        case "weight":
            weight[:] = 0
    layer = Int8Linear(weight, bias, inputs_of(x))
    y, wanted = layer(x), x @ weight.T + bias
    assert y.isfinite().all()
    assert torch.allclose(y, wanted, atol=0.05 * float(wanted.abs().max()))
    if broken == "weight row":
        assert torch.equal(y[:, 3], bias[3].expand(len(x)))


@can_run
def test_a_column_that_was_zero_when_recorded_may_wake_up():
    weight, bias, x = layer_and_inputs()
    seen = x.clone()
    seen[:, 3] = 0
    y = Int8Linear(weight, bias, inputs_of(seen))(x)
    cosine = torch.cosine_similarity(y - bias, x @ weight.T)
    assert y.isfinite().all()
    assert cosine.mean() > 0.95


@can_run
def test_constant_columns():
    weight, bias, x = layer_and_inputs()
    x[:, 5] = 30.0
    y = Int8Linear(weight, bias, inputs_of(x))(x)
    assert torch.cosine_similarity(y, x @ weight.T + bias).min() > 0.999


@can_run
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_feed_forward_agrees_with_float32(dtype):
    torch.manual_seed(0)
    up, down = nn.Linear(48, 192), nn.Linear(192, 48)
    x = torch.randn(400, 48) * 2
    with torch.no_grad():
        between = nn.functional.gelu(up(x))
        wanted = down(between)
    both = Int8FeedForward(up, down, inputs_of(x[:200]), inputs_of(between[:200]))
    y = both(x.to(dtype))
    assert y.dtype == dtype
    assert torch.cosine_similarity(y.float(), wanted).mean() > 0.999
    residual = torch.randn(400, 48).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    assert torch.allclose(both(x.to(dtype), residual), y + residual, rtol=tolerance, atol=tolerance)


@settings(max_examples=25)
@given(st.floats(0.01, 1000), st.floats(0.01, 100))
def test_step_of_a_gelu_holds_zero_and_the_floor(top, spread):
    sample = nn.functional.gelu(torch.linspace(-spread, top, 64)[:, None].expand(64, 3))
    step, zero = gelu_step(torch.tensor([[1.0, -2.0, 0.5]]), inputs_of(sample))
    assert 0 <= zero <= 255
    assert -zero * step <= GELU_FLOOR + step
    assert (255 - zero) * step <= max(top, 0.17) + step


def test_record_inputs_records_rows_and_peaks():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    model.add_module("unused", nn.Identity())
    rows = torch.randn(5000, 4)

    def run(m):
        for block in rows.split(77):
            m(block)

    inputs = record_inputs(model, run)
    assert set(inputs) == {"0", "2"}
    assert torch.equal(inputs["0"].peak, rows.abs().amax(0))
    sample = inputs["0"].sample
    assert SAMPLE_ROWS < len(sample) <= 2 * SAMPLE_ROWS
    stride = -(-len(rows) // len(sample))
    assert torch.equal(sample, rows[::stride])
    assert inputs["2"].sample.shape == (len(sample), 8)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_record_inputs_takes_its_hooks_away_after_an_error():
    model = nn.Linear(2, 2)

    def run(m):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_inputs(model, run)
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_record_inputs_refuses_what_is_not_finite(value):
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(CannotContinue, match=r"'0'.*not finite"):
        record_inputs(model, lambda m: m(torch.tensor([[1.0, value]])))


def test_a_layer_that_never_ran_is_left_out():
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "not": nn.Linear(2, 2)})
    assert set(record_inputs(model, lambda m: m["used"](torch.ones(1, 2)))) == {"used"}


# Rates of products of 8-bit integers and of float32, whether the former are exact, and the reason.
OF_NO_USE = {
    "slower": (1.0, 2.0, True, "reach 1.0 .* float32 2.0 GFLOP/s, so nothing would be gained"),
    "as fast": (2.0, 2.0, True, "reach 2.0 .* float32 2.0 GFLOP/s, so nothing would be gained"),
    "none": (0.0, 2.0, False, "reach 0.0 .* float32 2.0 GFLOP/s, so nothing would be gained"),
    "saturating": (9.0, 2.0, False, "reach 9.0 .* and sums of two saturate at 16 bits"),
}


@pytest.mark.parametrize("case", OF_NO_USE)
def test_a_cpu_where_they_are_of_no_use_is_refused(tiny_model, monkeypatch, case):
    in_int8, in_float32, is_exact, reason = OF_NO_USE[case]
    rates = {torch.int8: in_int8, torch.float32: in_float32}
    measured = partial(
        int8_reason, product_rate=lambda dtype, *_: rates[dtype], is_exact=lambda: is_exact
    )
    monkeypatch.setattr("features.encoder.loading.int8_reason", measured)
    monkeypatch.setattr(
        "features.encoder.loading.make_backend",
        lambda *_, **__: pytest.fail("it was built all the same"),
    )
    with pytest.raises(
        InputError,
        match=f"int8 can't be used on this machine: 8-bit.* {reason}.*; give `dtype=auto`",
    ):
        FrozenEncoder(tiny_model("bert"), pooling="mean", dtype="int8")


def test_a_cpu_where_they_are_of_use_is_not():
    rates = {torch.int8: 2.1, torch.float32: 2.0}
    options = {"product_rate": lambda dtype, *_: rates[dtype], "is_exact": lambda: True}
    assert int8_reason((384, 1536), **options) == ""


@can_run
def test_a_residual_that_cannot_be_added():
    weight, bias, x = layer_and_inputs()
    with pytest.raises(ValueError, match="after a GELU"):
        Int8Linear(weight, bias, inputs_of(x), gelu=True)(x, torch.zeros(200, 32))
    with pytest.raises(ValueError, match="bfloat16"):
        Int8Linear(weight, bias, inputs_of(x))(x, torch.zeros(200, 32).bfloat16())
    with pytest.raises(ValueError, match="48 columns"):
        Int8Linear(torch.ones(2, 3), None, inputs_of(x))
