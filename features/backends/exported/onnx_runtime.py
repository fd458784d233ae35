"""Export a model to ONNX, and run it in ONNX Runtime, on the CPU.

In comes a torch module, out comes a file; in comes that file, out comes a function from token ids
to hidden states (`features/backends/exported/runtime.py`). Running an export needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from features.backends.exported.runtime import Array, Infer
from features.errors import InputError

FILE = "model.onnx"
INPUTS = ("input_ids", "attention_mask")
OPSET = 17
# A model that is one message, as this one, must be smaller; some room for its graph.
_MAX_BYTES = 2**31 - 2**24


def export(module: Any, example: Sequence[Any], folder: Path) -> None:
    """Write a torch module of ids and mask.

    Raises
    ------
    InputError
        It is too large.
    """
    n_bytes = sum(parameter.nbytes for parameter in module.parameters())
    if n_bytes > _MAX_BYTES:
        raise InputError(
            f"backend 'onnx' takes models of up to 2 GiB, this one has {n_bytes / 2**30:.1f}: "
            "give `backend=openvino` or `backend=torch`"
        )
    names = [f"output_{number}" for number in range(len(module(*example)))]
    write_graph(module, example, folder / FILE, {name: {} for name in names})


def write_graph(
    module: Any,
    example: Sequence[Any],
    path: Path,
    outputs: Mapping[str, Mapping[int, str]],
) -> None:
    """Write a torch module of ids and mask as an ONNX graph.

    Parameters
    ----------
    module : Module
    example : sequence of Tensor
        Ids and mask, (B, T) each.
    path : Path
    outputs : mapping of str to mapping of int to str
        Names of what the module gives, in order, and of those of their axes that are not fixed.
    """
    import torch

    torch.onnx.export(
        module,
        tuple(example),
        str(path),
        input_names=list(INPUTS),
        output_names=list(outputs),
        dynamic_axes={**{name: {0: "texts", 1: "tokens"} for name in INPUTS}, **outputs},
        opset_version=OPSET,
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
        given = dict(zip(INPUTS, (ids, attended), strict=True))
        found: Sequence[Array] = session.run(outputs, {name: given[name] for name in names})
        return found

    return infer
