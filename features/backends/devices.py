"""Choose devices, and what goes with them: tokens of a batch, and half-precision types to try.

In come the names that a user gives, out come devices of this machine. Which backend runs on one is
in `features/backends/registry.py`.
"""

from __future__ import annotations

import torch

from features.backends.choice import HALF
from features.errors import InputError

# Tokens of a batch. Measured for the CPU with `benchmarks/extract.py --batch-tokens`, for layers
# that are 384 wide: fewer are too little work for a call, more fall out of the cache. Accelerators
# want more.
_BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536, "mps": 16_384}
_CPU_WIDTH = 384
_LEAST_BATCH_TOKENS = 512


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
