"""Write a head as one ONNX graph, with the tokenizer and the names of its classes beside it.

In come a head and the files of its encoder; out goes a folder as transformers.js and transformers
read it: `onnx/model.onnx`, `tokenizer.json`, `tokenizer_config.json`, `config.json`. What the graph
gives is compared with the stock model and the head before the folder is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from features.backends.exported.export import exporting
from features.backends.exported.onnx_runtime import write_graph
from features.backends.padding import pad
from features.encoder.loading import Model, open_model
from features.errors import InputError
from features.spec.pooling import parse_poolings
from pipeline.export.onnx_graph import HeadGraph
from pipeline.export.tokenizer_files import write_tokenizer
from pipeline.head.head import Head
from pipeline.scoring.predict import model_of

FILE = "onnx/model.onnx"
OUTPUTS = {"probabilities": {0: "texts"}, "logits": {0: "texts"}}


def write(
    head: Head, folder: Path, models: Sequence[str | Path], say: Callable[[str], None]
) -> None:
    """Write the files into an empty folder; see `pipeline.export.export.export`."""
    model = _opened(head, models, say)
    path = folder / FILE
    path.parent.mkdir()
    with exporting("onnx"), torch.no_grad():
        # Two texts, one of them padded, or a tracer takes what it sees for always so.
        probe = np.array(model.stock.probe, np.int32)
        example = [torch.from_numpy(x) for x in pad([probe, probe[:-1]], model.stock.padding_id)]
        write_graph(HeadGraph(head, model), example, path, OUTPUTS)
    write_tokenizer(model, head.labels, folder)


def _opened(head: Head, models: Sequence[str | Path], say: Callable[[str], None]) -> Model:
    """Load the encoder of a head, if one graph can hold it."""
    if len(head.encoders) > 1:
        raise InputError(
            f"the head takes the vectors of {len(head.encoders)} encoders, and each cuts texts "
            "into tokens of its own, which one graph can't take: fit a head on one encoder to "
            "export it"
        )
    spec = head.sources[0].spec
    if spec.quantization != "none":
        raise InputError(
            f"the head was fitted on vectors of {spec.quantization}, and the graph computes in "
            "float32, which gives others: fit a head on vectors of `dtype=auto` to export it"
        )
    checkpoint = model_of(spec, models[0] if models else None, say)
    return open_model(checkpoint, spec, parse_poolings([one.view for one in head.sources]))
