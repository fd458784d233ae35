"""Run a model that was exported to another runtime, from padded batches, on the CPU. No torch.

In come an export (`features/backends/exported/export_files.py`) and a precision, out come hidden
states, as arrays of numpy. It makes and proves no exports (`features/backends/exported/export.py`),
and each runtime has a module of its own that talks to its library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.backends.exported.export_files import Export
from features.backends.padding import pad
from features.backends.registry import BACKENDS, unsupported_dtype
from features.base.machine import n_cores
from features.errors import CannotContinue, first_line
from features.spec.pooling import BatchPart

Array = npt.NDArray[np.generic]
# From ids and mask, int64 (B, T), to the hidden states (B, T, H) and the pooler's output (B, H).
Infer = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], Sequence[Array]]


def runtime(name: str) -> Any:
    """Import the module of a runtime."""
    return import_module(BACKENDS[name].module)


def n_threads() -> int:
    """Count the cores to use: those of this process, or what OMP_NUM_THREADS says, as in torch."""
    setting = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(setting) if setting.isdigit() and int(setting) else n_cores()


class ExportedBackend:
    """An exported model that is ready to run: a `Backend` (`features/backends/registry.py`).

    Parameters
    ----------
    name : str
        Of the runtime.
    folder : Path
        Of the export.
    export : Export
    dtype : str

    Raises
    ------
    InputError
        The runtime does not compute in this precision.
    """

    def __init__(self, name: str, folder: Path, export: Export, dtype: str) -> None:
        self.streams = n_threads()
        self.one_length = export.one_length.get(dtype, True)
        self._name, self._padding_id = name, export.padding_id
        self._layers, self._pooler = export.layers, export.pooler
        check_dtype(name, dtype)
        self._infer: Infer = runtime(name).load(folder, dtype, self.streams)

    def infer(
        self, ids: npt.NDArray[np.int64], attended: npt.NDArray[np.int64]
    ) -> Sequence[npt.NDArray[np.generic]]:
        """Give the hidden states (B, T, H) and the pooler's output (B, H) of a padded batch."""
        return self._infer(ids, attended)

    def forward(self, ids: Sequence[npt.NDArray[np.int32]]) -> Iterator[BatchPart]:
        """Run one batch; see `TorchBackend.forward`."""
        padded, attended = pad(ids, self._padding_id)
        try:
            found = list(self._infer(padded, attended))
        except RuntimeError as error:
            raise CannotContinue(
                f"{self._name} cannot go on ({first_line(error)}); give a smaller "
                "`max_batch_tokens` or `backend=torch`"
            ) from error
        pooled = found.pop() if self._pooler else None
        layers = dict(zip(self._layers, found, strict=True))
        yield BatchPart(slice(0, len(ids)), attended.sum(axis=1), layers, pooled)


def check_dtype(name: str, dtype: str) -> None:
    """Refuse a precision that a runtime does not have.

    Raises
    ------
    InputError
    """
    if dtype not in BACKENDS[name].dtypes:
        raise unsupported_dtype(name, dtype)
