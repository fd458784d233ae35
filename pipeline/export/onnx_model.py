"""Write a head as one ONNX graph, with the tokenizer and the names of its classes beside it.

In come a head and the files of its encoder; out goes a folder as transformers.js and transformers
read it: `onnx/model.onnx`, `tokenizer.json`, `tokenizer_config.json`, `config.json`, and `prepare`
(`pipeline/export/raw_texts.py`). What the graph gives is compared with the model and the head
before the folder is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from features.backends.eager.reference import Reference
from features.backends.exported.export import exporting
from features.backends.exported.onnx_runtime import INPUTS, OPSET, write_graph
from features.backends.padding import pad
from features.encoder.engine import pooled
from features.encoder.loading import Model, open_model
from features.encoder.probe_texts import PROBE_TEXTS
from features.errors import FileRefused, InputError
from features.spec.checkpoint import Checkpoint
from features.spec.pooling import parse_poolings
from features.version import __version__
from pipeline.export.onnx_graph import HeadGraph
from pipeline.export.raw_texts import write_prepare
from pipeline.export.tokenizer_files import write_json, write_tokenizer
from pipeline.head.head import Head
from pipeline.scoring.predict import model_of, side_by_side

FILE = "onnx/model.onnx"
OUTPUTS = {"probabilities": {0: "texts"}, "logits": {0: "texts"}}
# Vectors that are rounded to half precision may fall to the other side, which moves probabilities
# by some 1e-5; a translation that went wrong gives other ones.
_MOST_APART = 1e-3
# What a config says of the place of a model, and of code beside it.
_NOT_KEPT = ("_name_or_path", "auto_map")
# What a graph may have in its one file.
_MAX_BYTES = 2**31 - 2**24


def write(
    head: Head, folder: Path, models: Sequence[str | Path], say: Callable[[str], None]
) -> None:
    """Write the files into an empty folder; see `pipeline.export.export.export`."""
    checkpoint, model = _opened(head, models, say)
    about = _about(head, model)
    write_tokenizer(model, folder)
    write_prepare(model.spec.normalizer, folder)
    _write_config(checkpoint, head, about, folder)
    failed = f"{model.spec.model} can't be written as an ONNX graph"
    # Two texts, one of them padded, or a tracer takes what it sees for always so.
    probe = np.array(model.stock.probe, np.int32)
    example = [torch.from_numpy(x) for x in pad([probe, probe[:-1]], model.stock.padding_id)]
    path = folder / FILE
    path.parent.mkdir()
    with exporting(failed, "take another model to export a head"), torch.no_grad():
        write_graph(HeadGraph(head, model), example, path, OUTPUTS)
    _describe(path, about)
    apart, n_texts = _apart(head, model, path)
    if not apart <= _MOST_APART:
        raise FileRefused(
            f"{failed}: its probabilities are {apart:.2g} away from those of the head"
        )
    say(f"the graph's probabilities are within {apart:.2g} of the head's own on {n_texts} texts")


def _opened(
    head: Head, models: Sequence[str | Path], say: Callable[[str], None]
) -> tuple[Checkpoint, Model]:
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
    if spec.modules:
        raise InputError(
            "the head was fitted on the view 'sentence', whose modules the graph can't hold: fit a "
            "head on another pooling, such as mean, to export it"
        )
    checkpoint = model_of(spec, models[0] if models else None, say)
    model = open_model(checkpoint, spec, parse_poolings([one.view for one in head.sources]))
    if not model.stock.heeds_padding:
        raise InputError(
            f"{spec.model} gives a text other vectors beside padding, although it is masked, so "
            "that batches in other runtimes would go wrong: take another model to export a head"
        )
    n_bytes = sum(parameter.nbytes for parameter in model.stock.module.parameters())
    if n_bytes > _MAX_BYTES:
        raise InputError(
            f"an ONNX graph in one file takes models of up to 2 GiB, {spec.model} has "
            f"{n_bytes / 2**30:.1f}: take a smaller model to export a head"
        )
    return checkpoint, model


def _about(head: Head, model: Model) -> dict[str, Any]:
    """Say what the export is, as JSON types; nothing in it changes from run to run."""
    spec = model.spec
    return {
        "made_by": f"frostline {__version__}",
        "labels": list(head.labels),
        "prior": None if head.prior is None else head.prior.tolist(),
        # Of a local folder its name, and not where it lay.
        "encoder": spec.model if spec.revision else Path(spec.model).name,
        "fingerprint": spec.fingerprint,
        "views": [source.view for source in head.sources],
        "max_length": spec.max_length,
        "normalizer": spec.normalizer,
        "prefix": spec.prefix,
        "opset": OPSET,
    }


def _write_config(checkpoint: Checkpoint, head: Head, about: dict[str, Any], folder: Path) -> None:
    """Write the model's own config, as that of a classifier with the head's labels."""
    config = {key: value for key, value in checkpoint.config.items() if key not in _NOT_KEPT}
    write_json(
        folder / "config.json",
        {
            **config,
            "problem_type": "single_label_classification",
            # Without this, it asks for a file of 8-bit weights.
            "transformers.js_config": {"dtype": "fp32"},
            "id2label": {str(number): label for number, label in enumerate(head.labels)},
            "label2id": {label: number for number, label in enumerate(head.labels)},
            "frostline": about,
        },
    )


def _describe(path: Path, about: dict[str, Any]) -> None:
    """Write into a graph what it is, and check it."""
    graph = onnx.load(path)
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in about.items()
    }
    onnx.helper.set_model_props(graph, texts)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def _apart(head: Head, model: Model, path: Path) -> tuple[float, int]:
    """Run the graph in ONNX Runtime; say how far it is from the head, on how many texts."""
    stock, views = model.stock, model.views
    long = model.tokenizer.tokenize([" ".join(PROBE_TEXTS) * model.spec.max_length])
    # The first samples are `PROBE_TEXTS`, and an empty text.
    texts = [*model.samples.ids[: len(PROBE_TEXTS) + 1], *long.ids]
    reference = Reference(stock, views.layers, pooler=views.pooler)
    vectors = pooled(reference, texts, views, model.tokenizer)
    expected = head.predict_proba(side_by_side(head, {model.spec.fingerprint: vectors}))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = dict(zip(INPUTS, pad(texts, stock.padding_id), strict=True))
    found = session.run(["probabilities"], given)[0]
    return float(np.abs(found - expected).max()), len(texts)
