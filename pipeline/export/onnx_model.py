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
from pipeline.scoring.predict import model_of, places_of, side_by_side

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
    checkpoints, opened = _opened(head, models, say)
    first = opened[0]
    about = _about(head, first)
    write_tokenizer(first, folder)
    write_prepare(first.spec.normalizer, folder)
    _write_config(checkpoints[0], head, about, folder)
    failed = f"{' and '.join(model.spec.model for model in opened)} can't be written as a graph"
    # Two texts, one of them padded, or a tracer takes what it sees for always so.
    probe = np.array(first.stock.probe, np.int32)
    example = [torch.from_numpy(x) for x in pad([probe, probe[:-1]], first.stock.padding_id)]
    path = folder / FILE
    path.parent.mkdir()
    with exporting(failed, "take another model to export a head"), torch.no_grad():
        write_graph(HeadGraph(head, opened), example, path, OUTPUTS)
    _describe(path, about)
    apart, n_texts = _apart(head, opened, path)
    if not apart <= _MOST_APART:
        raise FileRefused(
            f"{failed}: its probabilities are {apart:.2g} away from those of the head"
        )
    say(f"the graph's probabilities are within {apart:.2g} of the head's own on {n_texts} texts")


def _opened(
    head: Head, models: Sequence[str | Path], say: Callable[[str], None]
) -> tuple[list[Checkpoint], list[Model]]:
    """Load the encoders of a head, if one graph can hold them."""
    places = places_of(head.encoders, models)
    for source in head.sources:
        if source.spec.quantization != "none":
            raise InputError(
                f"the head was fitted on vectors of {source.spec.quantization}, and the graph "
                "computes in float32, which gives others: fit a head on vectors of `dtype=auto` "
                "to export it"
            )
    checkpoints, opened = [], []
    for sources, place in zip(head.encoders, places, strict=True):
        spec = sources[0].spec
        checkpoints.append(model_of(spec, place, say))
        poolings = parse_poolings([one.view for one in sources])
        opened.append(open_model(checkpoints[-1], spec, poolings))
        if not opened[-1].stock.heeds_padding:
            raise InputError(
                f"{spec.model} gives a text other vectors beside padding, although it is masked, "
                "so that batches in other runtimes would go wrong: take another model to export a "
                "head"
            )
    _check_tokens_are_the_same(opened)
    parameters = [one for model in opened for one in model.stock.module.parameters()]
    n_bytes = sum(parameter.nbytes for parameter in parameters)
    if n_bytes > _MAX_BYTES:
        raise InputError(
            f"an ONNX graph in one file takes models of up to 2 GiB, {opened[0].spec.model} has "
            f"{n_bytes / 2**30:.1f}: take a smaller model to export a head"
        )
    return checkpoints, opened


def _check_tokens_are_the_same(models: Sequence[Model]) -> None:
    """Refuse encoders that read a text differently: a graph has one input of token ids."""

    def read(model: Model) -> list[Any]:
        spec, tokenizer = model.spec, model.tokenizer
        rules = [spec.normalizer, spec.prefix, spec.max_length, tokenizer.vocabulary]
        return [*rules, None if tokenizer.content is None else json.loads(tokenizer.content)]

    for other in models[1:]:
        if read(other) != read(models[0]):
            raise InputError(
                f"{models[0].spec.model} and {other.spec.model} don't cut texts into the same "
                "tokens, and a graph takes the tokens of one tokenizer: fit a head on one of "
                "these encoders to export it"
            )


def _about(head: Head, first: Model) -> dict[str, Any]:
    """Say what the export is, as JSON types; nothing in it changes from run to run."""
    spec = first.spec
    encoders = [
        {
            # Of a local folder its name, and not where it lay.
            "model": one.spec.model if one.spec.revision else Path(one.spec.model).name,
            "fingerprint": one.spec.fingerprint,
            "views": [source.view for source in sources],
        }
        for sources in head.encoders
        for one in sources[:1]
    ]
    return {
        "made_by": f"frostline {__version__}",
        "labels": list(head.labels),
        "prior": None if head.prior is None else head.prior.tolist(),
        "encoders": encoders,
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


def _apart(head: Head, models: Sequence[Model], path: Path) -> tuple[float, int]:
    """Run the graph in ONNX Runtime; say how far it is from the head, on how many texts."""
    first = models[0]
    long = first.tokenizer.tokenize([" ".join(PROBE_TEXTS) * first.spec.max_length])
    # The first samples are `PROBE_TEXTS`, and an empty text.
    texts = [*first.samples.ids[: len(PROBE_TEXTS) + 1], *long.ids]
    vectors = {}
    for model in models:
        views = model.views
        reference = Reference(model.stock, views.layers, pooler=views.pooler)
        vectors[model.spec.fingerprint] = pooled(reference, texts, views, model.tokenizer)
    expected = head.predict_proba(side_by_side(head, vectors))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = dict(zip(INPUTS, pad(texts, first.stock.padding_id), strict=True))
    found = session.run(["probabilities"], given)[0]
    return float(np.abs(found - expected).max()), len(texts)
