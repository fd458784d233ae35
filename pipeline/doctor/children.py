"""Run what can crash, stand still or be refused in child processes with a limit of time.

`in_child` starts this module anew and gives what the task in it answers: `survey` says what there
is to run on and how fast matrices are multiplied, `measure` how fast one way to run a model is.
torch, transformers and other runtimes are imported in the children alone.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.backends.choice import HALF, PLAIN, PREPACKED
from features.base.child import code, command, ending
from features.encoder.probe_texts import RANGE_TEXTS
from features.errors import FrostlineError, first_line, system_reason
from features.spec.checkpoint import find_checkpoint
from features.spec.encoder_spec import make_spec
from pipeline.doctor.diagnosis import Device, Product

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# What is multiplied where no model is found: the widest layer of the default one.
DEFAULT_WIDTHS = (384, 1536)
# Seconds of a child, the loading of libraries and model among them.
CHILD_SECONDS = 60
# Texts that are encoded, at most, and the first ones, from which it is seen how many.
N_TEXTS, _FIRST_TEXTS = 956, 8
# Seconds of the texts that are encoded again and again, and of all rounds.
_SECONDS = 1.0
# Rows of the products of numpy and scipy, as the largest of
# `features/backends/eager/product_rates.py`, and their seconds.
_ROWS, _BLAS_SECONDS = 256, 0.02
# Times that all products are measured.
_ROUNDS = 5


def in_child(
    task: str, *arguments: str, program: str = "", seconds: float = CHILD_SECONDS
) -> dict[str, Any]:
    """Run a task in a child process; its answer is a `reason` where it ended badly, or not in time.

    Parameters
    ----------
    task, *arguments : str
        `survey`, with the name of a model or "", or `measure`, with that of a model, a device, a
        backend and a dtype.
    program : str
        What the child runs; by default `child`.
    seconds : float
        For all of it.
    """
    try:
        done = subprocess.run(
            command(program or code(__name__)),
            input=json.dumps([task, *arguments]),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # remarks of libraries
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"reason": f"not done in {seconds:g} s"}
    except OSError as error:
        return {"reason": f"no process could be started: {system_reason(error)}"}
    except (ValueError, LookupError):
        return {"reason": f"the process that tried it ended with {ending(done.returncode)}"}
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
    """Say what there is to run on, in which ways, and how fast matrices are multiplied."""
    import torch

    from features.backends.devices import choose_devices
    from features.backends.registry import BACKENDS, backends_on
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
    """Give the columns into and out of a model's widest linear layer."""
    from features.backends.eager.stock_model import load
    from features.spec.tokenizer import load_tokenizer

    checkpoint = find_checkpoint(model)
    tokenizer = load_tokenizer(checkpoint, make_spec(checkpoint).max_length)
    text = tokenizer.tokenize(RANGE_TEXTS[1:2]).ids[0]
    return load(checkpoint, text.tolist(), tokenizer.vocabulary.padding_id).widths


def _products(inputs: int, outputs: int) -> list[Product]:
    """Measure products of torch by precision and kernels, of numpy and scipy in float32."""
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
    # The quickest round was the least disturbed: other work takes most of a rate away.
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
    """Load a model in one way, and count the tweets a second from text to vector."""
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
    >>> for text in probe_tweets(2):
    ...     print(text)
    ok not bad at all, actually! @user the 7:42
    bad at all, actually! @user the 7:42 is late AGAIN. thanks for
    """
    words = " ".join(RANGE_TEXTS).split()
    twice = words * 2
    texts = []
    for number in range(n):
        start, length = 2 * number % len(words), 9 + 3 * number % 23
        texts.append(" ".join(twice[start : start + length]))
    return texts
