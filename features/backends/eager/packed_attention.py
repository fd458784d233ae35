"""Attend within texts that are laid end to end, without padding, in stock transformers models.

A batch is one sequence, (1, T) tokens of B texts; `packed_attention` lets each token see its own
text only. It is registered in transformers' attention registry (`implementation`), so that every
model that asks the registry can run packed. The border between texts comes from `packing`, not from
a mask: stock `sdpa` and `eager` would let all texts of the sequence see each other, without a word.

Whether a model keeps to the registry is not known here: `features/backends/eager/stock_model.py`
proves it by running.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import accumulate, groupby
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from features.backends.choice import BY_PRODUCTS, IN_HALF

# On the CPU a text's keys are read up to a multiple of this, and what is not its own is masked:
# torch's kernel takes what is left of a vector of 16 one by one, so that texts of 30 tokens take
# twice as long as those of 32. See `python benchmarks/attention.py`.
_KEYS_STEP = 16
# Scores of longer texts fall out of the cache between the two products.
_LONGEST_BY_PRODUCTS = 128

# From queries (n, heads, T, d), keys and values (n, heads, keys, d), what is added to the scores
# (T, keys) and the scaling to what is attended to, (n, heads, T, d).
Attend = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, float | None], torch.Tensor
]


@dataclass(frozen=True)
class Packing:
    """The places of the texts of a packed batch.

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
        """Give the position ids (T,): each text is numbered from `first`."""
        return torch.cat([torch.arange(first, first + length) for length in self.lengths])

    def bounds(self, device: torch.device) -> torch.Tensor:
        """Give where each text begins, and where the last ends: int32 (B + 1,)."""
        return torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32, device=device)


class NotPackable(Exception):
    """The error of a model that asks for attention that is not done packed."""


_packing: ContextVar[Packing] = ContextVar("packing")


@contextmanager
def packing(texts: Packing) -> Iterator[None]:
    """Keep these texts apart in `packed_attention`, in this thread, while it is open."""
    token = _packing.set(texts)
    try:
        yield
    finally:
        _packing.reset(token)


def attend_fused(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    added: torch.Tensor | None,
    scaling: float | None,
) -> torch.Tensor:
    """Attend by torch's fused kernel."""
    return functional.scaled_dot_product_attention(
        query, key, value, added, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )


def attend_by_products(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    added: torch.Tensor | None,
    scaling: float | None,
) -> torch.Tensor:
    """Attend by two batched products, for which some processors have instructions.

    In half precision that can take half the time of the fused kernel, which is taken in float32.
    Scores are rounded to the precision of the queries.
    """
    n, heads, length, width = query.shape
    shared = heads != key.shape[1]
    if query.dtype == torch.float32 or shared or key.shape[2] > _LONGEST_BY_PRODUCTS:
        return attend_fused(query, key, value, added, scaling)
    q, k, v = (states.reshape(n * heads, *states.shape[2:]) for states in (query, key, value))
    scale = width**-0.5 if scaling is None else scaling
    # The sum is fused with the product.
    plus = query.new_zeros(()) if added is None else added
    scores = torch.baddbmm(
        plus.expand(n * heads, length, key.shape[2]), q, k.transpose(1, 2), alpha=scale
    )
    return torch.bmm(scores.softmax(-1), v).view(n, heads, length, -1)


# Ways to attend on the CPU, by `Candidate.attention`.
ATTENTION: dict[str, Attend] = {
    "": attend_fused,
    IN_HALF: attend_fused,
    BY_PRODUCTS: attend_by_products,
}


def implementation(attention: str) -> str:
    """Name packed attention in transformers' registry."""
    return f"frostline_packed_{attention or 'fused'}"


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    attend: Attend = attend_fused,
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
    attend : callable
        On the CPU.

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
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        bounds, longest = texts.bounds(query.device), max(texts.lengths)
        reach = -1 if sliding_window is None else sliding_window - 1
        q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))  # (T, heads, d)
        attended = varlen_attn(
            q, k, v, bounds, bounds, longest, longest, scale=scaling, window_size=(reach, reach),
            enable_gqa=query.shape[1] != key.shape[1],
        )  # fmt: skip
        assert isinstance(attended, torch.Tensor)  # a pair only where more is asked for
        return attended[None], None
    out = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
    for rows, tokens in texts.groups:
        n = rows.stop - rows.start
        length = (tokens.stop - tokens.start) // n
        read = -(-length // _KEYS_STEP) * _KEYS_STEP
        # Behind the very last texts there is not as much to read: they do without.
        roomy = max(0, min(n, (query.shape[2] - tokens.start - read) // length + 1))
        for first, behind, keys in ((0, roomy, read), (roomy, n, length)):
            if first == behind:
                continue
            start, stop = tokens.start + first * length, tokens.start + behind * length
            reach = sliding_window if sliding_window and length > sliding_window else length
            attended = attend(
                _texts(query, start, behind - first, length, length),
                _texts(key, start, behind - first, length, keys),
                _texts(value, start, behind - first, length, keys),
                _own_keys(length, keys, reach, query.dtype),
                scaling,
            )
            own = out[0, start:stop].view(-1, length, *out.shape[2:])
            own.copy_(attended.transpose(1, 2))
    return out, None


def _texts(states: torch.Tensor, start: int, n: int, length: int, tokens: int) -> torch.Tensor:
    """View (1, heads, T, d) as the first `tokens` of each of n texts: (n, heads, tokens, d).

    Without a copy; where a text has fewer, what follows is that of the next one, and masked. Masked
    values weigh nothing, unless they are not finite: then the text before is not finite either.
    """
    _, of_head, of_token, of_value = states.stride()
    return states.as_strided(
        (n, states.shape[1], tokens, states.shape[3]),
        (length * of_token, of_head, of_token, of_value),
        states.storage_offset() + start * of_token,
    )


@lru_cache(maxsize=1024)
def _own_keys(length: int, keys: int, reach: int, dtype: torch.dtype) -> torch.Tensor | None:
    """Give what is added to a text's scores (length, keys) to see itself alone; None: nothing."""
    if keys == length == reach:
        return None
    query, key = torch.arange(length)[:, None], torch.arange(keys)
    hidden = (key >= length) | ((query - key).abs() >= reach)
    return torch.zeros(length, keys, dtype=dtype).masked_fill(hidden, -torch.inf)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Give the mask of packed texts, in transformers' mask registry: none."""


for _attention, _attend in ATTENTION.items():
    _name = implementation(_attention)
    AttentionInterface.register(_name, partial(packed_attention, attend=_attend))
    AttentionMaskInterface.register(_name, _no_mask)


def join(ids: Sequence[Any]) -> tuple[torch.Tensor, Packing]:
    """Lay texts end to end: token ids (1, T), int64, and where each lies."""
    flat = torch.cat([torch.as_tensor(text) for text in ids]).long()
    return flat[None], Packing(tuple(len(text) for text in ids))
