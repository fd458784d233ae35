"""Texts in, token ids out: a model's own tokenizer, with our rules of what a text may say.

A text that says "[SEP]" says these five characters; it is cut to `max_length` and never padded,
whatever the tokenizer's files ask for. Texts are normalised already (`features/normalize.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import transformers

from features.checkpoint import Checkpoint
from features.errors import foreign


@dataclass(frozen=True)
class Tokens:
    """Texts as token ids, special tokens included.

    Attributes
    ----------
    ids : list of int32 arrays
        One a text, of at most `max_length`.
    truncated : list of bool
        Whether the text had more tokens than that.
    """

    ids: list[npt.NDArray[np.int32]]
    truncated: list[bool]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(ids) for ids in self.ids]


class TextTokenizer:
    """The tokenizer of a checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
    max_length : int
        Tokens that are read of a text, special tokens included.

    Attributes
    ----------
    prefix, suffix : int
        Special tokens that it puts before and behind a text.
    padding_id : int
        The token to pad with.
    n_tokens : int
        How many it knows.
    """

    def __init__(self, checkpoint: Checkpoint, max_length: int) -> None:
        self._name, self._max_length = checkpoint.name, max_length
        with foreign(f"model {checkpoint.name!r}: its tokenizer cannot be loaded"):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                checkpoint.folder,
                trust_remote_code=False,
                local_files_only=True,
                split_special_tokens=True,
                model_max_length=sys.maxsize,
            )
        self._tokenizer = tokenizer
        with foreign(f"model {checkpoint.name!r}: its tokenizer cannot read texts"):
            mask = tokenizer("a b", return_special_tokens_mask=True)["special_tokens_mask"]
        self.prefix = mask.index(0) if 0 in mask else len(mask)
        self.suffix = mask[::-1].index(0) if 0 in mask else 0
        self.n_tokens = len(tokenizer)
        # Padding is masked, so that any id will do where the tokenizer has none; but models that
        # number positions by what is not padding need the right one.
        self.padding_id = int(tokenizer.pad_token_id or 0)
        self._unknown_id = int(tokenizer.unk_token_id or self.padding_id)
        self._special = frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Turn normalised texts into token ids, cut to `max_length`.

        Raises
        ------
        FileRefused
            The tokenizer fails at one of them.
        """
        if not texts:
            return Tokens([], [])
        with foreign(f"model {self._name!r}: its tokenizer cannot read texts"):
            return self._tokenized(texts)

    def _tokenized(self, texts: Sequence[str]) -> Tokens:
        limit = self._max_length
        if self._tokenizer.is_fast:
            fast = self._tokenizer.backend_tokenizer
            fast.no_padding()
            fast.enable_truncation(limit, direction=self._tokenizer.truncation_side)
            encodings = fast.encode_batch_fast(list(texts))
            return Tokens(
                [self._as_array(encoding.ids) for encoding in encodings],
                [bool(encoding.overflowing) for encoding in encodings],
            )
        whole = self._tokenizer(list(texts), truncation=False, padding=False, verbose=False)
        cut = self._tokenizer(list(texts), truncation=True, max_length=limit, padding=False)
        return Tokens(
            [self._as_array(ids) for ids in cut["input_ids"]],
            [len(ids) > limit for ids in whole["input_ids"]],
        )

    def _as_array(self, ids: Sequence[int]) -> npt.NDArray[np.int32]:
        """Token ids of a text; one unknown token where a tokenizer makes none of an empty text.

        Some vocabularies hold special tokens as pieces of text too, so that a tweet that says "[SEP]"
        would end itself: such pieces are unknown.
        """
        content = slice(self.prefix, len(ids) - self.suffix)
        if not self._special.isdisjoint(ids[content]):
            ids = [
                *ids[: content.start],
                *(self._unknown_id if token in self._special else token for token in ids[content]),
                *ids[content.stop :],
            ]
        return np.asarray(ids if len(ids) else [self._unknown_id], dtype=np.int32)
