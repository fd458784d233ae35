"""The record of what makes two vectors comparable, and its fingerprint. No torch.

A head may only score vectors of the encoder that it was trained on; a store may only hold vectors
of one. Both compare fingerprints. Speed settings (device, threads, batch size, backend) are not
here: they do not change what a vector means.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from features.errors import FileRefused, InputError
from features.spec.checkpoint import Checkpoint
from features.spec.normalize import versioned_name
from features.spec.pooling import POOLING_VERSION
from features.spec.sentence_folder import prompt_named, read_sentence_modules, top_of

DEFAULT_MAX_LENGTH = 128
# Raise the number whenever `features/backends/eager/int8.py` would give other vectors.
QUANTIZATIONS = {"none": "none", "int8": "int8/1"}
# Names under which a model can be found again; they don't change what its vectors mean.
_DESCRIPTIVE = ("model", "revision")
# Fields that came later: left out where they say nothing, so that older files keep their meaning,
# their fingerprints and, in older versions of frostline, their readers.
_LATER = {"prefix": "", "modules": ""}


class Difference(NamedTuple):
    """A field in which two records differ, and what each of them says."""

    field: str
    mine: Any
    theirs: Any


@dataclass(frozen=True)
class EncoderSpec:
    """Everything that makes two vectors comparable.

    Attributes
    ----------
    model, revision : str
        Where the model was found. Not part of the fingerprint.
    weights, config, tokenizer : str
        SHA-256 of their content, see `Checkpoint`.
    max_length : int
        Tokens that the encoder reads of a text, special tokens included.
    normalizer : str
        Versioned name, e.g. `tweeteval/1`.
    pooling_version : int
        Version of the maths in `features/spec/pooling.py`.
    quantization : str
        `none`, or the versioned name of what the products of the forward pass are rounded to:
        `int8/1`. Float32 and half precision differ by less than what matters, and are `none` both.
    prefix : str
        What is put before each normalised text, as some models expect: `query: `.
    modules : str
        SHA-256 of what stands behind the transformer, where the view `sentence` is one of those
        that were asked for, see `SentenceModules.digest`.
    """

    model: str
    revision: str | None
    weights: str
    config: str
    tokenizer: str
    max_length: int
    normalizer: str
    pooling_version: int = POOLING_VERSION
    quantization: str = "none"
    prefix: str = ""
    modules: str = ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything but the names."""
        identity = {k: v for k, v in self.to_dict().items() if k not in _DESCRIPTIVE}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Give the spec as JSON types."""
        content = dataclasses.asdict(self)
        return {k: v for k, v in content.items() if k not in _LATER or v != _LATER[k]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> EncoderSpec:
        """Read what `to_dict` wrote.

        Raises
        ------
        FileRefused
            A field is missing, unknown, or of another type.
        """
        types = {"max_length": int, "pooling_version": int}
        names = {field.name for field in dataclasses.fields(cls)}
        content = {**_LATER, **content}
        if set(content) != names:
            odd = ", ".join(sorted(set(content) ^ names))
            raise FileRefused(
                f"the encoder spec in this file is of another version; it differs in {odd}"
            )
        for name, value in content.items():
            kind = types.get(name, str)
            if not (isinstance(value, kind) or (name == "revision" and value is None)):
                raise FileRefused(f"the encoder spec in this file has a bad {name}: {value!r}")
        if content["quantization"] not in QUANTIZATIONS.values():
            raise FileRefused(
                f"the encoder spec in this file says quantization {content['quantization']!r}; "
                f"this version of frostline knows {', '.join(QUANTIZATIONS.values())}"
            )
        return cls(**content)

    def differences(self, other: EncoderSpec) -> list[Difference]:
        """Give what differs in what the fingerprint covers; names of models come along."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        differing = [
            Difference(name, _short(name, mine[name]), _short(name, theirs[name]))
            for name in mine
            if mine[name] != theirs[name] and name not in _DESCRIPTIVE
        ]
        if differing and self.model != other.model:
            differing.insert(0, Difference("model", self.model, other.model))
        return differing


def listed_differences(
    differences: Sequence[Difference], mine: str = "here", theirs: str = "there"
) -> str:
    """Word differences: who says what.

    Examples
    --------
    >>> listed_differences([Difference("max_length", 64, 128)], "in the file", "asked for")
    'max_length: 64 in the file, 128 asked for'
    """
    return "; ".join(f"{d.field}: {d.mine} {mine}, {d.theirs} {theirs}" for d in differences)


def _short(field: str, value: object) -> str:
    """Shorten a digest to its first 12 digits, and quote a text whose blanks matter."""
    text = str(value)
    if field == "prefix":
        return repr(text)
    return text[:12] if len(text) == 64 else text


def make_spec(
    checkpoint: Checkpoint,
    *,
    max_length: int | None = None,
    normalize: str = "tweeteval",
    quantize: str = "none",
    prefix: str = "",
    prompt_name: str | None = None,
    sentence: bool = False,
) -> EncoderSpec:
    """Describe the encoder that these files make. Reads and hashes them; loads nothing.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model's files.
    max_length : int, optional
        Default: 128, or less where the model reads less; with `sentence`, what its folder says.
    normalize : str
        `tweeteval` or `none`.
    quantize : str
        `none` or `int8`.
    prefix : str
        What is put before each text.
    prompt_name : str, optional
        The name of the prompt, among those of the model's folder, that is the prefix; "" is none.
        Default: with `sentence`, that which the folder says.
    sentence : bool
        Whether the modules of a sentence-transformers folder are used: the view `sentence`.

    Raises
    ------
    InputError
        The length is more than the model reads, or leaves no room; the prefix is no text, or there
        is no such prompt; there are no modules.
    FileRefused
        A module is not honoured.
    """
    if prefix and prompt_name:
        raise InputError("`prefix` and `prompt_name` both say what is put before texts: give one")
    if not prefix and (sentence or prompt_name):
        prefix = prompt_named(top_of(checkpoint.folder), prompt_name)
    modules = read_sentence_modules(checkpoint.with_modules()) if sentence else None
    try:
        prefix.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"`prefix` {prefix!r} is not valid Unicode text") from error
    limit = checkpoint.position_limit()
    if max_length is None:
        default = DEFAULT_MAX_LENGTH
        if modules is not None:
            default = modules.max_length or limit or default
        max_length = min(default, limit or default)
    if max_length < 3:
        raise InputError(f"max length {max_length} leaves no room for text: give at least 3 tokens")
    if limit is not None and max_length > limit:
        raise InputError(
            f"max length {max_length} is more than {checkpoint.name} can read: give at most {limit}"
        )
    return EncoderSpec(
        model=checkpoint.name,
        revision=checkpoint.revision,
        weights=checkpoint.weights_digest(),
        config=checkpoint.config_digest(),
        tokenizer=checkpoint.tokenizer_digest(),
        max_length=max_length,
        normalizer=versioned_name(normalize),
        quantization=QUANTIZATIONS[quantize],
        prefix=prefix,
        modules="" if modules is None else modules.digest,
    )
