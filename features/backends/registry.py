"""List the ways to run the frozen forward pass, and make one of them: the table `BACKENDS`.

A backend is made from a `StockModel`, for the hidden states that are wanted, on a device and in a
precision, and then runs batches of token ids: see `Backend`. To add one is to add a row. Which one
ran is not part of what makes vectors comparable: all of them compute the same. Which one is the
fastest here is measured (`features/backends/trial.py`). Looking at the table needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from features.backends.choice import HALF, PLAIN, PREPACKED, Candidate
from features.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from features.backends.eager.stock_model import StockModel
    from features.backends.exported.export_files import ExportPlace
    from features.spec.pooling import BatchPart
    from features.spec.tokenizer import TextTokenizer


class Backend(Protocol):
    """A model that is ready to run; `TorchBackend` says what the parts mean."""

    one_length: bool
    streams: int

    def forward(self, ids: Sequence[npt.NDArray[np.int32]]) -> Iterator[BatchPart]:
        """Run one batch."""


@dataclass(frozen=True)
class BackendRow:
    """A row of the table.

    Attributes
    ----------
    packages : tuple of str
        What must be installed; the first one is what runs the model.
    devices : tuple of str
        The kinds of device that it runs on.
    dtypes : tuple of str
        What it can compute in.
    kernels : tuple of str
        Its ways to compute linear layers, where there are several.
    module : str
        For one that runs exported models: the module with its `export` and `load`, as in
        `features/backends/exported/onnx_runtime.py`.
    """

    packages: tuple[str, ...]
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    kernels: tuple[str, ...] = ("",)
    module: str = ""


BACKENDS = {
    "torch": BackendRow(
        ("torch",), ("cpu", "cuda", "mps"), ("float32", *HALF, "int8"), (PREPACKED, PLAIN)
    ),
    "openvino": BackendRow(
        ("openvino",),
        ("cpu",),
        ("float32", "bfloat16"),
        module="features.backends.exported.openvino_runtime",
    ),
    "onnx": BackendRow(
        ("onnxruntime", "onnx"),
        ("cpu",),
        ("float32",),
        module="features.backends.exported.onnx_runtime",
    ),
}
# Those that run exported models, and the packages that run them.
EXPORTED = tuple(name for name, row in BACKENDS.items() if row.module)
RUNTIME_PACKAGES = tuple(BACKENDS[name].packages[0] for name in EXPORTED)
# Packages whose versions decide which kernels run.
KERNEL_PACKAGES = ("torch", "transformers", *RUNTIME_PACKAGES, "numpy", "scipy")


def unsupported_dtype(backend: str, dtype: str) -> InputError:
    """Make the error that says what a backend computes in, for a dtype that it does not have."""
    allowed = BACKENDS[backend].dtypes
    return InputError(
        f"backend {backend!r} computes in {' or '.join(allowed)}, not in {dtype}: "
        f"give `dtype={allowed[0]}` or `backend=torch`"
    )


def check_backend(name: str, device: torch.device) -> None:
    """Refuse a backend that is not to be had, by name.

    Raises
    ------
    InputError
        There is no such backend, its package is not installed, or it can't use the device.
    """
    if name not in BACKENDS:
        raise InputError(f"unknown backend {name!r}: choose one of auto, {', '.join(BACKENDS)}")
    row = BACKENDS[name]
    if device.type not in row.devices:
        raise InputError(
            f"backend {name!r} runs on {', '.join(row.devices)}, not on {device}: "
            "give `backend=torch`"
        )
    for package in row.packages:
        if find_spec(package) is None:
            raise InputError(
                f"backend {name!r} needs the package {package}: pip install 'frostline[{name}]'"
            )


def backends_on(device: torch.device) -> list[str]:
    """Name the backends that are installed and run on a device, in the order of the table."""
    return [
        name
        for name, row in BACKENDS.items()
        if device.type in row.devices and all(map(find_spec, row.packages))
    ]


def make_backend(
    candidate: Candidate,
    stock: StockModel,
    layers: Sequence[int],
    *,
    pooler: bool,
    device: torch.device,
    place: ExportPlace | None = None,
    tokenizer: TextTokenizer | None = None,
) -> Backend:
    """Make the backend of a candidate.

    Parameters
    ----------
    candidate : Candidate
    stock, layers, pooler, device
        See `TorchBackend`.
    place, tokenizer : optional
        See `make_exported`.

    Raises
    ------
    InputError, FileRefused
        It can't run this model so.
    """
    if candidate.backend == "torch":
        import torch

        from features.backends.eager.forward import TorchBackend

        return TorchBackend(
            stock,
            layers,
            pooler=pooler,
            device=device,
            dtype=getattr(torch, candidate.dtype),
            kernels=candidate.kernels or PREPACKED,
            attention=candidate.attention,
        )
    from features.backends.exported.export import make_exported

    return make_exported(
        candidate.backend,
        stock,
        layers,
        pooler=pooler,
        dtype=candidate.dtype,
        place=place,
        tokenizer=tokenizer,
    )
