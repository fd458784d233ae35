"""Export a model to OpenVINO, and run it there, on the CPU.

In comes a torch module, out come two files; in come these files, out comes a function from token
ids to hidden states (`features/backends/exported/runtime.py`). Running an export needs no torch.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from features.backends.exported.runtime import Array, Infer
from features.errors import InputError

FILE = "model.xml"
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def export(module: Any, example: Sequence[Any], folder: Path) -> None:
    """Write a torch module of ids and mask."""
    with _unreported():
        model = openvino.convert_model(module, example_input=tuple(example))
    # By default weights are halved.
    openvino.save_model(model, folder / FILE, compress_to_fp16=False)


@contextmanager
def _unreported() -> Iterator[None]:
    """Keep OpenVINO from reporting a conversion to its maker, which it does except in CI jobs.

    It would also wait for that where there is no network, and leave a number for this user in
    `~/intel`.
    """
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


def load(folder: Path, dtype: str, streams: int) -> Infer:
    """Compile an export.

    As in torch, a batch for each core is faster than all cores for one batch: by 1.4 in either
    precision on two cores (all-MiniLM-L6-v2, 1,000 tweets, medians of interleaved rounds).

    Raises
    ------
    InputError
        This processor does not compute in this precision.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
        "INFERENCE_NUM_THREADS": streams,
        "NUM_STREAMS": streams,
    }
    compiled = openvino.Core().compile_model(folder / FILE, "CPU", settings)
    kept = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if kept != _PRECISIONS[dtype]:
        raise InputError(
            f"OpenVINO computes in {kept} on this processor, not in {_PRECISIONS[dtype]}: "
            "give `dtype=float32`"
        )
    of_thread = threading.local()  # a request runs one batch at a time

    def infer(ids: npt.NDArray[np.int64], attended: npt.NDArray[np.int64]) -> Sequence[Array]:
        if not hasattr(of_thread, "request"):
            of_thread.request = compiled.create_infer_request()
        # Outputs are copied: OpenVINO's own are overwritten by the next batch.
        found = of_thread.request.infer((ids, attended), share_inputs=True)
        return tuple(found.to_tuple())

    return infer
