"""Build the module that becomes the ONNX graph: token ids in, probabilities out.

It holds frostline's rules for token ids too, those that tokenizers elsewhere don't keep: texts are
cut to the encoder's length with their last special token kept, padding may be on either side, and
no text says special tokens. The poolings are those of `features/spec/pooling.py`, the weights of
the encoder are shared by all views, and the head is computed in float64, as in scoring.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from features.backends.exported.export import Wanted
from features.encoder.engine import Views
from features.encoder.loading import Model
from features.spec.pooling import HiddenStates, parse_pooling
from features.spec.tokenizer import Vocabulary
from features.spec.vector_spec import VectorSpec
from pipeline.head.head import Head


class TokenRules(nn.Module):
    """The rules for token ids: what a text is cut to, and what it can't say.

    Parameters
    ----------
    vocabulary : Vocabulary
    suffix : sequence of int
        The special tokens behind each text.
    max_length : int
    """

    def __init__(self, vocabulary: Vocabulary, suffix: Sequence[int], max_length: int) -> None:
        super().__init__()
        self._vocabulary, self._suffix, self._max_length = vocabulary, tuple(suffix), max_length

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the ids that the encoder reads, (B, T) padded on the right, and the lengths (B, 1).

        Takes ids and mask, (B, T) each, padded anywhere, and as long as they like.
        """
        words = self._vocabulary
        given = torch.arange(input_ids.shape[1])[None]
        # Numbers that differ, so that the order is the same in every runtime.
        order = (given + (attention_mask == 0) * input_ids.shape[1]).argsort(dim=1)
        ids = input_ids.gather(1, order)
        n = attention_mask.ne(0).sum(1, keepdim=True)
        cut = n.clamp(max=self._max_length)
        if words.truncation_side == "left":
            kept = given + (given >= words.prefix) * (n - cut)
            ids = ids.gather(1, kept.clamp(max=input_ids.shape[1] - 1))
        ids = ids[:, : self._max_length]
        position = torch.arange(ids.shape[1])[None]
        for number, token in enumerate(self._suffix):
            last = position == self._max_length - len(self._suffix) + number
            ids = torch.where(last & (n >= self._max_length), token, ids)
        content = (position >= words.prefix) & (position < cut - words.suffix)
        for token in words.special:
            ids = torch.where(content & (ids == token), words.unknown_id, ids)
        if not words.prefix + words.suffix:  # an empty text is one unknown token
            ids = torch.where((cut == 0) & (position == 0), words.unknown_id, ids)
            cut = cut.clamp(min=1)
        return torch.where(position < cut, ids, words.padding_id), cut


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
        self._sources = tuple(sources)
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
        hidden = HiddenStates(layers, attended, content, pooler)
        return {
            source.view: parse_pooling(source.view)
            .pool(hidden, self._views.n_layers)
            .to(getattr(torch, source.store_dtype))
            .float()
            for source in self._sources
        }


class HeadGraph(nn.Module):
    """Token ids in, probabilities and logits out.

    Parameters
    ----------
    head : Head
    model : Model
        Its encoder.
    """

    def __init__(self, head: Head, model: Model) -> None:
        super().__init__()
        vocabulary = model.tokenizer.vocabulary
        text = model.samples.ids[0]
        suffix = text[len(text) - vocabulary.suffix :].tolist()
        self.rules = TokenRules(vocabulary, suffix, model.spec.max_length)
        self.encoder = EncoderViews(model, head.sources)
        self._order = [source.view for source in head.sources]
        self.coef = torch.from_numpy(head.coef.T.copy())
        self.intercept = torch.from_numpy(head.intercept.copy())
        self.eval()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run ids and mask, (B, T) each; give probabilities and logits, float32 (B, K)."""
        vectors = self.encoder(*self.rules(input_ids, attention_mask))
        X = torch.cat([vectors[view] for view in self._order], 1)
        logits = (X.double() @ self.coef + self.intercept).float()
        return torch.softmax(logits, 1), logits
