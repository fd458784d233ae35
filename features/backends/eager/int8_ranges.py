"""Measure the int8 ranges of a model: what goes into its linear layers, and the 8-bit steps.

In: a float32 model and a way to run it over some texts. Out: for every linear layer a sample of its
inputs (:func:`record_inputs`), and from that and the layer's weight the steps that cost its output
least (:func:`column_steps`, :func:`gelu_step`). Does not: build or run a layer in integers
(:mod:`features.backends.eager.int8`), or choose the texts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from features.errors import CannotContinue

#: The largest integer of a symmetric 8-bit scale.
TOP = 127

#: Integers are handed over as unsigned ones, this much higher: x86 multiplies unsigned by signed
#: bytes, and for signed by signed ones oneDNN has an optimised kernel with AMX only, elsewhere one
#: that is thousands of times slower. It takes the zero point off in 32 bits, so the result is that
#: of signed ones.
ZERO = 128

#: Rows of input kept of every layer, at least (at most twice as many): enough to choose among a few
#: steps.
SAMPLE_ROWS = 128

#: How much of a column's range goes into the weights (0: nothing, 1: all of it).
POWERS = (0.5, 0.7, 0.85, 1.0)

#: What part of the recorded range is kept; the rest saturates, for finer steps.
CLIPS = (1.0, 0.85, 0.7, 0.5, 0.35, 0.25)

#: Below this lies no value of the GELU, whose minimum is -0.16997 at -0.7518.
GELU_FLOOR = -0.17


@dataclass(frozen=True)
class Inputs:
    """The inputs of a linear layer, recorded over some texts.

    Attributes
    ----------
    peak : Tensor
        *Shape:* ``(K,)``. The largest magnitude in every column, over all rows seen.
    sample : Tensor
        *Shape:* ``(R, K)``. Some of the rows, evenly spaced.
    """

    peak: Tensor
    sample: Tensor


class _Recorder:
    """A collector of the inputs of one layer: of too many rows, every other one is dropped."""

    def __init__(self) -> None:
        self.peak: Tensor | None = None
        self.rows: list[Tensor] = []
        self.stride = 1
        self.seen = 0

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).float()
        if len(rows) == 0:
            return
        peak = rows.abs().amax(0)
        self.peak = peak if self.peak is None else torch.maximum(self.peak, peak)
        self.rows.extend(rows[-self.seen % self.stride :: self.stride].clone())
        self.seen += len(rows)
        while len(self.rows) > 2 * SAMPLE_ROWS:
            self.rows = self.rows[::2]
            self.stride *= 2


def record_inputs(model: nn.Module, run: Callable[[nn.Module], object]) -> dict[str, Inputs]:
    """Record what goes into every linear layer of a float32 model while ``run(model)`` runs it.

    Parameters
    ----------
    model : nn.Module
        With ``nn.Linear`` layers, in evaluation mode.
    run : callable
        Runs the model over the texts that the ranges are taken from, without padding: the rows of
        padding would count too.

    Returns
    -------
    dict of str to Inputs
        By the layer's name in ``model.named_modules()``; layers that never ran are left out.

    Raises
    ------
    CannotContinue
        If a layer was given values that are not finite.
    """
    recorders = {
        name: (_Recorder(), module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    hooks = [module.register_forward_pre_hook(recorder) for recorder, module in recorders.values()]
    try:
        with torch.inference_mode():
            run(model)
    finally:
        for hook in hooks:
            hook.remove()
    inputs = {}
    for name, (recorder, _) in recorders.items():
        if recorder.peak is None:
            continue
        if not bool(recorder.peak.isfinite().all()):
            raise CannotContinue(
                f"the layer {name!r} was given values that are not finite while its ranges were "
                "measured: 8-bit integers cannot stand for them; give `dtype=float32`"
            )
        inputs[name] = Inputs(recorder.peak, torch.stack(recorder.rows))
    return inputs


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round every row of a weight to a step of its own.

    Parameters
    ----------
    weight : Tensor
        *Shape:* ``(N, K)``.

    Returns
    -------
    tuple of Tensor
        Integers ``(N, K) int8`` within ±127, and the steps ``(N,)``: ``weight ≈ integers * steps``.
    """
    peak = weight.abs().amax(1)
    steps = torch.where(peak > 0, peak, 1.0) / TOP
    return (weight / steps[:, None]).round().clamp(-TOP, TOP).to(torch.int8), steps


def _error(got: Tensor, wanted: Tensor) -> float:
    """Give the mean over the rows (R, N) of the squared error over the row's squared length.

    Relative, because a few tokens ([CLS], [SEP]) are many times longer than all others: their
    absolute errors would set steps too wide for the rest. A row of zeros counts nothing.
    """
    length = wanted.square().sum(1)
    relative = (got - wanted).square().sum(1) / torch.where(length > 0, length, torch.inf)
    return float(relative.mean())


def column_steps(weight: Tensor, inputs: Inputs) -> Tensor:
    """Choose the step of every column of a layer's input, for the least error of its output.

    With a the columns' peaks and w those of the weight's columns, the steps are
    ``c * max_j(a_j / s_j) / 127 * s`` with ``s = a**p / w**(1 - p)`` for p of :data:`POWERS`,
    then c of :data:`CLIPS`: what is too wide for 8 bits in a column of the input moves into that
    column of the weight.

    Parameters
    ----------
    weight : Tensor
        *Shape:* ``(N, K)``, float32.
    inputs : Inputs
        Of this layer.

    Returns
    -------
    Tensor
        *Shape:* ``(K,)``, positive.
    """
    top = float(inputs.peak.max())
    if top == 0:
        return torch.ones_like(inputs.peak)
    # A column that was (almost) constantly zero is given a step all the same.
    peak = inputs.peak.clamp_min(1e-4 * top)
    wide = weight.abs().amax(0)
    wide = wide.clamp_min(max(1e-4 * float(wide.max()), torch.finfo(torch.float32).tiny))
    wanted = inputs.sample @ weight.T

    def error(steps: Tensor) -> float:
        integers, row_steps = quantize_weight(weight * steps)
        rounded = (inputs.sample / steps).round().clamp(-TOP, TOP)
        return _error((rounded @ integers.float().T) * row_steps, wanted)

    def steps(power: float) -> Tensor:
        shares = peak**power / wide ** (1 - power)
        return (peak / shares).max() / TOP * shares

    best = min(map(steps, POWERS), key=error)
    return min((clip * best for clip in CLIPS), key=error)


def gelu_step(weight: Tensor, inputs: Inputs) -> tuple[float, int]:
    """Choose the one step and the zero point (uint8) of a layer's input that is a GELU's output.

    Parameters
    ----------
    weight : Tensor
        *Shape:* ``(N, K)``, float32: of the layer after the GELU.
    inputs : Inputs
        Of this layer.

    Returns
    -------
    tuple of float and int
        ``value ≈ (integer - zero point) * step`` for integers from 0 to 255.
    """
    integers, row_steps = quantize_weight(weight)
    rounded_weight = integers.float() * row_steps[:, None]
    wanted = inputs.sample @ weight.T

    def error(choice: tuple[float, int]) -> float:
        step, zero = choice
        values = ((inputs.sample / step).round() + zero).clamp(0, 255).sub(zero) * step
        return _error(values @ rounded_weight.T, wanted)

    # Where all inputs were negative, the floor alone sets the step.
    top = max(float(inputs.peak.max()), -GELU_FLOOR)
    widths = [(clip * top - GELU_FLOOR) / 255 for clip in CLIPS]
    return min(((width, round(-GELU_FLOOR / width)) for width in widths), key=error)
