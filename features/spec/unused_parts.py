"""Name what a model's folder holds and the encoder does not use: parts of sentence-transformers.

In come a model's files and the spec of the encoder made of them, out comes one line for the user.
Such a folder says more than what the hidden states are: a prompt before each text, lower case,
layers behind the pooling (https://sbert.net/docs/sentence_transformer/usage/custom_models.html).
Nothing is refused here, and nothing of a model is loaded.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from features.errors import FileRefused
from features.spec.checkpoint import Checkpoint
from features.spec.encoder_spec import EncoderSpec
from features.spec.model_files import load_json
from features.spec.sentence_folder import about, prompts_of, top_of

# Modules whose work is done here too, or that do nothing to a model that is not trained.
_DONE_HERE = ("Transformer", "Pooling", "Dropout")
# The prompts that fit the labelling of tweets, the best first, by their names in lower case.
_FITTING = ("classification", "query", "document", "passage")
_SHOWN_PROMPTS, _SHOWN_CHARACTERS = 4, 80


def unused_parts(checkpoint: Checkpoint, spec: EncoderSpec) -> str:
    """Give a line that names what is not used, with what to do about it; "" where there is none.

    Of the default model nothing is named: how it is used is documented.
    """
    if checkpoint.is_default:
        return ""
    folder = checkpoint.folder
    top = top_of(folder)
    # The view `sentence` uses them, or is refused.
    modules = [] if spec.modules else _modules(top)
    parts = [*_prompts(top, spec), *_settings(folder, spec), *modules]
    if not parts:
        return ""
    return f"model {checkpoint.name!r} has parts that are not used: {'; '.join(parts)}"


def _prompts(folder: Path, spec: EncoderSpec) -> list[str]:
    prompts = prompts_of(folder)
    if not prompts or spec.prefix:
        return []
    default = about(folder).get("default_prompt_name")
    names = {name.lower(): name for name in prompts}
    fitting = [str(default), *(names.get(name) for name in _FITTING), *prompts]
    proposed = next(prompts[name] for name in fitting if name in prompts)
    listed = [f"{name} {_shown(text)}" for name, text in prompts.items()][:_SHOWN_PROMPTS]
    more = ", …" if len(prompts) > len(listed) else ""
    return [
        f"prompts ({', '.join(listed)}{more}), of which `prefix` puts one before each text: "
        f"try {_shown(proposed)}"
    ]


def _settings(folder: Path, spec: EncoderSpec) -> list[str]:
    """Say what sentence_bert_config.json, or one of its older names, sets."""
    parts = []
    for path in sorted(folder.glob("sentence_*_config.json"))[:1]:
        settings = _content(path, dict)
        tokenizer = _content(folder / "tokenizer_config.json", dict)
        if settings.get("do_lower_case") is True and tokenizer.get("do_lower_case") is not True:
            parts.append(
                f"do_lower_case of {path.name} (lower-case the tweets, or write it into "
                "tokenizer_config.json, which tokenizers of BERT heed)"
            )
        length = settings.get("max_seq_length")
        if type(length) is int and length > 0 and length != spec.max_length:
            parts.append(
                f"max_seq_length {length} of {path.name} ({spec.max_length} tokens are read; "
                f"`max_length={length}` changes that)"
            )
    return parts


def _modules(folder: Path) -> list[str]:
    names = [
        str(module.get("type")).rpartition(".")[2]
        for module in _content(folder / "modules.json", list)
        if isinstance(module, dict)
    ]
    behind = [name for name in names if name not in _DONE_HERE]
    if not behind:
        return []
    return [
        f"{', '.join(behind)} behind its pooling (views are pooled from hidden states, and the "
        "head is fitted on them; `pooling=sentence` gives the vectors behind them)"
    ]


def _content(path: Path, kind: type[Any]) -> Any:
    """Give what a JSON file holds, or an empty one of the kind: a bad one is not used either."""
    with suppress(FileRefused):
        if path.is_file() and isinstance(content := load_json(path), kind):
            return content
    return kind()


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…")
