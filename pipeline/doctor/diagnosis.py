"""Record what `frostline doctor` finds out: plain records, which turn into JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.backends.choice import Choice


@dataclass(frozen=True)
class Device:
    """What a model can run on: torch's name of it, and what it is."""

    name: str
    model: str = ""
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Place:
    """A folder that frostline reads or writes; `bytes` lie in it, where that is of interest."""

    what: str
    path: str
    free_bytes: int | None
    bytes: int | None = None


@dataclass(frozen=True)
class Models:
    """Where models are looked for, and what became of the one that was asked for.

    Attributes
    ----------
    name : str
        As it was asked for.
    folder : str, optional
        Where it lies; None where it can't be used.
    reason : str
        Why it can't; "" where it can.
    packaged : str
        The folder of the packaged default, or what to do to have one.
    hub_offline : bool
        Whether `HF_HUB_OFFLINE` forbids to ask the hub.
    unused : str
        What its folder holds and the encoder does not use; "" where there is nothing such.
    """

    name: str
    folder: str | None
    reason: str
    packaged: str
    hub_offline: bool
    unused: str = ""


@dataclass(frozen=True)
class Product:
    """The rate of a matrix product, in 1e9 operations a second and core; 0: there is none such."""

    library: str
    kernels: str
    dtype: str
    rate: float


@dataclass(frozen=True)
class Measured:
    """What a backend gave in a precision: tweets a second, or the reason why there is none."""

    device: str
    backend: str
    dtype: str
    tweets_per_second: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Taken:
    """What `auto` takes, on which device, and what that gives; a reason where it takes nothing."""

    choice: Choice | None = None
    device: str = ""
    tweets_per_second: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What was found out about this machine.

    Attributes
    ----------
    machine : mapping
        The processor, its instruction sets, the cores and the settings, see
        `features/base/machine.py`.
    versions : mapping of str to str
        By package; `not installed` where it is missing.
    devices : tuple of Device
    models : Models
    places : tuple of Place
        The hub's cache, frostline's, and the current folder.
    widths : pair of int
        Columns into and out of what was multiplied: the model's widest linear layer.
    products : tuple of Product
    trial : tuple of Measured
        Every installed backend in each of its precisions; empty where there is no model.
    auto : Taken or None
        None where there is no model.
    reason : str
        Why there are no devices and products: torch can't be used; "" where it can.
    """

    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    devices: tuple[Device, ...]
    models: Models
    places: tuple[Place, ...]
    widths: tuple[int, int]
    products: tuple[Product, ...]
    trial: tuple[Measured, ...]
    auto: Taken | None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON types."""
        return dataclasses.asdict(self)
