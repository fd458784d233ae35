"""The forward pass in ONNX Runtime, on the CPU: see `features/exported.py` for what comes in and out."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from features.errors import InputError
from features.exported import Array, ExportedBackend, Infer, Wanted

_INPUTS = ("input_ids", "attention_mask")
_OPSET = 17
# A model that is one message, as this one, must be smaller; some room for its graph.
_MAX_BYTES = 2**31 - 2**24


class OnnxBackend(ExportedBackend):
    """A model run by ONNX Runtime, in float32: a batch a core, as in the other backends."""

    name = "onnx"
    dtypes = (torch.float32,)

    def _translate(
        self, wanted: Wanted, example: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype
    ) -> Infer:
        n_bytes = sum(parameter.nbytes for parameter in wanted.parameters())
        if n_bytes > _MAX_BYTES:
            raise InputError(
                f"backend 'onnx' takes models of up to 2 GiB, this one has {n_bytes / 2**30:.1f}: "
                "give --backend openvino or --backend torch"
            )
        file = io.BytesIO()
        outputs = [f"output_{number}" for number in range(len(wanted(*example)))]
        torch.onnx.export(
            wanted,
            example,
            file,  # type: ignore[arg-type]  # which is documented for this exporter
            input_names=list(_INPUTS),
            output_names=outputs,
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in _INPUTS},
            opset_version=_OPSET,
            dynamo=False,  # the other exporter needs one more package
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # of each `run`, and there are as many as streams
        options.log_severity_level = 3  # errors
        session = onnxruntime.InferenceSession(
            file.getvalue(), options, providers=["CPUExecutionProvider"]
        )
        # The embeddings take no mask: what is not used is no input any more.
        names = [node.name for node in session.get_inputs()]

        def infer(ids: npt.NDArray[np.int64], attended: npt.NDArray[np.int64]) -> Sequence[Array]:
            given = dict(zip(_INPUTS, (ids, attended), strict=True))
            found: Sequence[Array] = session.run(outputs, {name: given[name] for name in names})
            return found

        return infer
