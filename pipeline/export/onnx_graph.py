"""Build the module that becomes the ONNX graph: token ids in, probabilities out.

It holds frostline's rules for token ids too, those that tokenizers elsewhere don't keep: texts are
cut to the encoder's length with their last special token kept, padding may be on either side, and
no text says special tokens. The poolings are those of `features/spec/pooling.py`, and the weights
of the encoder are shared by all views. All of it is float32: runtimes in browsers have no float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from features.backends.exported.export import Wanted
from features.encoder.engine import Views
from features.encoder.loading import Model
from features.spec.pooling import HiddenStates, Pooling
from features.spec.sentence_modules import SentenceModules, Step
from features.spec.tokenizer import Vocabulary
from features.spec.vector_spec import VectorSpec
from pipeline.head.head import Head


class TokenRules(nn.Module):
    """The rules for token ids: what a text is cut to, and what it can't say.

    Parameters
    ----------
    vocabulary : Vocabulary
    empty : sequence of int
        What the encoder reads of an empty text.
    max_length : int
    """

    def __init__(self, vocabulary: Vocabulary, empty: Sequence[int], max_length: int) -> None:
        super().__init__()
        self._vocabulary, self._empty, self._max_length = vocabulary, tuple(empty), max_length

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the ids that the encoder reads, (B, T) padded on the right, and the lengths (B, 1).

        Takes ids and mask, (B, T) each, padded anywhere and as long as they like.
        """
        words, limit, empty = self._vocabulary, self._max_length, self._empty
        # Room for what an empty text becomes.
        ids = nn.functional.pad(input_ids, (0, len(empty)), value=words.padding_id)
        attended = nn.functional.pad(attention_mask.ne(0).long(), (0, len(empty)))
        n_given = torch.arange(ids.shape[1])[None]
        # Tokens to the left, in their order; all numbers differ, so that each runtime sorts alike.
        order = (n_given + (1 - attended) * ids.shape[1]).argsort(dim=1)
        ids, n = ids.gather(1, order), attended.sum(1, keepdim=True)
        if words.truncation_side == "left":
            kept = n_given + (n_given >= words.prefix) * (n - limit).clamp(min=0)
            ids = ids.gather(1, kept.clamp(max=ids.shape[1] - 1))
        is_empty = n <= words.prefix + words.suffix
        lengths = torch.where(is_empty, len(empty), n.clamp(max=limit))
        ids = ids[:, : lengths.max()]
        position = torch.arange(ids.shape[1])[None]
        # Where a tokenizer has cut the text, it may have cut the special tokens behind it.
        for number, token in enumerate(empty[len(empty) - words.suffix :]):
            last = position == limit - words.suffix + number
            ids = torch.where(last & (n >= limit), token, ids)
        content = (position >= words.prefix) & (position < lengths - words.suffix)
        for token in words.special:
            ids = torch.where(content & (ids == token), words.unknown_id, ids)
        for number, token in enumerate(empty):
            ids = torch.where(is_empty & (position == number), token, ids)
        return torch.where(position < lengths, ids, words.padding_id), lengths


class EncoderViews(nn.Module):
    """An encoder with the poolings of its views: ids in, one vector a view out.

    Parameters
    ----------
    model : Model
    sources : sequence of VectorSpec
        The views that the head takes of it.
    """

    def __init__(self, model: Model, sources: Sequence[VectorSpec]) -> None:
        super().__init__()
        self._views: Views = model.views
        self._vocabulary = model.tokenizer.vocabulary
        self._store_dtypes = {source.view: source.store_dtype for source in sources}
        self._wanted = Wanted(model.stock, model.views.layers, model.views.pooler)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take ids (B, T) and lengths (B, 1); give a float32 tensor (B, D) for each view.

        They are rounded as the cached vectors that the head was fitted on.
        """
        position = torch.arange(ids.shape[1])[None]
        attended = position < lengths
        content = (position >= self._vocabulary.prefix) & (
            position < lengths - self._vocabulary.suffix
        )
        states = list(self._wanted(ids, attended.long()))
        pooler = states.pop() if self._views.pooler else None
        layers = dict(zip(self._views.layers, states, strict=True))
        found = {}
        for pooling in self._views.poolings:
            # The first token stands in the first column: nothing has to be looked for.
            where = None if pooling.tokens == "cls" else attended
            vectors = _pooled(
                pooling, HiddenStates(layers, where, content, pooler), self._views.n_layers
            )
            dtype = getattr(torch, self._store_dtypes[pooling.name])
            found[pooling.name] = vectors.to(dtype).float()
        return found


def _pooled(
    pooling: Pooling | SentenceModules, hidden: HiddenStates, n_layers: int
) -> torch.Tensor:
    """Pool a batch; the modules of a sentence run in torch, to be in the graph."""
    if isinstance(pooling, Pooling):
        vectors: torch.Tensor = pooling.pool(hidden, n_layers)
        return vectors
    x = torch.cat(pooling.over_tokens(hidden, n_layers), 1)
    for step in pooling.steps:
        x = _stepped(step, x)
    return x


def _stepped(step: Step, x: torch.Tensor) -> torch.Tensor:
    """Run a module of a sentence as `Step` does in numpy, (B, D) to (B, E)."""
    weights = {name: torch.from_numpy(array) for name, array in step.weights.items()}
    if step.kind == "Normalize":
        return nn.functional.normalize(x)
    if step.kind == "LayerNorm":
        scale, bias = weights["norm.weight"], weights["norm.bias"]
        return nn.functional.layer_norm(x, scale.shape, scale, bias)
    out = nn.functional.linear(x, weights["linear.weight"], weights.get("linear.bias"))
    activated: torch.Tensor = getattr(nn, step.settings["activation"])()(out)
    if not step.settings["residual"]:
        return activated
    if "residual.weight" in weights:
        x = nn.functional.linear(x, weights["residual.weight"])
    return activated + x


class HeadGraph(nn.Module):
    """Token ids in, probabilities and logits out.

    Parameters
    ----------
    head : Head
    models : sequence of Model
        Its encoders, in its order; all of them read the same tokens.
    """

    coef: torch.Tensor
    intercept: torch.Tensor

    def __init__(self, head: Head, models: Sequence[Model]) -> None:
        super().__init__()
        model = models[0]
        (empty,) = model.tokenizer.tokenize([model.spec.prefix]).ids
        vocabulary = model.tokenizer.vocabulary
        self.rules = TokenRules(vocabulary, empty.tolist(), model.spec.max_length)
        self.encoders = nn.ModuleList(
            EncoderViews(model, sources)
            for model, sources in zip(models, head.encoders, strict=True)
        )
        number = {model.spec.fingerprint: n for n, model in enumerate(models)}
        self._order = [(number[one.spec.fingerprint], one.view) for one in head.sources]
        self.register_buffer("coef", torch.from_numpy(head.coef.T.astype(np.float32)))
        self.register_buffer("intercept", torch.from_numpy(head.intercept.astype(np.float32)))
        self.eval()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run ids and mask, (B, T) each; give probabilities and logits, float32 (B, K)."""
        read = self.rules(input_ids, attention_mask)
        vectors = [encoder(*read) for encoder in self.encoders]
        X = torch.cat([vectors[number][view] for number, view in self._order], 1)
        logits = X @ self.coef + self.intercept
        return torch.softmax(logits, 1), logits
