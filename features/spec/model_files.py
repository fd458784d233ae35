"""Read a model's JSON files, and refuse a folder that holds no model, or reaches out of itself.

transformers reads the configs of models, and follows some of what they name: files elsewhere,
weights that nobody has hashed, adapters, libraries. All of that is refused here, before a model is
loaded; so are weights of other formats, with what to do about it. Code of a model never runs, and
its attention is chosen by us, but not here: see `features/backends/eager/stock_model.py`. No torch,
no transformers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from features.errors import FileRefused

# The largest JSON of a model is a tokenizer's vocabulary, some tens of MB.
_MAX_JSON_BYTES = 2**28
# What parts are repeated by. Weights that are shared can be run again and again without being there
# twice, and parts without weights can be built, so that no size of a file bounds them.
_COUNT = re.compile(
    "^(n|num)_.*(layer|block|group|expert)|(layers|blocks|block_sizes|group_num|depth)$"
)
_MAX_REPETITIONS = 1000
# What weights are that are not read, and what to do, by the ends of their names; the first counts.
_PICKLED = (
    "pickled weights can run code",
    "load the model in transformers where you trust it and save_pretrained() it",
)
_MADE_FROM = "give the model that it was made from{source}"
_OTHER_WEIGHTS = {
    ".bin": _PICKLED,
    ".pt": _PICKLED,
    ".pth": _PICKLED,
    ".ckpt": _PICKLED,
    ".onnx": ("an ONNX export gives its last layer alone", _MADE_FROM),
    ".gguf": ("weights of llama.cpp are no encoder's", _MADE_FROM),
    ".h5": (
        "it is for TensorFlow",
        "in transformers 4, AutoModel.from_pretrained(FOLDER, from_tf=True) reads it: "
        "save_pretrained() the model",
    ),
    ".msgpack": (
        "it is for Flax",
        "in transformers 4, AutoModel.from_pretrained(FOLDER, from_flax=True) reads it: "
        "save_pretrained() the model",
    ),
}
# The class of peft that an adapter is loaded with, by the task that it was trained for.
_PEFT_CLASSES = {
    "SEQ_CLS": "AutoPeftModelForSequenceClassification",
    "TOKEN_CLS": "AutoPeftModelForTokenClassification",
    "QUESTION_ANS": "AutoPeftModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoPeftModelForFeatureExtraction",
}
# Written by older versions of transformers, and never opened.
_NOT_OPENED = ("special_tokens_map_file", "added_tokens_file", "chat_template_file")


def load_json(path: Path) -> Any:
    """Read any JSON.

    Raises
    ------
    FileRefused
        It is something else, or too large.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise FileRefused(f"{path} has more than {_MAX_JSON_BYTES} bytes")
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise FileRefused(f"{path} is not valid JSON: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    FileRefused
        It is something else.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise FileRefused(f"{path} holds {type(content).__name__}, not a JSON object")
    return content


def check_model_files(folder: Path) -> None:
    """Refuse a folder that holds no model, whose files reach beyond it, or are no files.

    Raises
    ------
    FileRefused
        The message names the file, and what it asks for.
    """
    for path in sorted(folder.iterdir()):
        if not path.is_file() and not path.is_dir():
            raise FileRefused(f"{path} is not a regular file; a model's files must be")
    if (folder / "adapter_config.json").is_file():
        raise FileRefused(_adapter_refused(folder))
    if not (folder / "config.json").is_file():
        inside = ", ".join(str(path) for path in _models_inside(folder))
        cure = (
            f"it holds models: give {inside}"
            if inside
            else "give the folder of a Hugging Face model"
        )
        raise FileRefused(f"{folder} holds no config.json; {cure}")
    config = read_json(folder / "config.json")
    if config.get("format") == "frostline-head":
        raise FileRefused(
            f"{folder} holds a head of frostline, not an encoder; give the model that it was "
            "fitted on, which `frostline inspect` names"
        )
    if config.get("quantization_config") is not None:
        raise FileRefused(f"{folder} is quantised; give the model in float32 or half precision")
    if config.get("transformers_weights") is not None:
        raise FileRefused(
            f"{folder / 'config.json'} names weights of its own ('transformers_weights'); only "
            "model.safetensors and its index are read: remove the key"
        )
    for key, count in _counts(config):
        if count > _MAX_REPETITIONS:
            raise FileRefused(
                f"{folder / 'config.json'} says {key} {str(count)[:20]}; no encoder has more than "
                f"{_MAX_REPETITIONS:,}"
            )
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            for key, value in _paths_named(read_json(folder / name)):
                raise FileRefused(
                    f"{folder / name} names a path outside of the model ({key}: {value[:100]!r}); "
                    "remove the key: a model's files are those in its folder"
                )


def check_weights(folder: Path, weights: Sequence[Path]) -> None:
    """Refuse a folder that lacks some of its weights, and say what to do about others in it.

    Parameters
    ----------
    folder : Path
    weights : sequence of Path
        The safetensors files that should be there.

    Raises
    ------
    FileRefused
        Names one that is missing, what lies there instead, and the cure.
    """
    missing = [path.name for path in weights if not path.is_file()]
    if not missing:
        return
    lacking = f"no {missing[0]} in {folder}"
    if len(missing) < len(weights) or missing != ["model.safetensors"]:
        raise FileRefused(f"{lacking}, which model.safetensors.index.json names; fetch it again")
    others = [path for path in (*folder.iterdir(), *folder.glob("onnx/*")) if path.is_file()]
    if named := sorted(path.name for path in others if path.suffix == ".safetensors"):
        cure = "fetch model.safetensors.index.json, which names the parts"
        if len(named) == 1:
            cure = "if these are the weights, rename it to model.safetensors"
        raise FileRefused(f"{lacking} ({', '.join(named[:3])} is there): {cure}")
    for ending, (reason, cure) in _OTHER_WEIGHTS.items():
        if found := sorted(path.name for path in others if path.suffix == ending):
            cure = cure.format(source=_made_from(folder))
            raise FileRefused(
                f"{lacking} ({', '.join(found[:3])} is there, but {reason}); only safetensors "
                f"weights are read: {cure}"
            )
    raise FileRefused(f"{lacking}; only safetensors weights are read: {_PICKLED[1]}")


def _made_from(folder: Path) -> str:
    """Name the model that another one was made from, as its config may do."""
    source = read_json(folder / "config.json").get("_name_or_path")
    return f", {source[:200]!r}" if isinstance(source, str) and source else ""


def _models_inside(folder: Path) -> list[Path]:
    """Find the first models one folder further down, or in a folder of the hub's cache."""
    found = []
    for path in sorted([*folder.glob("*/config.json"), *folder.glob("snapshots/*/config.json")]):
        with suppress(FileRefused):  # what can't be read is no model
            if path.is_file() and "model_type" in read_json(path):
                found.append(path.parent)
    return found[:3]


def _adapter_refused(folder: Path) -> str:
    """Say how the adapter in a folder becomes a model."""
    adapter = read_json(folder / "adapter_config.json")
    base = adapter.get("base_model_name_or_path")
    peft_class = _PEFT_CLASSES.get(str(adapter.get("task_type")), "AutoPeftModel")
    return (
        f"{folder} holds an adapter (adapter_config.json), whose weights are not those of a model: "
        f"merge it into its model with peft, {peft_class}.from_pretrained({str(folder)!r})"
        ".merge_and_unload().save_pretrained('merged'), save the tokenizer there too, "
        f"AutoTokenizer.from_pretrained({str(base)[:200]!r}).save_pretrained('merged'), and give "
        "that folder"
    )


def _counts(config: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Give the keys and numbers by which a config, or one in it, repeats parts of the model."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _counts(value)
        elif _COUNT.search(key):
            yield from (
                (key, n)
                for n in (value if isinstance(value, list) else [value])
                if isinstance(n, int | float)
            )


def _paths_named(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the keys and paths that a tokenizer would open: its files, and those of libraries.

    Many tokenizers still say where their files lay when they were saved. What is not there on this
    machine can't be read either.
    """
    for key, value in content.items():
        if key.endswith("_file") and key not in _NOT_OPENED and isinstance(value, str):
            if _leads_away(value) and Path(value).exists():
                yield key, value
        elif key.endswith("_kwargs") and isinstance(value, dict):
            for part, option in value.items():
                if isinstance(option, str) and _leads_away(option):
                    yield f"{key}.{part}", option


def _leads_away(value: str) -> bool:
    return "/" in value or "\\" in value
