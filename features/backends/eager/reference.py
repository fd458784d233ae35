"""Run the stock model as it is: one text at a time, in float32, on the CPU.

In come token ids, out come hidden states, text by text. It is slow, and has no steps that could
go wrong: backends are compared with it before they are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from features.backends.eager.stock_model import StockModel
from features.spec.pooling import BatchPart


class Reference:
    """The backend to compare others with (`features/backends/registry.py`); copies no model."""

    one_length = False
    streams = 1

    def __init__(self, stock: StockModel, layers: Sequence[int], *, pooler: bool) -> None:
        self._module, self._layers, self._pooler = stock.module, tuple(layers), pooler

    def forward(self, ids: Sequence[npt.NDArray[np.int32]]) -> Iterator[BatchPart]:
        """Run texts, and give each as a part of its own."""
        for number, text in enumerate(ids):
            tokens = torch.from_numpy(text).long()[None]
            with torch.inference_mode():
                output = self._module(
                    input_ids=tokens,
                    attention_mask=torch.ones_like(tokens),
                    output_hidden_states=True,
                )
            yield BatchPart(
                slice(number, number + 1),
                torch.tensor([len(text)]),
                {layer: output.hidden_states[layer] for layer in self._layers},
                output.pooler_output if self._pooler else None,
            )
