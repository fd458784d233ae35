"""Run a copy of the stock model in torch, on a device, with its texts packed where they can be.

In come the token ids of a batch, out come hidden states, part by part. Layers behind the deepest
that is wanted do not run. On the CPU the linear layers are fused
(`features/backends/eager/fused_layers.py`). Does not pool, and reads no files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from features.backends.choice import PREPACKED
from features.backends.eager.fused_layers import Prepacked, can_fuse, fuse
from features.backends.eager.int8 import Quantized
from features.backends.eager.packed_attention import (
    implementation,
    join,
    packing,
)
from features.backends.eager.stock_model import DeepestReached, LayerTaps, StockModel
from features.backends.padding import pad
from features.errors import CannotContinue, InputError
from features.spec.pooling import BatchPart

# A packed batch is filled up to a multiple of this many tokens. oneDNN generates code for each
# number of rows that it meets: with batches of any size, the first pass over some texts is a fifth
# slower.
_TOKENS_STEP = 64
# Rounding in half precision stays above; a fusion that went wrong gives other vectors altogether.
_LEAST_COSINE = 0.99


class TorchBackend:
    """A stock model in torch, on one device and in one precision.

    Parameters
    ----------
    stock : StockModel
        Copied, not changed, and not kept.
    layers : sequence of int
        Numbers of the hidden states to give: 0 the embeddings, L the last.
    pooler : bool
        Whether to give the pooler's output as well.
    device, dtype : device, dtype
        `float32`, `bfloat16`, `float16`, or `int8` for products of 8-bit integers, on the CPU.
    kernels : str
        On the CPU: `prepacked` for linear layers that are laid out for oneDNN once and fused, where
        that can be; `plain` for torch's own.
    attention : str
        On the CPU, as `Candidate.attention`.

    Attributes
    ----------
    one_length : bool
        Whether the texts of a batch must be of one length.
    streams : int
        How many batches are best run at a time, each in a thread of its own.
    """

    def __init__(
        self,
        stock: StockModel,
        layers: Sequence[int],
        *,
        pooler: bool,
        device: torch.device,
        dtype: torch.dtype,
        kernels: str = PREPACKED,
        attention: str = "",
    ) -> None:
        self._layers, self._pooler, self._device = tuple(layers), pooler, device
        self._n_layers, self._padding_id = stock.n_layers, stock.padding_id
        self._first_position = stock.first_position
        self.one_length = not stock.heeds_padding
        # The pooler takes the first token of a sequence, which in a packed batch is that of one
        # text. There is no packed attention in float32 on CUDA.
        self.packs = (
            stock.first_position is not None
            and not pooler
            and (device.type == "cpu" or (device.type == "cuda" and dtype != torch.float32))
        )
        fused = device.type == "cpu" and kernels == PREPACKED and stock.layers is not None
        # On the CPU, one a core: work that is cut by texts has nobody to wait for, work that is cut
        # inside of a product has. On a GPU, one computes while the other prepares and fetches.
        self.streams = {"cpu": torch.get_num_threads(), "cuda": 2}.get(device.type, 1)
        self.model = _copied(stock.module, device, torch.float32 if dtype == torch.int8 else dtype)
        if dtype == torch.int8:
            self._quantize(stock, torch.bfloat16 if attention and self.packs else torch.float32)
        elif fused and can_fuse(dtype):
            self._fuse(stock, dtype)
        if self.packs:
            self.model.set_attn_implementation(implementation(attention))
        self._taps = None if stock.layers is None else LayerTaps(stock.layers_of(self.model))

    def forward(self, ids: Sequence[npt.NDArray[np.int32]]) -> Iterator[BatchPart]:
        """Run one batch.

        Parameters
        ----------
        ids : sequence of int arrays
            Token ids of each text, special tokens included; texts of one length side by side.

        Yields
        ------
        BatchPart
            In the order of the texts, together all of them.
        """
        with torch.inference_mode(), _no_memory_left(self._device):
            yield from self._packed(ids) if self.packs else self._padded(ids)

    def _packed(self, ids: Sequence[npt.NDArray[np.int32]]) -> Iterator[BatchPart]:
        assert self._first_position is not None, "only models that can run packed get here"
        filler = np.array([self._padding_id], np.int32)  # texts of their own, seen by nobody
        n_fillers = -sum(map(len, ids)) % _TOKENS_STEP
        joined, texts = join([*ids, *[filler] * n_fillers])
        positions = texts.positions(self._first_position)[None]
        with packing(texts):
            states, _ = self._run(input_ids=joined, position_ids=positions)
        flat = {number: state[0] for number, state in states.items()}
        lengths = torch.tensor(texts.lengths, device=self._device)
        if self._device.type == "cpu":
            for rows, tokens in texts.groups:
                n = rows.stop - rows.start
                real = slice(rows.start, min(rows.stop, len(ids)))
                same = {
                    number: state[tokens].view(n, -1, state.shape[-1])[: real.stop - real.start]
                    for number, state in flat.items()
                }
                if real.stop > real.start:
                    yield BatchPart(real, lengths[real], same)
        else:
            # One launch for all of them, though it copies: the texts are of similar length.
            starts = texts.bounds(self._device)[: len(ids)].long()
            within = torch.arange(max(texts.lengths), device=self._device)
            at = (starts[:, None] + within).clamp(max=sum(texts.lengths) - 1)
            padded = {number: state[at] for number, state in flat.items()}
            yield BatchPart(slice(0, len(ids)), lengths[: len(ids)], padded)

    def _padded(self, ids: Sequence[npt.NDArray[np.int32]]) -> Iterator[BatchPart]:
        padded, attended = (torch.from_numpy(a) for a in pad(ids, self._padding_id))
        states, pooled = self._run(input_ids=padded, attention_mask=attended)
        lengths = attended.sum(dim=1).to(self._device)
        yield BatchPart(slice(0, len(ids)), lengths, states, pooled)

    def _run(self, **tensors: torch.Tensor) -> tuple[dict[int, torch.Tensor], torch.Tensor | None]:
        """Run the model on tensors by the names that transformers gives them."""
        if self._device.type == "cuda":  # or the copy would wait for what is at work there
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        inputs = {k: tensor.to(self._device, non_blocking=True) for k, tensor in tensors.items()}
        if self._taps is None:
            output = self.model(**inputs, output_hidden_states=True)
            states = {number: output.hidden_states[number] for number in self._layers}
            return states, output.pooler_output if self._pooler else None
        deepest = self._n_layers if self._pooler else max(self._layers)
        with self._taps.recording(set(self._layers), deepest) as states:
            try:
                output = self.model(**inputs)
            except DeepestReached:
                return states, None
        if self._n_layers in self._layers:
            states[self._n_layers] = output.last_hidden_state
        return states, output.pooler_output if self._pooler else None

    def _fuse(self, stock: StockModel, dtype: torch.dtype) -> None:
        """Fuse the linear layers, and keep that if it gives what it gave before."""
        assert stock.layers is not None, "found by the caller"
        run = partial(self._watched, stock.probe)
        expected = run()
        fuse(self.model, stock.layers, run, Prepacked(self.model))
        try:
            cosine = float(torch.cosine_similarity(run(), expected, dim=-1).min())
        except AttributeError:  # T5 asks its linear layers for their weights
            cosine = 0.0
        # Not "below": values that are not a number are below nothing.
        if not cosine >= _LEAST_COSINE:
            self.model = _copied(stock.module, self._device, dtype)

    def _quantize(self, stock: StockModel, attention: torch.dtype) -> None:
        """Replace the linear layers by products of 8-bit integers.

        The rest stays in float32, but for attention, which is in the dtype that is given.
        """
        if self._device.type != "cpu":
            raise InputError(
                f"dtype int8 runs on the CPU, not on {self._device}; give `dtype=auto`"
            )
        if stock.layers is None:
            raise InputError(
                "dtype int8: the layers of this model are not known; give `dtype=auto`"
            )
        samples = stock.samples or (stock.probe,)
        products = Quantized(self.model, samples, attention)
        run = partial(self._watched, stock.probe)
        fuse(self.model, stock.layers, run, products)
        try:
            run()
        except AttributeError as error:  # T5 asks its linear layers for their weights
            raise InputError(
                "dtype int8: the layers of this model can't be replaced; give `dtype=auto`"
            ) from error

    def _watched(self, text: Sequence[int]) -> torch.Tensor:
        """Run one text without padding, and give its last hidden states (1, T, H)."""
        ids = torch.tensor([text])
        with torch.inference_mode():
            output = self.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        states: torch.Tensor = output.last_hidden_state
        return states.float()


def _copied(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Any:
    """Copy a model to a device, in a precision; tensors that stay as they are, are shared."""
    moved: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        copied = tensor.detach().to(device, dtype if tensor.is_floating_point() else None)
        is_weight = isinstance(tensor, nn.Parameter)
        moved[id(tensor)] = nn.Parameter(copied, requires_grad=False) if is_weight else copied
    return deepcopy(module, moved)


@contextmanager
def _no_memory_left(device: torch.device) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise CannotContinue(
            f"{device} ran out of memory; give a smaller `max_batch_tokens`"
        ) from error
