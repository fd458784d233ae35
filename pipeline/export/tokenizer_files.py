"""Write the tokenizer of an export, and the config that names its classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from features.encoder.loading import Model
from features.errors import InputError


def write_tokenizer(model: Model, labels: Sequence[str], folder: Path) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `config.json`.

    Raises
    ------
    InputError
        The model's tokenizer has no tokenizer.json.
    """
    tokenizer, spec = model.tokenizer, model.spec
    if tokenizer.content is None:
        raise InputError(
            f"{spec.model} has a tokenizer that runs in Python alone, which other runtimes can't: "
            "it can't be exported"
        )
    (folder / "tokenizer.json").write_text(tokenizer.content, encoding="utf-8")
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": spec.max_length,
            "padding_side": "right",
            "truncation_side": tokenizer.vocabulary.truncation_side,
            "split_special_tokens": True,
        },
    )
    _write_json(
        folder / "config.json",
        {
            "model_type": model.stock.module.config.model_type,
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
        },
    )


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
