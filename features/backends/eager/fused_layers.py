"""Make stock layers fast on the CPU: the same weights, prepacked and fused by oneDNN.

In comes a transformers model, and its linear layers are replaced in place:

- weights are prepacked: laid out once as oneDNN's kernels want them, instead of at every call;
- linear layers that read the same tensor (query, key and value) become one product;
- an activation that reads a linear layer alone, and a residual sum behind one, are computed while
  the product is still in registers.

What reads what is found by running the model and watching which tensor goes where, not by the names
of architectures. What the model computes does not change beyond rounding;
`features/backends/eager/forward.py` proves it before it uses the result. Attention is not here
(`features/backends/eager/packed_attention.py`), and neither are products of 8-bit integers
(`features/backends/eager/int8.py`), which take the same places.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from transformers.activations import ACT2CLS

# Activations that oneDNN computes behind a product: its name, and its algorithm.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, str]] = {
    ACT2CLS["gelu"]: ("gelu", "none"),
    ACT2CLS["gelu_new"]: ("gelu", "tanh"),
    ACT2CLS["gelu_pytorch_tanh"]: ("gelu", "tanh"),
    nn.GELU: ("gelu", "none"),
    nn.ReLU: ("relu", ""),
}
# Weights are laid out for about this many tokens in a batch; any number runs.
_TOKENS = 4096


def can_fuse(dtype: torch.dtype) -> bool:
    """Tell whether this torch has oneDNN's operators for prepacked weights, in this precision."""
    identity = torch.eye(16, dtype=dtype)
    try:
        return torch.equal(PrepackedLinear(identity, identity[0] * 0)(identity), identity)
    except (AttributeError, RuntimeError):  # no such operator, or none for this processor
        return False


class PrepackedLinear:
    """A frozen linear layer, with what is computed along with it.

    Parameters
    ----------
    weight : Tensor (N, K)
    bias : Tensor (N,), optional
    activation : pair of str
        oneDNN's name and algorithm; `none` for none.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        activation: tuple[str, str] = ("none", ""),
    ) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _TOKENS)
        self._bias = bias
        self._activation = activation

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the product: (…, K) to (…, N)."""
        name, algorithm = self._activation
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, name, [], algorithm
        )
        return product

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Compute the product and add a residual: (…, K) and (…, N) to (…, N)."""
        total: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, residual, self._weight, self._bias, "add"
        )
        return total


class _Joint:
    """One product for several linear layers that read the same tensor, one after the other."""

    def __init__(self, product: Product, widths: Sequence[int]) -> None:
        self._product = product
        self._widths = list(widths)
        self._of_thread = threading.local()  # several threads may run the model at a time

    def part(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """Give the output of one of the layers; all are computed when the first is asked for."""
        if number == 0:
            self._of_thread.read = x
            self._of_thread.parts = torch.split(self._product(x), self._widths, dim=-1)
        assert self._of_thread.read is x, "layers that were fused do not read the same tensor"
        parts: tuple[torch.Tensor, ...] = self._of_thread.parts
        if number == len(self._widths) - 1:
            # Or each layer of the model would keep its own alive.
            del self._of_thread.parts, self._of_thread.read
        return parts[number]


class _Part(nn.Module):
    """One of several linear layers that are computed together."""

    def __init__(self, joint: _Joint, number: int) -> None:
        super().__init__()
        self._joint = joint
        self._number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._joint.part(self._number, x)


class _Single(nn.Module):
    """One linear layer, with what is computed along."""

    def __init__(self, product: Product) -> None:
        super().__init__()
        self._product = product

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._product(x)


class _Residual(nn.Module):
    """The end of attention and feed-forward in BERT and its kin: LayerNorm(product + residual)."""

    def __init__(self, product: Product, norm: nn.Module) -> None:
        super().__init__()
        self._product = product
        self._norm = norm

    def forward(self, hidden_states: torch.Tensor, input_tensor: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self._norm(self._product.plus(hidden_states, input_tensor))
        return normed


class Product(Protocol):
    """A linear layer, or several side by side, or two with an activation between."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the product: (…, K) to (…, N)."""

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Compute the product and add a residual: (…, K) and (…, N) to (…, N)."""


class Products(Protocol):
    """A maker of what the linear layers of a model, known by their names, are replaced by."""

    def linear(self, names: Sequence[str], activation: tuple[str, str]) -> Product | None:
        """Make one product of layers side by side and an activation; None if there is none such."""

    def feed_forward(self, up: str, activation: tuple[str, str], down: str) -> Product | None:
        """Make one product of two layers and the activation between; None if there is none such."""


class Prepacked:
    """Products in the precision of the model, by oneDNN."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def linear(self, names: Sequence[str], activation: tuple[str, str]) -> PrepackedLinear:
        """See `Products`."""
        return PrepackedLinear(*joined(self._model, names), activation)

    def feed_forward(self, up: str, activation: tuple[str, str], down: str) -> None:
        """See `Products`: the wide middle is written out in any case."""


def joined(model: nn.Module, names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Give the weights (N, K) and biases (N,) of linear layers, side by side."""
    layers = [model.get_submodule(name) for name in names]
    weights: list[torch.Tensor] = []
    biases: list[torch.Tensor] = []
    for layer in layers:
        assert isinstance(layer, nn.Linear), "`_watch` looks for these"
        weights.append(layer.weight)
        biases.append(
            layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
        )
    bias = None if all(layer.bias is None for layer in layers) else torch.cat(biases)
    return torch.cat(weights), bias


def fuse(model: nn.Module, layers: str, run: Callable[[], object], products: Products) -> None:
    """Replace the linear layers of a model, in place.

    Parameters
    ----------
    model : Module
        On the CPU, in the precision in which it will run.
    layers : str
        Name of the modules in which to replace; the rest stays as it is.
    run : callable
        Runs the model on some text, to be watched.
    products : Products
        What to replace them by; a layer for which there is nothing stays as it is.
    """
    calls = _watch(model, layers, run)
    plain = ("none", "")
    linear = list(dict.fromkeys(c.name for c in calls if isinstance(c.module, nn.Linear)))
    residuals = {
        f"{name}.dense": name
        for name, module in model.get_submodule(layers).named_modules(prefix=layers)
        if _is_residual(module) and f"{name}.dense" in linear
    }
    replaced: dict[str, nn.Module] = {}
    done: set[str] = set()
    for names in _reading_the_same(calls):
        if product := products.linear(names, plain):
            joint = _Joint(product, [_width(model, name) for name in names])
            replaced |= {name: _Part(joint, number) for number, name in enumerate(names)}
            done |= set(names)
    for up, between, down in _activated(calls):
        activation = _ACTIVATIONS[type(model.get_submodule(between))]
        if up in done:
            continue
        if down in residuals and (product := products.feed_forward(up, activation, down)):
            replaced[residuals[down]] = _Residual(product, _norm(model, residuals[down]))
            replaced[up] = replaced[between] = nn.Identity()
            done |= {up, down}
        elif product := products.linear([up], activation):
            replaced[up] = _Single(product)
            replaced[between] = nn.Identity()
            done.add(up)
    for name in linear:
        if name not in done and (product := products.linear([name], plain)):
            if name in residuals:
                replaced[residuals[name]] = _Residual(product, _norm(model, residuals[name]))
            else:
                replaced[name] = _Single(product)
    for name, module in replaced.items():
        model.set_submodule(name, module)


def _width(model: nn.Module, name: str) -> int:
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear), "`_watch` looks for these"
    return layer.out_features


def _norm(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(f"{name}.LayerNorm")


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a module: what it read and what it gave. Kept alive, so that identity tells."""

    name: str
    module: nn.Module
    read: torch.Tensor
    gave: torch.Tensor


def _watch(model: nn.Module, layers: str, run: Callable[[], object]) -> list[_Call]:
    """Run the model, and note the calls of linear layers and activations, in order."""
    calls: list[_Call] = []

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        return lambda module, args, output: calls.append(_Call(name, module, args[0], output))

    with ExitStack() as stack:
        for name, module in model.get_submodule(layers).named_modules(prefix=layers):
            if type(module) in (nn.Linear, *_ACTIVATIONS):
                stack.callback(module.register_forward_hook(note(name)).remove)
        run()
    return calls


def _reading_the_same(calls: Sequence[_Call]) -> list[list[str]]:
    """Name the linear layers that are always called one after the other on the same tensor."""
    groups: list[list[_Call]] = []
    for call in calls:
        if not isinstance(call.module, nn.Linear):
            continue
        if groups and groups[-1][-1].read is call.read:
            groups[-1].append(call)
        else:
            groups.append([call])
    # A layer that is used several times makes the same group each time (ALBERT), or is left alone
    # (DeBERTa, whose keys and queries project relative positions as well).
    used = {tuple(call.name for call in group) for group in groups}
    return [
        list(names)
        for names in sorted(used)
        if len(set(names)) > 1 and not any(set(names) & set(others) for others in used - {names})
    ]


def _activated(calls: Sequence[_Call]) -> list[tuple[str, str, str]]:
    """Name linear layers, the activation that reads each, and the layer behind it, if known."""
    found = []
    for before, after, behind in zip(calls, calls[1:], [*calls[2:], None], strict=False):
        if (
            isinstance(before.module, nn.Linear)
            and type(after.module) in _ACTIVATIONS
            and after.read is before.gave
        ):
            reads = behind is not None and isinstance(behind.module, nn.Linear)
            down = behind.name if behind and reads and behind.read is after.gave else ""
            found.append((before.name, after.name, down))
    return list(dict.fromkeys(found))


def _is_residual(module: nn.Module) -> bool:
    """Tell, by its parts, whether it is LayerNorm(dropout(dense(hidden_states)) + input_tensor)."""
    return (
        sorted(name for name, _ in module.named_children()) == ["LayerNorm", "dense", "dropout"]
        and list(inspect.signature(module.forward).parameters) == ["hidden_states", "input_tensor"]
        and type(module.LayerNorm) is nn.LayerNorm
    )
