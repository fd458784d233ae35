"""The table of ways to run the frozen forward pass, and of the devices that they run on.

A backend is made from a `StockModel`, for the hidden states that are wanted, on a device and in a
precision, and then runs batches of token ids: see `Backend`. To add one is to add a row. Which one
ran is not part of what makes vectors comparable: all of them compute the same. Which one is the
fastest here is measured (`features/backends/trial.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from features.backends.choice import DTYPES, HALF, PLAIN, PREPACKED, Candidate
from features.backends.eager.stock_model import StockModel
from features.backends.exported.export_files import ExportPlace
from features.errors import InputError
from features.spec.pooling import StateBlock
from features.spec.tokenizer import TextTokenizer


class Backend(Protocol):
    """A model that is ready to run; `TorchBackend` says what the parts mean."""

    one_length: bool
    streams: int

    def forward(self, ids: Sequence[npt.NDArray[np.int32]]) -> Iterator[StateBlock]:
        """Run one batch."""


@dataclass(frozen=True)
class BackendRow:
    """A row of the table.

    Attributes
    ----------
    packages : tuple of str
        What must be installed.
    devices : tuple of str
        The kinds of device that it runs on.
    dtypes : tuple of str
        What it can compute in.
    kernels : tuple of str
        Its ways to compute linear layers, where there are several.
    """

    packages: tuple[str, ...]
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    kernels: tuple[str, ...] = ("",)


BACKENDS = {
    "torch": BackendRow(("torch",), ("cpu", "cuda", "mps"), DTYPES["torch"], (PREPACKED, PLAIN)),
    "openvino": BackendRow(("openvino",), ("cpu",), DTYPES["openvino"]),
    "onnx": BackendRow(("onnxruntime", "onnx"), ("cpu",), DTYPES["onnx"]),
}

# Tokens of a batch. Measured for the CPU with `benchmarks/extract.py --batch-tokens`, for layers
# that are 384 wide: fewer are too little work for a call, more fall out of the cache. Accelerators
# want more.
_BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536, "mps": 16_384}
_CPU_WIDTH = 384
_LEAST_BATCH_TOKENS = 512


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
        from features.backends.eager.forward import TorchBackend

        return TorchBackend(
            stock,
            layers,
            pooler=pooler,
            device=device,
            dtype=getattr(torch, candidate.dtype),
            kernels=candidate.kernels or PREPACKED,
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


def default_batch_tokens(device: torch.device, hidden_size: int) -> int:
    """Give the tokens of a batch, for a model of this width.

    On the CPU a wider model gets fewer, so that the work of a layer on a batch stays the same:
    BERT-base is a tenth faster with 512 than with 4,096.
    """
    tokens = _BATCH_TOKENS[device.type]
    if device.type != "cpu":
        return tokens
    share = min(1.0, (_CPU_WIDTH / hidden_size) ** 2)
    return max(_LEAST_BATCH_TOKENS, int(tokens * share))


def choose_devices(names: str) -> list[torch.device]:
    """Turn names of devices into devices of this machine.

    Parameters
    ----------
    names : str
        `auto`, `cpu`, `cuda`, `cuda:N`, `mps`, or several with commas.

    Raises
    ------
    InputError
        The message says what is allowed, or what this machine has.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if names == "auto":
        return [torch.device("cuda" if cuda else "mps" if mps else "cpu")]
    devices = [_choose_device(name.strip(), mps=mps) for name in names.split(",")]
    if len(set(devices)) < len(devices) or len({device.type for device in devices}) > 1:
        raise InputError(
            f"devices {names!r}: name several only of one kind, and each once, e.g. cuda:0,cuda:1"
        )
    return devices


def _choose_device(name: str, *, mps: bool) -> torch.device:
    kind, _, index = name.partition(":")
    if kind not in _BATCH_TOKENS or (index and (kind != "cuda" or not index.isdigit())):
        raise InputError(
            f"unknown device {name!r}: choose one of auto, cpu, cuda, cuda:N, mps; several with "
            "commas"
        )
    n_devices = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(mps)}[kind]
    if int(index or 0) >= n_devices:
        raise InputError(
            f"device {name!r} is not there: this machine has {n_devices} of kind {kind}"
        )
    return torch.device(name)


def half_dtypes(device: torch.device) -> tuple[str, ...]:
    """Give the half-precision types to try on a kind of device, best first.

    float16 has three more bits of mantissa than bfloat16, bfloat16 the range of float32. On the CPU
    it is measured which of them is faster than float32, if any.
    """
    return {"cuda": ("float16", "bfloat16"), "mps": ("float16",)}.get(device.type, HALF)
