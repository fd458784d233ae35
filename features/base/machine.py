"""Describe this machine: what decides how fast a model runs on it. No torch, no models.

Out comes a plain dict: the processor and its instruction sets, the cores that this process may use,
the settings of the environment that change which kernels run, and the versions of the packages that
bring them. A rate that was measured holds where all of this is the same (`features/base/cache.py`).
Sizes of memory come in as users write them, and go out in bytes.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from features.errors import InputError
from features.version import __version__

# Settings of libraries that compute, by which kernels, threads and instruction sets are chosen.
_SETTINGS = re.compile("(ONEDNN|DNNL|MKL|OMP|KMP|OPENBLAS|OV|ORT|TORCH|ATEN|GOMP)_")
# Those of them that say how many cores are used.
_NUMBERS = "_NUM_THREADS"
# Those that scikit-learn sets when it is imported: they choose none of these, and would make the
# description depend on what this process has imported before.
_SET_BY_IMPORTS = frozenset({"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"})
# What lets an accelerator be used on Linux and in WSL; without one of these there is none.
_ACCELERATORS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
# The instruction sets that matter here, as /proc/cpuinfo names them (x86, then Arm).
_NOTABLE = (
    "avx2",
    "avx_vnni",
    "avx_ne_convert",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "amx_fp16",
    "asimd",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
)


@lru_cache(maxsize=1)
def processor() -> tuple[str, tuple[str, ...]]:
    """Name the processor, and the instruction sets it has of those that matter here."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:
        pass  # not Linux: the name alone
    name = fields.get("model name") or platform.processor() or platform.machine()
    vendor = fields.get("vendor_id", "")
    if vendor and name.split("(")[0] not in vendor:
        model = "/".join(fields.get(key, "?") for key in ("cpu family", "model", "stepping"))
        name = f"{name} ({vendor} {model})"
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return name, tuple(flag for flag in _NOTABLE if flag in flags)


def n_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Give the versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def settings() -> dict[str, str]:
    """Give the variables of the environment that choose kernels, threads, instruction sets."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if _SETTINGS.match(name) and name not in _SET_BY_IMPORTS
    }


def machine(packages: Iterable[str], *, of_one_core: bool = False) -> dict[str, Any]:
    """Describe this machine; equal descriptions mean equal speed.

    Parameters
    ----------
    packages : iterable of str
        Those whose versions decide which kernels run.
    of_one_core : bool
        Describe one core of it alone: the same for each process, however many cores it may use.
    """
    name, instruction_sets = processor()
    found = settings()
    if of_one_core:
        found = {key: value for key, value in found.items() if not key.endswith(_NUMBERS)}
    return {
        "processor": name,
        "instruction_sets": list(instruction_sets),
        "cores": 1 if of_one_core else n_cores(),
        "settings": found,
        "versions": {"frostline": __version__, **versions(packages)},
    }


def fingerprint(description: object) -> str:
    """Name a description by a digest of its repr, for a file."""
    return hashlib.sha256(repr(description).encode()).hexdigest()[:32]


def may_have_accelerator() -> bool:
    """Tell whether torch has to be asked for a GPU: without a driver's device there is none."""
    return platform.system() != "Linux" or any(Path(path).exists() for path in _ACCELERATORS)


def bytes_of(memory: int | str | None) -> int:
    """Give the bytes of vectors to hold; without, a quarter of what is free."""
    if memory is None:
        return default_memory()
    try:
        return parse_memory(memory)
    except ValueError as error:
        raise InputError(f"memory: {error}; give bytes, or e.g. 512MiB or 2GiB") from error


def parse_memory(text: str | int) -> int:
    """Read a number of bytes, e.g. ``512MiB``, ``2G`` or ``1000000``; units are powers of 1,024.

    Raises
    ------
    ValueError
        It is not one.

    Examples
    --------
    >>> parse_memory("512MiB"), parse_memory("2g"), parse_memory(1000)
    (536870912, 2147483648, 1000)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", str(text).upper())
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2] or " "))


def default_memory() -> int:
    """Give a quarter of the memory that is free, in bytes."""
    return _free_memory() // 4


def _free_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    return whole_memory() // 2


def whole_memory() -> int:
    """Give the memory of this machine, free or not, in bytes."""
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
