"""The modules of a sentence-transformers folder behind its transformer, and their maths.

The pooling over tokens, and what follows it (Dense, LayerNorm, Normalize), are the view `sentence`:
the vector that `SentenceTransformer(folder).encode` gives. In come hidden states, out come vectors.
What a folder says is read by `features/spec/sentence_folder.py`. No torch.

https://sbert.net/docs/package_reference/sentence_transformer/modules.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import FileRefused
from features.spec.pooling import SENTENCE, HiddenStates, Tensor, as_float32, library_of

Array = npt.NDArray[np.float32]

# The version of the maths below; part of the digest.
_VERSION = 1
# How a folder may pool its tokens.
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def _sigmoid(x: Array) -> Array:
    from scipy.special import expit

    return np.asarray(expit(x), np.float32)


def _gelu(x: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(x * ndtr(x), np.float32)


# Of torch.nn, by the names of their classes.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "Identity": lambda x: x,
    "Tanh": lambda x: np.asarray(np.tanh(x), np.float32),
    "ReLU": lambda x: np.maximum(x, np.float32(0)),
    "Sigmoid": _sigmoid,
    "GELU": _gelu,
    "SiLU": lambda x: np.asarray(x * _sigmoid(x), np.float32),
}


@dataclass(frozen=True)
class Step:
    """A module behind the pooling.

    Attributes
    ----------
    kind : str
        Dense, LayerNorm or Normalize.
    settings : dict
        What its config says about the vectors.
    weights : dict of str to float32 array
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)

    def width(self, width: int) -> int:
        """Give the columns that come out, of those that go in."""
        return self.weights["linear.weight"].shape[0] if self.kind == "Dense" else width

    def __call__(self, x: Array) -> Array:
        """Take vectors (B, D) to vectors (B, E), float32."""
        weights = self.weights
        if self.kind == "Dense":
            out = x @ weights["linear.weight"].T
            if "linear.bias" in weights:
                out = out + weights["linear.bias"]
            out = ACTIVATIONS[self.settings["activation"]](out)
            if self.settings["residual"]:
                out = out + (
                    x @ weights["residual.weight"].T if "residual.weight" in weights else x
                )
            return out
        if self.kind == "LayerNorm":
            centred = x - x.mean(axis=1, keepdims=True)
            deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(1e-5))
            return np.asarray(
                centred / deviation * weights["norm.weight"] + weights["norm.bias"], np.float32
            )
        norms = np.linalg.norm(x, axis=1, keepdims=True)
        return np.asarray(x / np.maximum(norms, np.float32(1e-12)), np.float32)


@dataclass(frozen=True)
class SentenceModules:
    """The view `sentence`, as `Pooling` is another view.

    Attributes
    ----------
    modes : tuple of str
        Poolings over the tokens of the last layer, side by side; some of `MODES`.
    steps : tuple of Step
        What follows, in order.
    include_prompt : bool
        Whether the tokens of the prompt are pooled too.
    max_length : int or None
        Tokens that the folder says are read of a text.
    layer_weights : tuple of float
        Of the last layers, whose mean by these weights is pooled; none where the last alone is.
    prompt_tokens : int
        Tokens that are left out of the pooling; 0 where the prompt is included, or there is none.
    """

    modes: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    include_prompt: bool = True
    max_length: int | None = None
    layer_weights: tuple[float, ...] = ()
    prompt_tokens: int = 0
    name: str = SENTENCE
    tokens: str = SENTENCE

    @property
    def digest(self) -> str:
        """SHA-256 of what decides about the vectors."""
        content: list[Any] = [_VERSION, self.modes, self.include_prompt, self.layer_weights]
        for step in self.steps:
            weights = {
                name: [array.shape, hashlib.sha256(array.tobytes()).hexdigest()]
                for name, array in sorted(step.weights.items())
            }
            content.append([step.kind, dict(step.settings), weights])
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def behind(self, prompt_tokens: int) -> SentenceModules:
        """Give the same for texts behind a prompt of so many tokens."""
        return replace(self, prompt_tokens=0 if self.include_prompt else prompt_tokens)

    def layer_numbers(self, n_layers: int) -> tuple[int, ...]:
        """Give the numbers of the layers that are pooled: the last, or some of the last.

        Raises
        ------
        FileRefused
            The model has fewer.
        """
        if len(self.layer_weights) > n_layers + 1:
            raise FileRefused(
                f"pooling 'sentence': WeightedLayerPooling has {len(self.layer_weights)} weights; "
                f"the model has {n_layers + 1} layers with its embeddings"
            )
        return tuple(range(n_layers + 1 - (len(self.layer_weights) or 1), n_layers + 1))

    def width(self, n_layers: int, hidden_size: int) -> int:
        """Give the number of columns, D."""
        width = hidden_size * len(self.modes)
        for number, step in enumerate(self.steps, 2):
            for name, axis in (("linear.weight", 1), ("norm.weight", 0)):
                taken = step.weights[name].shape[axis] if name in step.weights else width
                if taken != width:
                    raise FileRefused(
                        f"pooling 'sentence': module {number}, {step.kind}, takes {taken} columns, "
                        f"and {width} come in: the modules don't belong together"
                    )
            width = step.width(width)
        return width

    def pool(self, hidden: HiddenStates, n_layers: int) -> Array:
        """Pool one batch, and run what follows: float32 (B, D)."""
        vectors = self.over_tokens(hidden, n_layers)
        x = np.hstack(
            [one if isinstance(one, np.ndarray) else one.cpu().numpy() for one in vectors]
        )
        for step in self.steps:
            x = step(x)
        return x

    def over_tokens(self, hidden: HiddenStates, n_layers: int) -> list[Tensor]:
        """Pool the tokens of one batch by each mode, without what follows: (B, H) each."""
        layers = [as_float32(hidden.layers[n]) for n in self.layer_numbers(n_layers)]
        weights = self.layer_weights or (1.0,)
        states = layers[0]
        if self.layer_weights:
            total = sum(w * layer for w, layer in zip(weights, layers, strict=True))
            states = as_float32(total / sum(weights))
        return [_pooled(mode, states, hidden.attended, self.prompt_tokens) for mode in self.modes]


def _pooled(mode: str, states: Tensor, attended: Tensor | None, prompt_tokens: int) -> Tensor:
    """Pool the tokens by a mode: (B, T, H) and a mask (B, T) to (B, H)."""
    library = library_of(states)
    if attended is None:
        attended = library.ones_like(states[:, :, 0]) > 0
    # Integers by `where`: exporters to other runtimes take `* 1` for nothing, and no runtime adds
    # up truth values. From 1 at the first token of the text, wherever the padding is.
    position = library.where(attended, 1, 0).cumsum(1)
    kept = attended & (position > prompt_tokens)
    if mode in ("cls", "lasttoken"):
        # The first one that is kept, or the first of all; the last of all.
        beyond = states.shape[1] + 1
        if mode == "cls":
            at = library.where(kept, position, beyond).argmin(1)
        else:
            at = (kept * position).argmax(1)
        rows = (at * 0 + 1).cumsum(0) - 1
        return states[rows, at]
    if mode == "max":
        return library.amax(library.where(kept[:, :, None], states, -library.inf), 1)
    weights = library.where(kept, position if mode == "weightedmean" else 1, 0)
    total = (library.where(kept[:, :, None], states, 0.0) * weights[:, :, None]).sum(1)
    count = library.clip(weights.sum(1), 1, None)[:, None]
    return as_float32(total / (count**0.5 if mode == "mean_sqrt_len_tokens" else count))
