"""What backends share that hand the model over to another runtime.

In comes a `StockModel`, and a translation of it into a function from padded ids and mask to the wanted
hidden states; out come blocks, as from `TorchBackend`. What the translation gives is compared with
the stock model before it is used; so is whether it heeds padding. How to translate is the business of
the backend.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from features.batching import pad
from features.errors import CannotContinue, FileRefused, InputError, first_line
from features.model import Block, StockModel, long_text

Array = npt.NDArray[np.generic]
# From ids and mask, int64 (B, T), to the hidden states (B, T, H) and the pooler's output (B, H).
Infer = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], Sequence[Array]]

# Rounding in half precision stays above; a translation that went wrong gives other vectors.
_LEAST_COSINE = 0.99


class Wanted(nn.Module):
    """A stock model as a function that returns nothing but what is wanted.

    Exporters drop what no output depends on, so the layers behind the deepest one are not in the
    result.
    """

    def __init__(self, stock: StockModel, layers: Sequence[int], pooler: bool) -> None:
        super().__init__()
        self._module = stock.module
        self._layers, self._pooler = tuple(layers), pooler
        self.eval()  # exporters leave all parts as they find the whole: training, unless told

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """(B, T) and (B, T) to one (B, T, H) a layer, and (B, H) for the pooler."""
        output = self._module(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
        )
        states = tuple(output.hidden_states[number] for number in self._layers)
        return (*states, output.pooler_output) if self._pooler else states


class ExportedBackend:
    """A model that another runtime runs, on the CPU, from padded batches.

    Parameters and attributes are those of `TorchBackend`.

    Raises
    ------
    InputError
        The runtime does not compute in this precision.
    FileRefused
        It can't run this model, or gives other hidden states.
    """

    name: ClassVar[str]
    dtypes: ClassVar[tuple[torch.dtype, ...]]

    def __init__(
        self,
        stock: StockModel,
        layers: Sequence[int],
        *,
        pooler: bool,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        if dtype not in self.dtypes:
            allowed = " or ".join(str(known).removeprefix("torch.") for known in self.dtypes)
            raise InputError(
                f"backend {self.name!r} computes in {allowed}, not in "
                f"{str(dtype).removeprefix('torch.')}: give --dtype {allowed} or --backend torch"
            )
        self._layers, self._pooler, self._padding_id = tuple(layers), pooler, stock.padding_id
        self.streams = torch.get_num_threads()
        wanted = Wanted(stock, layers, pooler)
        probe = list(stock.probe)
        long = long_text(stock.module, probe, stock.padding_id)
        with _exporting(self.name), torch.no_grad():
            # Several rows, one of them padded, or a tracer takes what it sees for always so; and
            # other numbers and lengths below, where shapes that it took for constants show.
            ids, attended = self._padded([probe, probe[:-1]])
            self._infer = self._translate(wanted, (ids, attended), dtype)
            if not self._agrees(wanted, [long, long, long]):
                raise ValueError("its hidden states are others")
            # Where a window sees nothing but padding, some runtimes compute no number.
            self.one_length = not (
                stock.heeds_padding and self._agrees(wanted, [probe[:1], probe, long])
            )

    def forward(self, ids: Sequence[npt.NDArray[np.int32]]) -> Iterator[Block]:
        """Run one batch; see `TorchBackend.forward`."""
        padded, attended = pad(ids, self._padding_id)
        try:
            found = [torch.from_numpy(array) for array in self._infer(padded, attended)]
        except RuntimeError as error:
            raise CannotContinue(
                f"{self.name} cannot go on ({first_line(error)}); give a smaller --max-batch-tokens "
                "or --backend torch"
            ) from error
        pooled = found.pop() if self._pooler else None
        lengths = torch.from_numpy(attended.sum(axis=1))
        yield Block(
            slice(0, len(ids)), lengths, dict(zip(self._layers, found, strict=True)), pooled
        )

    def _translate(
        self, wanted: Wanted, example: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype
    ) -> Infer:
        """Give the runtime's function for the model; several threads may call it at a time."""
        raise NotImplementedError

    def _agrees(self, wanted: Wanted, texts: Sequence[Sequence[int]]) -> bool:
        """Whether the translated model gives what the stock one gives, but for rounding."""
        ids, attended = self._padded(texts)
        for array, theirs in zip(
            self._infer(ids.numpy(), attended.numpy()), wanted(ids, attended), strict=True
        ):
            mine = torch.from_numpy(array).float()
            if mine.shape != theirs.shape:
                return False
            cosines = torch.cosine_similarity(mine, theirs, dim=-1)
            # Not "below": values that are not a number are below nothing. Those at padding may be.
            if not cosines[attended.bool() if cosines.ndim == 2 else ...].min() >= _LEAST_COSINE:
                return False
        return True

    def _padded(self, texts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        rows = [np.array(text, np.int32) for text in texts]
        return [torch.from_numpy(array) for array in pad(rows, self._padding_id)]


@contextmanager
def _exporting(name: str) -> Iterator[None]:
    """Keep exporters' remarks about themselves to themselves, and say in one line why they failed."""
    try:
        with warnings.catch_warnings():
            for kind in (
                torch.jit._trace.TracerWarning,  # "might not generalize": compared with the stock model
                DeprecationWarning,  # of their own parts
                FutureWarning,
                UserWarning,  # about the choice of exporter and of its operators
            ):
                warnings.simplefilter("ignore", kind)
            yield
    except InputError:
        raise
    except Exception as error:  # the border to foreign code: any type can come
        raise FileRefused(
            f"backend {name!r} can't run this model ({first_line(error)}): give --backend torch"
        ) from error
