"""Export a model to another runtime, and prove that it gives there what it gives in torch.

In comes a `StockModel`; out goes an `ExportedBackend`, and where a place is given, an export that
the next run opens without torch (`features/backends/exported/export_files.py`). What the export
gives is compared with the stock model before it is used, in each precision; so is whether it heeds
padding.
"""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import nn

from features.backends.eager.stock_model import StockModel, long_text
from features.backends.exported.export_files import Export, ExportPlace, read_export, write_export
from features.backends.exported.runtime import ExportedBackend, check_dtype, runtime
from features.backends.padding import pad
from features.errors import CannotContinue, FileRefused, InputError, first_line, system_reason
from features.spec.tokenizer import TextTokenizer

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
        """Run ids and mask, (B, T) each; give one (B, T, H) a layer, and (B, H) for the pooler."""
        output = self._module(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
        )
        states = tuple(output.hidden_states[number] for number in self._layers)
        return (*states, output.pooler_output) if self._pooler else states


def make_exported(
    name: str,
    stock: StockModel,
    layers: Sequence[int],
    *,
    pooler: bool,
    dtype: str,
    place: ExportPlace | None = None,
    tokenizer: TextTokenizer | None = None,
) -> ExportedBackend:
    """Make a backend of another runtime, from its export where there is one.

    Parameters
    ----------
    name : str
        One of `features.backends.registry.EXPORTED`.
    stock, layers, pooler, dtype
        As for `TorchBackend`.
    place : ExportPlace, optional
        Where the export is kept; without one it is made, used and thrown away.
    tokenizer : TextTokenizer, optional
        To be kept beside it.

    Raises
    ------
    InputError
        The runtime does not compute in this precision.
    FileRefused
        It can't run this model, or gives other hidden states.
    """
    check_dtype(name, dtype)
    wanted = Wanted(stock, layers, pooler)
    folder = None if place is None else place.folder(name, layers, pooler)
    with ExitStack() as stack:
        failed = f"backend {name!r} can't run this model"
        stack.enter_context(exporting(failed, "give `backend=torch`"))
        stack.enter_context(torch.no_grad())
        existing = None if folder is None else read_export(folder)
        if existing is not None and folder is not None and dtype in existing.one_length:
            return ExportedBackend(name, folder, existing, dtype)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source = folder if existing is not None and folder is not None else scratch
        export = existing or _described(stock, layers, pooler, tokenizer)
        if existing is None:
            # Several rows, one of them padded, or a tracer takes what it sees for always so; and
            # other numbers and lengths below, where shapes that it took for constants show.
            example = _padded([stock.probe, stock.probe[:-1]], stock.padding_id)
            runtime(name).export(wanted, example, scratch)
        backend = ExportedBackend(name, source, export, dtype)
        one_length = _proved(backend, wanted, stock)
        export = dataclasses.replace(export, one_length={**export.one_length, dtype: one_length})
        backend.one_length = one_length
        if folder is not None:
            content = None if tokenizer is None else tokenizer.content
            write_export(folder, export, partial(_copy_files, source), content)
        return backend


def _described(
    stock: StockModel, layers: Sequence[int], pooler: bool, tokenizer: TextTokenizer | None
) -> Export:
    return Export(
        layers=tuple(layers),
        pooler=pooler,
        n_layers=stock.n_layers,
        hidden_size=stock.hidden_size,
        has_pooler=stock.has_pooler,
        flops_per_token=stock.flops_per_token(layers[-1]),
        padding_id=stock.padding_id,
        one_length={},
        vocabulary=tokenizer.vocabulary if tokenizer and tokenizer.content is not None else None,
    )


def _copy_files(source: Path, folder: Path) -> None:
    """Copy the files of the runtime; those of the export itself are written anew."""
    for path in source.iterdir():
        if path.name.startswith("model."):
            (folder / path.name).write_bytes(path.read_bytes())


def _proved(backend: ExportedBackend, wanted: Wanted, stock: StockModel) -> bool:
    """Compare an export with its model; say whether texts of a batch must be of one length."""
    probe = list(stock.probe)
    long = long_text(stock.module, probe, stock.padding_id)
    agrees = partial(_agrees, backend, wanted, stock.padding_id)
    if not agrees([long, long, long]):
        raise ValueError("its hidden states are others")
    # Where a window sees nothing but padding, some runtimes compute no number.
    return not (stock.heeds_padding and agrees([probe[:1], probe, long]))


def _agrees(
    backend: ExportedBackend, wanted: Wanted, padding_id: int, texts: Sequence[Sequence[int]]
) -> bool:
    """Tell whether the exported model gives what the stock one gives, but for rounding."""
    ids, attended = _padded(texts, padding_id)
    for array, theirs in zip(
        backend.infer(ids.numpy(), attended.numpy()), wanted(ids, attended), strict=True
    ):
        mine = torch.from_numpy(np.array(array)).float()
        if mine.shape != theirs.shape:
            return False
        cosines = torch.cosine_similarity(mine, theirs, dim=-1)
        # Not "below": values that are not a number are below nothing. Those at padding may be.
        if not cosines[attended.bool() if cosines.ndim == 2 else ...].min() >= _LEAST_COSINE:
            return False
    return True


def _padded(texts: Sequence[Sequence[int]], padding_id: int) -> list[torch.Tensor]:
    rows = [np.array(text, np.int32) for text in texts]
    return [torch.from_numpy(array) for array in pad(rows, padding_id)]


@contextmanager
def exporting(failed: str, cure: str) -> Iterator[None]:
    """Silence the warnings of exporters, and say in one line why one of them failed.

    Parameters
    ----------
    failed, cure : str
        What that means, and what to do then.

    Raises
    ------
    FileRefused
        An exporter, or the runtime, failed.
    CannotContinue
        The disk refused.
    """
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            for kind in (
                torch.jit._trace.TracerWarning,  # "might not generalize": that is tested above
                DeprecationWarning,  # of their own parts
                FutureWarning,
                UserWarning,  # about the choice of exporter and of its operators
            ):
                warnings.simplefilter("ignore", kind)
            yield
    except InputError:
        raise
    except OSError as error:
        raise CannotContinue(f"{failed}: {system_reason(error)}; make room on the disk") from error
    except Exception as error:  # the border to foreign code: any type can come
        raise FileRefused(f"{failed} ({_reason(error)}): {cure}") from error
    finally:
        transformers.logging.set_verbosity(verbosity)


def _reason(error: Exception) -> str:
    """Say what went wrong; OpenVINO first lists where, source file by source file."""
    lines = [line for line in str(error).splitlines() if not line.startswith("Exception from ")]
    text = "; ".join(line.strip() for line in lines if line.strip())
    return text[:300] or first_line(error)
