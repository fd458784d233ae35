"""The forward pass in OpenVINO, on the CPU: see `features/exported.py` for what comes in and out."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import openvino
import torch

from features.errors import InputError
from features.exported import Array, ExportedBackend, Infer, Wanted

_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVinoBackend(ExportedBackend):
    """A model compiled by OpenVINO.

    As in torch, a batch for each core is faster than all cores for one batch: by 1.4 in either
    precision on two cores (all-MiniLM-L6-v2, 1,000 tweets, medians of interleaved rounds).
    """

    name = "openvino"
    dtypes = tuple(_PRECISIONS)

    def _translate(
        self, wanted: Wanted, example: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype
    ) -> Infer:
        model = openvino.convert_model(wanted, example_input=example)
        settings = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
            "INFERENCE_NUM_THREADS": self.streams,
            "NUM_STREAMS": self.streams,
        }
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        kept = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if kept != _PRECISIONS[dtype]:
            raise InputError(
                f"OpenVINO computes in {kept} on this processor, not in {_PRECISIONS[dtype]}: "
                "give --dtype float32"
            )
        of_thread = threading.local()  # a request runs one batch at a time

        def infer(ids: npt.NDArray[np.int64], attended: npt.NDArray[np.int64]) -> Sequence[Array]:
            if not hasattr(of_thread, "request"):
                of_thread.request = compiled.create_infer_request()
            # Outputs are copied: OpenVINO's own are overwritten by the next batch.
            found = of_thread.request.infer((ids, attended), share_inputs=True)
            return tuple(found.to_tuple())

        return infer
