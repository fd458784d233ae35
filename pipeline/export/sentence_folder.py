"""Write the encoder of a head as a folder of sentence-transformers, for its vectors alone.

In come a head and the files of its encoder; out goes a folder of which
`SentenceTransformer(folder).encode(texts)` gives the vectors that the head takes: the transformer,
cut behind the deepest layer that is needed, its tokenizer with the steps of the normaliser, and
modules for the views. What the modules can't say is refused. The folder is read back by
`features/spec/sentence_folder.py` and compared with the encoder before it is there.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from safetensors.numpy import save_file

from features.backends.eager.reference import Reference
from features.encoder.engine import Matrix, pooled
from features.encoder.loading import Model, open_model
from features.encoder.probe_texts import PROBE_TEXTS
from features.errors import FileRefused, InputError, foreign
from features.spec.checkpoint import VOCABULARIES, Checkpoint, find_checkpoint
from features.spec.encoder_spec import EncoderSpec, make_spec
from features.spec.normalize import normalizer
from features.spec.pooling import SENTENCE, parse_pooling, parse_poolings
from features.spec.sentence_folder import modules_in, top_of
from features.version import __version__
from pipeline.export.raw_texts import write_prepare
from pipeline.export.tokenizer_files import write_json, write_tokenizer
from pipeline.head.head import Head
from pipeline.scoring.predict import model_of, places_of

# How far vectors may be from those of the encoder, in parts of the largest value.
_MOST_APART = 1e-4
_CAN = (
    "it can hold cls, mean and max of one layer, or of the sum or mean of several, all views of "
    "the same layers; fit a head on such views, e.g. mean@last4+sum"
)


@dataclass(frozen=True)
class Plan:
    """How modules make the vectors of a head.

    Attributes
    ----------
    modes : list of str
        Of the module Pooling, one a view.
    first, last : int
        Layers whose mean is pooled; 0 is the embedding layer.
    scales : list of float
        What the vector of each view is multiplied by: a sum is so many times a mean.
    """

    modes: list[str]
    first: int
    last: int
    scales: list[float]


def write(
    head: Head, folder: Path, models: Sequence[str | Path], say: Callable[[str], None]
) -> None:
    """Write the files into an empty folder; see `pipeline.export.export.export`."""
    if len(head.encoders) > 1:
        raise InputError(
            f"the head takes the vectors of {len(head.encoders)} encoders, and a folder of "
            "sentence-transformers holds one: fit a head on one encoder to export it"
        )
    spec, views = head.sources[0].spec, [source.view for source in head.sources]
    if spec.quantization != "none":
        raise InputError(
            f"the head was fitted on vectors of {spec.quantization}, and sentence-transformers "
            "computes others: fit a head on vectors of `dtype=auto` to export it"
        )
    checkpoint = model_of(spec, places_of(head.encoders, models)[0], say)
    model = open_model(checkpoint, spec, parse_poolings(views))
    if views == [SENTENCE]:
        _write_transformer(model, model.stock.n_layers, folder, layers=False)
        _copy_modules(top_of(checkpoint.folder), folder)
    else:
        plan = plan_of(views, model.stock.n_layers)
        _write_transformer(model, plan.last, folder, layers=plan.first < plan.last)
        _write_modules(plan, model.stock.hidden_size, folder)
    reads_raw = model.tokenizer.content is not None
    if reads_raw:
        write_tokenizer(model, folder)
        write_prepare(spec.normalizer, folder)
    else:
        _copy_tokenizer(checkpoint, folder)
    _write_settings(spec, folder, prompt="" if reads_raw else spec.prefix)
    _write_readme(head, folder, reads_raw=reads_raw)
    apart = _apart(model, views, folder)
    if not apart <= _MOST_APART:
        raise FileRefused(
            f"{spec.model} can't be written for sentence-transformers: its vectors would be "
            f"{apart:.1g} away from those of the encoder; {_CAN}"
        )
    say(f"the folder's vectors are within {apart:.1g} of the encoder's on {len(PROBE_TEXTS)} texts")


def plan_of(views: Sequence[str], n_layers: int) -> Plan:
    """Find the modules that make some views side by side.

    Raises
    ------
    InputError
        There are none; the message says which view, and what can be held.

    Examples
    --------
    >>> plan_of(["cls@last4+sum", "mean@last4+mean"], 12)
    Plan(modes=['cls', 'mean'], first=9, last=12, scales=[4.0, 1.0])
    """
    poolings = [parse_pooling(view) for view in views]
    for pooling in poolings:
        why = {"concat": "it puts layers side by side"}.get(pooling.combine, "")
        if pooling.tokens not in ("cls", "mean", "max"):
            why = f"there is no module for {pooling.tokens}"
        if why:
            raise InputError(
                f"a folder of sentence-transformers can't hold the view {pooling.name!r}: {why}; "
                f"{_CAN}"
            )
    layers = [pooling.layer_numbers(n_layers) for pooling in poolings]
    for view, numbers in zip(views, layers, strict=True):
        if numbers != layers[0]:
            raise InputError(
                f"a folder of sentence-transformers can't hold the views {views[0]!r} and {view!r} "
                f"together: they take different layers; {_CAN}"
            )
    scales = [
        float(len(numbers)) if pooling.combine == "sum" else 1.0
        for pooling, numbers in zip(poolings, layers, strict=True)
    ]
    return Plan([one.tokens for one in poolings], layers[0][0], layers[0][-1], scales)


def _write_transformer(model: Model, last: int, folder: Path, *, layers: bool) -> None:
    """Save the transformer up to a layer; `layers` says whether it gives all that are left."""
    module = model.stock.module
    failed = f"{model.spec.model} can't be cut behind layer {last}: fit on its last layer instead"
    with foreign(failed), _without_bars():
        if last < model.stock.n_layers:
            config = copy.deepcopy(module.config)
            config.num_hidden_layers = last
            with tempfile.TemporaryDirectory() as whole:
                module.save_pretrained(whole)
                module = type(module).from_pretrained(whole, config=config, local_files_only=True)
        module.save_pretrained(folder)
    path = folder / "config.json"
    config = module.config.to_dict() | {"output_hidden_states": layers}
    config.pop("_name_or_path", None)
    write_json(path, config)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the bars of transformers, for files that take no time, from our lines."""
    shown = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.logging.enable_progress_bar()


def _write_modules(plan: Plan, width: int, folder: Path) -> None:
    """Write modules.json and a folder for each module behind the transformer."""
    modules: list[tuple[str, dict[str, Any], dict[str, Matrix]]] = []
    if plan.first < plan.last:
        settings: dict[str, Any] = {
            "word_embedding_dimension": width,
            "layer_start": plan.first,
            "num_hidden_layers": plan.last,
        }
        weights = {"layer_weights": np.ones(plan.last + 1 - plan.first, np.float32)}
        modules.append(("WeightedLayerPooling", settings, weights))
    modules.append(("Pooling", _pooling(plan.modes, width), {}))
    if set(plan.scales) != {1.0}:
        scales = np.repeat(np.array(plan.scales, np.float32), width)
        settings = {
            "in_features": len(scales),
            "out_features": len(scales),
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        modules.append(("Dense", settings, {"linear.weight": np.diag(scales)}))
    listed = [_module(0, "Transformer", "")]
    for number, (kind, settings, weights) in enumerate(modules, 1):
        path = f"{number}_{kind}"
        (folder / path).mkdir()
        write_json(folder / path / "config.json", settings)
        if weights:
            save_file(weights, folder / path / "model.safetensors", {"format": "pt"})
        listed.append(_module(number, kind, path))
    write_json(folder / "modules.json", listed)


def _module(number: int, kind: str, path: str) -> dict[str, Any]:
    # The names that every version of sentence-transformers knows.
    name = f"sentence_transformers.models.{kind}"
    return {"idx": number, "name": str(number), "path": path, "type": name}


def _pooling(modes: Sequence[str], width: int) -> dict[str, Any]:
    """Give the settings of the module Pooling, in the older form where that can say them."""
    if list(modes) == [mode for mode in ("cls", "max", "mean") if mode in modes]:
        return {
            "word_embedding_dimension": width,
            "pooling_mode_cls_token": "cls" in modes,
            "pooling_mode_mean_tokens": "mean" in modes,
            "pooling_mode_max_tokens": "max" in modes,
            "pooling_mode_mean_sqrt_len_tokens": False,
        }
    return {"embedding_dimension": width, "pooling_mode": list(modes), "include_prompt": True}


def _copy_modules(top: Path, folder: Path) -> None:
    """Copy the modules of the folder that the encoder was made of: those of the view `sentence`."""
    modules = modules_in(top / "modules.json")
    for number, (kind, path) in enumerate(modules):
        if number:
            shutil.copytree(top / path, folder / path)
        elif path:
            modules[0] = kind, ""
    listed = [_module(number, kind, path) for number, (kind, path) in enumerate(modules)]
    write_json(folder / "modules.json", listed)


def _copy_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy a tokenizer that runs in Python, which no steps can be written into."""
    for name in (*VOCABULARIES, "tokenizer_config.json", "special_tokens_map.json"):
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, folder / name)


def _write_settings(spec: EncoderSpec, folder: Path, *, prompt: str) -> None:
    """Write how long texts may be, and the prompt, if the tokenizer does not put it before them."""
    settings = {"max_seq_length": spec.max_length, "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", settings)
    about = {
        "__version__": {"frostline": __version__},
        "prompts": {"prefix": prompt} if prompt else {},
        "default_prompt_name": "prefix" if prompt else None,
        "similarity_fn_name": "cosine",
    }
    write_json(folder / "config_sentence_transformers.json", about)


def _write_readme(head: Head, folder: Path, *, reads_raw: bool) -> None:
    """Say what the folder is, what of texts it reads otherwise, and what the head does with it."""
    source = head.sources[0]
    views = ", ".join(f"`{one.view}`" for one in head.sources)
    lines = [
        "---\nlibrary_name: sentence-transformers\npipeline_tag: feature-extraction\n---",
        "# Vectors of a frozen encoder",
        f"Made by frostline {__version__}: the encoder of a head that labels tweets. A text gives "
        f"the vector that the head takes, the view {views}, {head.coef.shape[1]} numbers.",
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        "vectors = SentenceTransformer('.').encode(['what a day'])\n```",
    ]
    form = source.spec.normalizer
    if form != "none" and not reads_raw:
        lines.append(
            f"**Texts.** frostline brings tweets into one form first (`{form}`), and the tokenizer "
            "of this folder can't, as it runs in Python: encode texts in that form, "
            "`features.spec.normalize.normalizer('tweeteval')(text)`."
        )
    elif form != "none":
        lines.append(
            "**Texts.** frostline brings tweets into one form first "
            f"(`{form}`). The tokenizer of this folder does the same: links become "
            "`http`, mentions `@user`, and Unicode its composed form. What a tokenizer can't do is "
            "in `prepare.py`: other HTML entities and literal `\\uXXXX` escapes. Where texts have "
            "them, encode `prepare(text)`."
        )
    if source.spec.prefix:
        lines.append("The prefix of the encoder is put before each text here, too.")
    if source.store_dtype != "float32":
        lines.append(
            f"**Precision.** The head was fitted on vectors in {source.store_dtype}: round them to "
            "it before the head is used on them."
        )
    (folder / "README.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def _apart(model: Model, views: Sequence[str], folder: Path) -> float:
    """Read a folder back; say how far its vectors are from the encoder's."""
    spec = model.spec
    normalise = normalizer(spec.normalizer)
    texts = [normalise(text) for text in PROBE_TEXTS]
    expected = _vectors(model, [spec.prefix + text for text in texts])
    checkpoint = find_checkpoint(folder)
    of_folder = make_spec(checkpoint, max_length=spec.max_length, normalize="none", sentence=True)
    again = open_model(checkpoint, of_folder, parse_poolings(SENTENCE))
    found = _vectors(again, [of_folder.prefix + text for text in texts])[SENTENCE]
    wanted = np.hstack([expected[view] for view in views])
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.abs(found - wanted).max() / max(1.0, float(np.abs(wanted).max())))


def _vectors(model: Model, texts: Sequence[str]) -> dict[str, Matrix]:
    """Run the stock model on texts, one by one."""
    reference = Reference(model.stock, model.views.layers, pooler=model.views.pooler)
    each = [
        pooled(reference, [ids], model.views, model.tokenizer)
        for ids in model.tokenizer.tokenize(texts).ids
    ]
    return {view: np.concatenate([one[view] for one in each]) for view in model.views.widths}
