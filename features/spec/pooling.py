"""The pooling grammar, which says what vector to take, and its maths on hidden states.

In comes a text such as `mean@last4+sum`, out goes a `Pooling` that turns the hidden states of a
batch into one float32 vector a tweet. The maths is the same for tensors of torch and for arrays of
numpy, which exported models give. The forward pass is not here, and torch is not imported, so that
commands that never run a model can still read the grammar.

The grammar is ``TOKENS[@LAYERS][+COMBINE]``:

=========  =========================================================================================
TOKENS     ``cls`` the first token, ``mean`` over all tokens, ``mean-content`` over all but the
           special tokens that the tokenizer added ([CLS], [SEP]), ``max`` over all tokens in each
           dimension, ``pooler`` the model's own trained pooler, ``sentence`` the vector of the
           sentence that a folder of sentence-transformers describes, with all of its modules
LAYERS     ``-1`` (the last, the default), ``-2``, …; ``0`` the embedding layer, ``1``, …;
           ``last4``; ``all`` (the embedding layer too); ``-4:-1`` (both ends included)
COMBINE    over several layers: ``sum`` (the default), ``mean``, ``concat``
=========  =========================================================================================

The layers of a token are combined first, then the tokens are pooled (or, where the order makes no
difference, the other way round).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.errors import InputError

# A tensor of torch, or an array of numpy.
Tensor = Any

# The version of the maths below. It is part of an encoder's fingerprint: raise it whenever the
# same hidden states would give other vectors.
POOLING_VERSION = 1
# The best of the views that were measured, see docs/performance.md, at four times the columns of
# one layer: 3 KB a tweet for a model 384 wide.
DEFAULT_POOLING = "mean@last4+concat"

TOKENS = ("cls", "mean", "mean-content", "max", "pooler")
# What `features/spec/sentence_modules.py` does; it stands alone, as the pooler does.
SENTENCE = "sentence"
COMBINE = ("sum", "mean", "concat")
ALLOWED = (
    "TOKENS[@LAYERS][+COMBINE] with TOKENS one of cls, mean, mean-content, max, pooler, sentence; "
    "LAYERS one of -1, -2, 0, last4, all, -4:-1 (any number); COMBINE one of sum, mean, concat"
)

_GRAMMAR = re.compile(r"(?P<tokens>[a-z-]+)(?:@(?P<layers>[a-z0-9:-]+))?(?:\+(?P<combine>[a-z]+))?")
_NUMBER = r"(?:0|-?[1-9][0-9]{0,2})"
_LAYERS = re.compile(
    rf"(?P<single>{_NUMBER})|last(?P<last>[1-9][0-9]{{0,2}})|(?P<all>all)"
    rf"|(?P<a>{_NUMBER}):(?P<b>{_NUMBER})"
)


@dataclass(frozen=True)
class HiddenStates:
    """The hidden states of a batch, with masks: B texts of at most T tokens, H wide.

    Attributes
    ----------
    layers : mapping of int to Tensor (B, T, H)
        Of torch or numpy, as all here. By number: 0 is the embedding layer, L the last.
    attended : Tensor (B, T), bool, or None
        True where there is a token, False where there is padding (left or right). None says that
        nothing is padded.
    content : Tensor (B, T), bool
        True where there is a token of the text itself, False at special tokens and padding.
    pooler : Tensor (B, H), optional
        The output of the model's own pooler.
    """

    layers: Mapping[int, Tensor]
    attended: Tensor | None
    content: Tensor
    pooler: Tensor | None = None


@dataclass(frozen=True)
class BatchPart:
    """The hidden states of a part of a batch: B texts that stand together, of at most T tokens.

    Attributes
    ----------
    texts : slice
        Which texts of the batch.
    lengths : Tensor (B,), int64
        Tokens of each; what lies behind them is padding.
    layers : dict of int to Tensor (B, T, H)
        By number: 0 the embeddings, L the last.
    pooler : Tensor (B, H), optional
        What the model's own pooler gives.
    """

    texts: slice
    lengths: Tensor
    layers: dict[int, Tensor]
    pooler: Tensor | None = None

    def hidden_states(self, prefix: int, suffix: int) -> HiddenStates:
        """Mask the padding, and the special tokens that stand before and behind each text."""
        width = next(iter(self.layers.values())).shape[1]
        rows = self.lengths[:, None]
        if isinstance(rows, np.ndarray):
            position: Tensor = np.arange(width)
        else:
            position = sys.modules["torch"].arange(width, device=rows.device)
        content = (position >= prefix) & (position < rows - suffix)
        # Asking an accelerator would wait for it.
        waits = not isinstance(rows, np.ndarray) and rows.device.type != "cpu"
        full = not waits and bool((self.lengths == width).all())
        return HiddenStates(self.layers, None if full else position < rows, content, self.pooler)


@dataclass(frozen=True)
class Pooling:
    """One view: which tokens of which layers, combined how. Made by `parse_pooling`.

    Attributes
    ----------
    tokens, combine : str
        As in the grammar; `combine` is empty for a single layer.
    layers : str
        As written in the canonical name; ``""`` is the last layer.
    """

    tokens: str
    layers: str = ""
    combine: str = ""

    @property
    def name(self) -> str:
        """The canonical name, that of the view's dataset: `mean@last4` is `mean@last4+sum`."""
        return (
            self.tokens
            + (f"@{self.layers}" if self.layers else "")
            + (f"+{self.combine}" if self.combine else "")
        )

    def layer_numbers(self, n_layers: int) -> tuple[int, ...]:
        """Give the numbers of the layers for a model with `n_layers`, 0 being the embedding layer.

        Examples
        --------
        >>> parse_pooling("mean@last4").layer_numbers(6)
        (3, 4, 5, 6)
        >>> parse_pooling("cls").layer_numbers(6)
        (6,)
        """

        def number(text: str) -> int:
            layer = int(text)
            layer = n_layers + 1 + layer if text.startswith("-") else layer
            if not 0 <= layer <= n_layers:
                raise InputError(
                    f"pooling {self.name!r}: there is no layer {text}; this model's layers are "
                    f"0 (embeddings) to {n_layers}, or -1 to -{n_layers + 1} from the end"
                )
            return layer

        if self.layers == "all":
            return tuple(range(n_layers + 1))
        if self.layers.startswith("last"):
            first, last = number(f"-{self.layers.removeprefix('last')}"), n_layers
        elif ":" in self.layers:
            first, last = (number(end) for end in self.layers.split(":"))
        else:
            first = last = number(self.layers or "-1")
        if first > last:
            raise InputError(f"pooling {self.name!r}: its first layer comes after its last")
        return tuple(range(first, last + 1))

    def width(self, n_layers: int, hidden_size: int) -> int:
        """Give the number of columns, D, of the view."""
        n_states = len(self.layer_numbers(n_layers))
        return hidden_size * (n_states if self.combine == "concat" else 1)

    def pool(self, hidden: HiddenStates, n_layers: int) -> Tensor:
        """Pool one batch.

        Returns
        -------
        Tensor (B, D), float32
            Sums run in float32, whatever the precision of the forward pass.
        """
        if self.tokens == "pooler":
            assert hidden.pooler is not None, "the encoder refuses `pooler` for models without one"
            return as_float32(hidden.pooler)
        states = [hidden.layers[number] for number in self.layer_numbers(n_layers)]
        if self.tokens == "max" and self.combine != "concat":
            return _over_tokens("max", self._combined([as_float32(s) for s in states]), hidden)
        # The others are linear: tokens first gives the same, and leaves less to add up.
        vectors = [_over_tokens(self.tokens, state, hidden) for state in states]
        if self.combine == "concat":
            return library_of(vectors[0]).concatenate(vectors, 1)
        return self._combined(vectors)

    def _combined(self, parts: Sequence[Tensor]) -> Tensor:
        total = sum(parts[1:], start=parts[0])
        return total / len(parts) if self.combine == "mean" else total


def library_of(states: Tensor) -> Any:
    """Give the library of the states, numpy or torch; their functions go by the same names."""
    return np if isinstance(states, np.ndarray) else sys.modules["torch"]


def as_float32(states: Tensor) -> Tensor:
    """Give states in float32."""
    if isinstance(states, np.ndarray):
        return states.astype(np.float32, copy=False)
    return states.float()


def _over_tokens(tokens: str, states: Tensor, hidden: HiddenStates) -> Tensor:
    """Pool the tokens: (B, T, H) and masks (B, T) to (B, H), in float32."""
    library, attended = library_of(states), hidden.attended
    if tokens == "cls":
        if attended is None:
            return as_float32(states[:, 0])
        first = (attended * 1).argmax(1)  # not 0 where the padding is on the left
        rows = (first * 0 + 1).cumsum(0) - 1
        return as_float32(states[rows, first])
    if tokens == "max":
        if attended is not None:
            states = library.where(attended[:, :, None], states, -library.inf)
        return as_float32(library.amax(states, 1))
    mask = hidden.content if tokens == "mean-content" else attended
    if mask is None:
        return states.sum(1, dtype=library.float32) / states.shape[1]
    # A text without content has no tokens to take the mean of: its `mean-content` is zero, and its
    # row carries the flag `empty`. Where a mask is false the state may be anything, so it is
    # replaced rather than multiplied by zero.
    kept = library.where(mask[:, :, None], states, 0.0)
    return as_float32(
        kept.sum(1, dtype=library.float32) / library.clip(mask.sum(1), 1, None)[:, None]
    )


def parse_pooling(text: str) -> Pooling:
    """Read one pooling of the grammar in the module's docstring.

    Names that mean the same become the same: `mean@-1` is `mean`, `mean@-4:-1` and `mean@last4` are
    `mean@last4+sum`.

    Raises
    ------
    InputError
        With what is allowed.
    """
    match = _GRAMMAR.fullmatch(text.strip())
    if match is None:
        raise InputError(f"pooling {text!r} cannot be read: allowed is {ALLOWED}")
    tokens, layers, combine = match["tokens"], match["layers"] or "-1", match["combine"] or ""
    if tokens not in (*TOKENS, SENTENCE):
        raise InputError(f"pooling {text!r}: unknown tokens {tokens!r}: allowed is {ALLOWED}")
    if combine and combine not in COMBINE:
        raise InputError(f"pooling {text!r}: unknown combination {combine!r}: allowed is {ALLOWED}")
    found = _LAYERS.fullmatch(layers)
    if found is None:
        raise InputError(f"pooling {text!r}: unknown layers {layers!r}: allowed is {ALLOWED}")
    if found["b"] == "-1" and found["a"].startswith("-"):
        layers = f"last{int(found['a'][1:])}"
    if layers in ("-1", "last1"):
        layers = ""
    if tokens in ("pooler", SENTENCE) and (layers or combine):
        raise InputError(f"pooling {text!r}: {tokens} takes no layers; write just {tokens!r}")
    several = layers == "all" or layers.startswith("last") or ":" in layers
    if combine and not several:
        raise InputError(
            f"pooling {text!r}: {combine!r} combines several layers, and this names one; "
            f"write e.g. '{tokens}@last4+{combine}'"
        )
    return Pooling(tokens, layers, (combine or "sum") if several else "")


def parse_poolings(texts: str | Sequence[str]) -> tuple[Pooling, ...]:
    """Read one or several, each named once."""
    poolings = tuple(parse_pooling(text) for text in ([texts] if isinstance(texts, str) else texts))
    if not poolings:
        raise InputError(f"no pooling was given: name at least one; allowed is {ALLOWED}")
    names = [pooling.name for pooling in poolings]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"pooling {name!r} is given twice; name each view once")
    return poolings
