"""Read a model's JSON files, and refuse a model whose files reach out of its folder.

transformers reads the configs of models, and follows some of what they name: files elsewhere,
weights that nobody has hashed, adapters, libraries. All of that is refused here, before a model is
loaded. Code of a model never runs, and its attention is chosen by us, but not here: see
`features/backends/eager/stock_model.py`. No torch, no transformers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
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
# Written by older versions of transformers, and never opened.
_NOT_OPENED = ("special_tokens_map_file", "added_tokens_file", "chat_template_file")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    FileRefused
        It is something else.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise FileRefused(f"{path} has more than {_MAX_JSON_BYTES} bytes")
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise FileRefused(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise FileRefused(f"{path} holds {type(content).__name__}, not a JSON object")
    return content


def check_model_files(folder: Path) -> None:
    """Refuse a folder whose files reach beyond it, or are no files.

    Raises
    ------
    FileRefused
        The message names the file, and what it asks for.
    """
    for path in sorted(folder.iterdir()):
        if not path.is_file() and not path.is_dir():
            raise FileRefused(f"{path} is not a regular file; a model's files must be")
    config = read_json(folder / "config.json")
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
    if (folder / "adapter_config.json").is_file():
        raise FileRefused(
            f"{folder} holds an adapter (adapter_config.json), whose weights are not those of the "
            "model: merge it into the model (merge_and_unload()) and save that"
        )
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            for key, value in _paths_named(read_json(folder / name)):
                raise FileRefused(
                    f"{folder / name} names a path outside of the model ({key}: {value[:100]!r}); "
                    "remove the key: a model's files are those in its folder"
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
