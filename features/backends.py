"""The table of ways to run the frozen forward pass, and what a device is good at.

A backend is made from a `StockModel`, for the hidden states that are wanted, on a device and in a
precision, and then runs batches of token ids: see `Backend`. To add one is to add a row. Which one
ran is not part of what makes vectors comparable: all of them compute the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from features.errors import InputError
from features.model import Block, StockModel


class Backend(Protocol):
    """A model that is ready to run; `TorchBackend` says what the parts mean."""

    one_length: bool
    streams: int

    def forward(self, ids: Sequence[npt.NDArray[np.int32]]) -> Iterator[Block]:
        """Run one batch."""


class MakeBackend(Protocol):
    """What makes one, and the precisions in which it can."""

    dtypes: tuple[torch.dtype, ...]

    def __call__(
        self,
        stock: StockModel,
        layers: Sequence[int],
        *,
        pooler: bool,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Backend:
        """Take the model over, for these hidden states."""


# What the CPU must have for bfloat16 products to be faster than float32 ones (x86: AMX tiles or
# AVX-512 BF16; Arm: BF16 instructions). Without them bfloat16 is emulated and slow.
_CPU_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")

# Tokens of a batch. Measured for the CPU with `benchmarks/extract.py --batch-tokens`, for layers that are
# 384 wide: fewer are too little work for a call, more fall out of the cache. Accelerators want more.
_BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536, "mps": 16_384}
_CPU_WIDTH = 384
_LEAST_BATCH_TOKENS = 512

# By name: where its class is, the packages that it needs, and the kinds of device that it runs on.
BACKENDS = {
    "torch": ("features.torch_backend.TorchBackend", ("torch",), ("cpu", "cuda", "mps")),
    "openvino": ("features.openvino_backend.OpenVinoBackend", ("openvino",), ("cpu",)),
    "onnx": ("features.onnx_backend.OnnxBackend", ("onnxruntime", "onnx"), ("cpu",)),
}


def find_backend(name: str, device: torch.device) -> MakeBackend:
    """Turn `auto` or a name of the table into what makes such backends.

    `auto` is torch: it is the fastest in half precision and int8, within some percent of OpenVINO in float32
    (`benchmarks/extract.py`), and always there.

    Raises
    ------
    InputError
        There is no such backend, its package is not installed, or it can't use the device.
    """
    name = "torch" if name == "auto" else name
    if name not in BACKENDS:
        raise InputError(f"unknown backend {name!r}: choose one of auto, {', '.join(BACKENDS)}")
    path, packages, devices = BACKENDS[name]
    if device.type not in devices:
        raise InputError(
            f"backend {name!r} runs on {', '.join(devices)}, not on {device}: give --backend torch"
        )
    for package in packages:
        if find_spec(package) is None:
            raise InputError(
                f"backend {name!r} needs the package {package}: pip install 'frostline[{name}]'"
            )
    module, _, attribute = path.rpartition(".")
    make: MakeBackend = getattr(import_module(module), attribute)
    return make


def default_batch_tokens(device: torch.device, hidden_size: int) -> int:
    """Tokens of a batch, for a model of this width.

    On the CPU a wider model gets fewer, so that the work of a layer on a batch stays the same: BERT-base
    is a tenth faster with 512 than with 4,096.
    """
    tokens = _BATCH_TOKENS[device.type]
    if device.type != "cpu":
        return tokens
    share = min(1.0, (_CPU_WIDTH / hidden_size) ** 2)
    return max(_LEAST_BATCH_TOKENS, int(tokens * share))


def choose_devices(names: str) -> list[torch.device]:
    """Turn `auto`, `cpu`, `cuda`, `cuda:N`, `mps`, or several with commas, into devices that are there.

    Raises
    ------
    InputError
        With what is allowed, or there.
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
            f"unknown device {name!r}: choose one of auto, cpu, cuda, cuda:N, mps; several with commas"
        )
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(mps)}[kind]
    if int(index or 0) >= there:
        raise InputError(f"device {name!r} is not there: this machine has {there} of kind {kind}")
    return torch.device(name)


def half_dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    """The half-precision types that this device computes faster than float32, best first.

    float16 has three more bits of mantissa than bfloat16, bfloat16 the range of float32.
    """
    if device.type == "cuda":
        return (torch.float16, torch.bfloat16)
    if device.type == "mps":
        return (torch.float16,)
    capabilities = torch.cpu.get_capabilities()
    return (torch.bfloat16,) if any(capabilities.get(c) for c in _CPU_BFLOAT16) else ()
