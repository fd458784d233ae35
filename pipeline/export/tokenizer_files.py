"""Write the tokenizer of an export, so that it reads raw texts as the encoder does.

`tokenizer.json` is the model's own with the steps of the normaliser before it
(`pipeline/export/raw_texts.py`), and without special tokens that a text could say. `tokenizers`,
transformers and transformers.js read it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from features.encoder.loading import Model
from features.errors import InputError
from pipeline.export.raw_texts import steps


def write_tokenizer(model: Model, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`.

    Raises
    ------
    InputError
        The model's tokenizer has no tokenizer.json.
    """
    tokenizer, spec = model.tokenizer, model.spec
    if tokenizer.content is None:
        raise InputError(
            f"the tokenizer of {spec.model} runs in Python alone, and other runtimes have none for "
            "it: save the model with a tokenizer.json, or take another model, to export a head"
        )
    content = json.loads(tokenizer.content)
    names = _names_of(content)
    padding_id = tokenizer.vocabulary.padding_id
    before = steps(spec.normalizer, spec.prefix)
    own = content["normalizer"]
    if before:
        normalizers = [*before, *([] if own is None else [own])]
        content["normalizer"] = {"type": "Sequence", "normalizers": normalizers}
    content["padding"] = {
        "strategy": "BatchLongest",
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": padding_id,
        "pad_type_id": 0,
        "pad_token": names[padding_id],
    }
    _forget_special_tokens(content)
    write_json(folder / "tokenizer.json", content, indent=None)
    left = tokenizer.vocabulary.truncation_side == "left"
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            # transformers.js cuts on the right alone; the graph cuts whatever is longer.
            **({} if left else {"model_max_length": spec.max_length}),
            "padding_side": "right",
            "truncation_side": tokenizer.vocabulary.truncation_side,
            "split_special_tokens": True,
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
            "pad_token": names[padding_id],
            "unk_token": names[tokenizer.vocabulary.unknown_id],
        },
    )


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write JSON types, in the order in which they come."""
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _names_of(content: dict[str, Any]) -> dict[int, str]:
    """Give the tokens of a tokenizer.json by their ids."""
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, dict):
        names = {number: token for token, number in vocabulary.items()}
    else:  # of a unigram model: pairs of token and score
        names = {number: token for number, (token, _) in enumerate(vocabulary)}
    return names | {token["id"]: token["content"] for token in content["added_tokens"]}


def _forget_special_tokens(content: dict[str, Any]) -> None:
    """Let texts say "[SEP]": five characters, as in the encoder, and no special token.

    What finds them in texts is the list of added tokens. Those that the tokenizer itself puts
    around texts are found in its vocabulary.
    """
    vocabulary = content["model"]["vocab"]
    if not isinstance(vocabulary, dict):
        known = {token for token, _ in vocabulary}
    else:
        for token in content["added_tokens"]:
            if token["special"]:
                vocabulary.setdefault(token["content"], token["id"])
        known = set(vocabulary)
    around = json.dumps(content["post_processor"], ensure_ascii=False)
    content["added_tokens"] = [
        token
        for token in content["added_tokens"]
        if not token["special"]
        or (token["content"] not in known and json.dumps(token["content"]) in around)
    ]
