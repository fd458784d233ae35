"""Attention for texts laid end to end, without padding, in stock transformers models.

A batch is one sequence, (1, T) tokens of B texts; `packed_attention` lets each token see its own
text only. It is registered under `PACKED` in transformers' attention registry, so that every model
that asks the registry can run packed. The border between texts comes from `packing`, not from a mask:
stock `sdpa` and `eager` would let all texts of the sequence see each other, without a word.

Whether a model keeps to the registry is not known here: `features/model.py` proves it by running.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

PACKED = "frostline_packed"


@dataclass(frozen=True)
class Packing:
    """Where the texts of a packed batch lie.

    Attributes
    ----------
    lengths : tuple of int, (B,)
        Tokens of each text, in the order in which they lie; T is their sum.

    Examples
    --------
    >>> Packing((3, 3, 5)).groups
    ((slice(0, 2, None), slice(0, 6, None)), (slice(2, 3, None), slice(6, 11, None)))
    """

    lengths: tuple[int, ...]

    @cached_property
    def groups(self) -> tuple[tuple[slice, slice], ...]:
        """Neighbours of one length: the texts, and their tokens."""
        found = []
        text = token = 0
        for length, same in groupby(self.lengths):
            n = len(list(same))
            found.append((slice(text, text + n), slice(token, token + n * length)))
            text, token = text + n, token + n * length
        return tuple(found)

    def positions(self, first: int) -> torch.Tensor:
        """Position ids (T,): each text is numbered from `first`."""
        return torch.cat([torch.arange(first, first + length) for length in self.lengths])

    def bounds(self, device: torch.device) -> torch.Tensor:
        """Where each text begins, and where the last ends: int32 (B + 1,)."""
        return torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32, device=device)


class NotPackable(Exception):
    """A model asks for attention that is not done packed."""


_packing: ContextVar[Packing] = ContextVar("packing")


@contextmanager
def packing(texts: Packing) -> Iterator[None]:
    """While open, in this thread, `packed_attention` keeps these texts apart."""
    token = _packing.set(texts)
    try:
        yield
    finally:
        _packing.reset(token)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each text; the signature is that of transformers' registry.

    Parameters
    ----------
    query, key, value : Tensor (1, heads, T, d)
        `key` and `value` may have fewer heads.
    attention_mask : None
        Borders come from `packing`; a model that makes a mask or a bias of its own can't be packed.
    scaling : float, optional
        Default: 1 / sqrt(d).
    sliding_window : int, optional
        A token sees those that are less than this far away.

    Returns
    -------
    Tensor (1, T, heads, d), None

    Raises
    ------
    NotPackable
        The model brings its own mask.
    """
    if attention_mask is not None:
        raise NotPackable(f"{type(module).__name__} brings a mask or a bias of its own")
    texts = _packing.get()
    shared = query.shape[1] != key.shape[1]
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        bounds, longest = texts.bounds(query.device), max(texts.lengths)
        reach = -1 if sliding_window is None else sliding_window - 1
        q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))  # (T, heads, d)
        attended = varlen_attn(
            q, k, v, bounds, bounds, longest, longest, scale=scaling, window_size=(reach, reach),
            enable_gqa=shared,
        )  # fmt: skip
        assert isinstance(attended, torch.Tensor)  # a pair only where more is asked for
        return attended[None], None
    out = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
    for rows, tokens in texts.groups:
        n = rows.stop - rows.start
        length = (tokens.stop - tokens.start) // n
        q, k, v = (
            # (heads, n * length, d) to (n, heads, length, d), without a copy
            states[0, :, tokens].view(len(states[0]), n, length, -1).transpose(0, 1)
            for states in (query, key, value)
        )
        mask = None
        if sliding_window is not None and length > sliding_window:
            at = torch.arange(length)
            mask = (at[:, None] - at).abs() < sliding_window
        attended = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, scale=scaling, enable_gqa=shared
        )
        out[0, tokens].view(n, length, *out.shape[2:]).copy_(attended.transpose(1, 2))
    return out, None


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """The mask of packed texts, in transformers' mask registry: none."""


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, _no_mask)


def join(ids: Sequence[Any]) -> tuple[torch.Tensor, Packing]:
    """Lay texts end to end: token ids (1, T), int64, and where each lies."""
    flat = torch.cat([torch.as_tensor(text) for text in ids]).long()
    return flat[None], Packing(tuple(len(text) for text in ids))
