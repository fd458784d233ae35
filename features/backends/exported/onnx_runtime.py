"""Export a model to ONNX, and run it in ONNX Runtime, on the CPU.

In comes a torch module, out comes a file; in comes that file, out comes a function from token ids
to hidden states (`features/backends/exported/runtime.py`). Running an export needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from features.backends.exported.runtime import Array, Infer
from features.errors import InputError

FILE = "model.onnx"
_INPUTS = ("input_ids", "attention_mask")
_OPSET = 17
# A model that is one message, as this one, must be smaller; some room for its graph.
_MAX_BYTES = 2**31 - 2**24


def export(module: Any, example: Sequence[Any], folder: Path) -> None:
    """Write a torch module of ids and mask.

    Raises
    ------
    InputError
        It is too large.
    """
    import torch

    n_bytes = sum(parameter.nbytes for parameter in module.parameters())
    if n_bytes > _MAX_BYTES:
        raise InputError(
            f"backend 'onnx' takes models of up to 2 GiB, this one has {n_bytes / 2**30:.1f}: "
            "give `backend=openvino` or `backend=torch`"
        )
    torch.onnx.export(
        module,
        tuple(example),
        str(folder / FILE),
        input_names=list(_INPUTS),
        output_names=[f"output_{number}" for number in range(len(module(*example)))],
        dynamic_axes={name: {0: "texts", 1: "tokens"} for name in _INPUTS},
        opset_version=_OPSET,
        dynamo=False,  # the other exporter needs one more package
    )


def load(folder: Path, dtype: str, streams: int) -> Infer:
    """Open an export, in float32: a batch a core, as in the other backends."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # of each `run`, and there are as many as streams
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        str(folder / FILE), options, providers=["CPUExecutionProvider"]
    )
    # The embeddings take no mask: what is not used is no input any more.
    names = [node.name for node in session.get_inputs()]
    outputs = [node.name for node in session.get_outputs()]

    def infer(ids: npt.NDArray[np.int64], attended: npt.NDArray[np.int64]) -> Sequence[Array]:
        given = dict(zip(_INPUTS, (ids, attended), strict=True))
        found: Sequence[Array] = session.run(outputs, {name: given[name] for name in names})
        return found

    return infer
