"""Compute linear layers in 8-bit integers, for CPUs that multiply them faster than anything else.

In: a float32 layer and a sample of what goes into it (:mod:`features.backends.eager.int8_ranges`).
Out: :class:`Int8Linear`, and :class:`Int8FeedForward` for two layers with a GELU between, whose
wide middle never leaves 8 bits. All steps are fixed when a module is built, one a column where the
input is ours to scale (as in SmoothQuant, Xiao et al. 2023, arXiv:2211.10438) and one a row of the
weights: so a row of the output depends on its row of the input alone, whatever else is in the
batch.

Does not: choose which layers of a model to replace, judge the result or the speed (whoever builds
an encoder of these measures both against float32, see
:mod:`features.backends.eager.product_rates`), train, or run anywhere but on a CPU. NaN does not
survive a conversion to integers: the caller checks what comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from features.backends.eager.fused_layers import joined
from features.backends.eager.int8_ranges import (
    TOP,
    ZERO,
    Inputs,
    column_steps,
    gelu_step,
    quantize_weight,
    record_inputs,
)

#: For fewer rows oneDNN may pick another kernel, whose GELU differs in the last bit (seen for up to
#: 6 rows of narrow layers): so that a row never depends on the size of its batch, small ones are
#: filled up.
LEAST_ROWS = 16

#: Activations by oneDNN's names: none, and the exact GELU.
_PLAIN, _GELU = ("none", ""), ("gelu", "none")

#: Adding 1.5 * 2**23 to a small float32 rounds it to an integer (half to even) and leaves that in
#: the low bits of the sum, in two's complement: rounding and converting for the price of an
#: addition.
ROUNDER = 1.5 * 2.0**23

#: Values that are rounded together: some hundred KiB.
IN_CACHE = 100_000


def _check(weight: Tensor, inputs: Inputs) -> None:
    if inputs.peak.shape != (weight.shape[1],):
        raise ValueError(f"inputs of {len(inputs.peak)} columns for a weight {tuple(weight.shape)}")


class _Prepacked:
    """An 8-bit weight in oneDNN's layout, with what its products are multiplied by and a bias."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        integers, self.steps = quantize_weight(weight)
        self.weight = torch.ops.onednn.qlinear_prepack(integers, None)
        self.zeros = torch.zeros(len(integers), dtype=torch.int32)
        self.bias = None if bias is None else bias.detach().float().clone()

    def product(
        self,
        x: Tensor,
        dtype: torch.dtype,
        *,
        scale: tuple[float, int] = (1.0, 0),
        gelu: bool = False,
        out_scale: tuple[float, int] = (1.0, 0),
    ) -> Tensor:
        """Multiply integers (M, K) by the weight, add the bias, apply a GELU; (M, N) in dtype."""
        post: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            x, *scale, self.weight, self.steps, self.zeros, self.bias, *out_scale, dtype, *post
        )
        return product

    def product_plus(
        self, x: Tensor, residual: Tensor, *, scale: tuple[float, int] = (1.0, 0)
    ) -> Tensor:
        """Multiply integers (M, K) by the weight, add the bias and the residual (M, N)."""
        # "add" leaves the residual as it is; "sum" would write the result over it.
        product: Tensor = torch.ops.onednn.qlinear_pointwise.binary(
            x, *scale, self.weight, self.steps, self.zeros, residual, self.bias,
            1.0, 0, residual.dtype, 1.0, 0, "add", 1.0, "none", [], "",
        )  # fmt: skip
        return product


class _Columns:
    """A rounding of rows of floats to 8-bit integers, with a fixed step a column."""

    scale = (1.0, ZERO)

    def __init__(self, steps: Tensor) -> None:
        self.inverse = 1.0 / steps
        self.rounder = torch.tensor(ROUNDER + ZERO)

    def integers(self, x: Tensor) -> Tensor:
        """Round x / steps to the next integers, half to even, cut off at ±127.

        Gives (M, K) uint8, `ZERO` higher.

        Some rows at a time, so that what lies between stays in the cache: a third faster than all
        at once.
        """
        found = torch.empty(x.shape, dtype=torch.uint8)
        rows = max(1, IN_CACHE // x.shape[1])
        between = torch.empty(min(rows, len(x)), x.shape[1])
        for start in range(0, len(x), rows):
            part = x[start : start + rows]
            rounded = between[: len(part)]
            torch.addcmul(self.rounder, part.float(), self.inverse, out=rounded)
            rounded.clamp_(ROUNDER + ZERO - TOP, ROUNDER + ZERO + TOP)
            found[start : start + rows].copy_(rounded.view(torch.int32))
        return found


def _filled(x: Tensor) -> Tensor:
    """Give x as rows (M, K), M at least LEAST_ROWS: zeros below, where it has fewer."""
    rows = x.reshape(-1, x.shape[-1])
    lacking = LEAST_ROWS - len(rows)
    return nn.functional.pad(rows, (0, 0, 0, lacking)) if lacking > 0 else rows


def _unfilled(y: Tensor, like: Tensor) -> Tensor:
    """Give the rows of y that stand for rows of ``like``, in its leading dimensions."""
    leading = like.shape[:-1]
    return y[: leading.numel()].view(*leading, y.shape[-1])


class Int8Linear(nn.Module):
    """A frozen linear layer whose products are of 8-bit integers, added up in 32 bits.

    Parameters
    ----------
    weight : Tensor
        *Shape:* ``(N, K)``, float32.
    bias : Tensor or None
        *Shape:* ``(N,)``.
    inputs : Inputs
        What goes into the layer, from :func:`features.backends.eager.int8_ranges.record_inputs`.
    gelu : bool
        Apply the exact GELU to the result; such a layer takes no residual.
    dtype : torch.dtype or None
        Of the result: float32 or bfloat16; None for that of the input.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        inputs: Inputs,
        *,
        gelu: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check(weight, inputs)
        weight = weight.detach().float()
        steps = column_steps(weight, inputs)
        self._columns = _Columns(steps)
        self._prepacked = _Prepacked(weight * steps, bias)
        self._gelu = gelu
        self._dtype = dtype

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Give ``x @ weight.T + bias``, or its GELU, or that sum plus a residual.

        Parameters
        ----------
        x : Tensor
            *Shape:* ``(..., K)``, float32 or bfloat16.
        residual : Tensor or None
            *Shape:* ``(..., N)``, in the dtype of the result; not for a layer with a GELU.

        Returns
        -------
        Tensor
            *Shape:* ``(..., N)``.
        """
        rows = self._columns.integers(_filled(x))
        if residual is None:
            y = self._prepacked.product(
                rows, self._dtype or x.dtype, scale=self._columns.scale, gelu=self._gelu
            )
        elif self._gelu or residual.dtype != (self._dtype or x.dtype):
            raise ValueError(
                f"a residual in {residual.dtype} for a result in {self._dtype or x.dtype}"
                + (" after a GELU" if self._gelu else "")
            )
        else:
            y = self._prepacked.product_plus(rows, _filled(residual), scale=self._columns.scale)
        return _unfilled(y, x)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """Give the result plus a residual."""
        return self.forward(x, residual)


class Int8FeedForward(nn.Module):
    """Two linear layers with the exact GELU between them; the values between stay in 8 bits.

    Parameters
    ----------
    up, down : nn.Linear
        From K to F columns, and from F back to N.
    up_inputs, down_inputs : Inputs
        What goes into each, from :func:`features.backends.eager.int8_ranges.record_inputs`.
    """

    def __init__(
        self, up: nn.Linear, down: nn.Linear, up_inputs: Inputs, down_inputs: Inputs
    ) -> None:
        super().__init__()
        _check(up.weight, up_inputs)
        _check(down.weight, down_inputs)
        wide, narrow = up.weight.detach().float(), down.weight.detach().float()
        steps = column_steps(wide, up_inputs)
        self._columns = _Columns(steps)
        self._up = _Prepacked(wide * steps, up.bias)
        self._between = gelu_step(narrow, down_inputs)
        self._down = _Prepacked(narrow, down.bias)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Give ``down(gelu(up(x)))``, plus a residual if there is one.

        Parameters
        ----------
        x : Tensor
            *Shape:* ``(..., K)``, float32 or bfloat16.
        residual : Tensor or None
            *Shape:* ``(..., N)``, in the dtype of x.

        Returns
        -------
        Tensor
            *Shape:* ``(..., N)``, in the dtype of x.
        """
        if residual is not None and residual.dtype != x.dtype:
            raise ValueError(f"a residual in {residual.dtype} for a result in {x.dtype}")
        rows = self._columns.integers(_filled(x))
        between = self._up.product(
            rows, torch.uint8, scale=self._columns.scale, gelu=True, out_scale=self._between
        )
        if residual is None:
            y = self._down.product(between, x.dtype, scale=self._between)
        else:
            y = self._down.product_plus(between, _filled(residual), scale=self._between)
        return _unfilled(y, x)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """Give the result plus a residual."""
        return self.forward(x, residual)


class Quantized:
    """The products of `features/backends/eager/fused_layers.py`, in 8-bit integers.

    Parameters
    ----------
    model : nn.Module
        In float32; read, not changed.
    samples : sequence of sequence of int
        Tokens of the texts on which the ranges of values are measured.
    attention : torch.dtype
        Of queries, keys and values: half precision where that is faster.
    """

    def __init__(
        self, model: Any, samples: Sequence[Sequence[int]], attention: torch.dtype
    ) -> None:
        def run(model: Any) -> None:
            for text in samples:
                ids = torch.tensor([list(text)])
                model(input_ids=ids, attention_mask=torch.ones_like(ids))

        self._model = model
        self._inputs = record_inputs(model, run)
        self._attention = attention

    def linear(self, names: Sequence[str], activation: tuple[str, str]) -> Int8Linear | None:
        """Make a product, see `features.backends.eager.fused_layers.Products`."""
        if names[0] not in self._inputs or activation not in (_PLAIN, _GELU):
            return None
        # What is read together goes to attention; everything else is added up in float32.
        dtype = self._attention if len(names) > 1 else torch.float32
        weight, bias = joined(self._model, names)
        return Int8Linear(
            weight, bias, self._inputs[names[0]], gelu=activation == _GELU, dtype=dtype
        )

    def feed_forward(
        self, up: str, activation: tuple[str, str], down: str
    ) -> Int8FeedForward | None:
        """Make a product, see `features.backends.eager.fused_layers.Products`."""
        if activation != _GELU or up not in self._inputs or down not in self._inputs:
            return None
        wide, narrow = (self._model.get_submodule(name) for name in (up, down))
        return Int8FeedForward(wide, narrow, self._inputs[up], self._inputs[down])
