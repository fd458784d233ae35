"""Turn texts into token ids with a model's own tokenizer, under our rules for texts.

In come texts that are normalised already (`features/spec/normalize.py`), out come token ids. A text
that contains "[SEP]" contains these five characters, not a special token; it is cut to `max_length`
and never padded, whatever the tokenizer's files ask for. transformers loads a tokenizer once; what
it finds can be kept as a file, and opened again without transformers.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from features.errors import foreign
from features.spec.checkpoint import Checkpoint


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


@dataclass(frozen=True)
class Vocabulary:
    """The facts of a tokenizer besides how it cuts texts.

    Attributes
    ----------
    prefix, suffix : int
        Special tokens that it puts before and behind a text.
    padding_id, unknown_id : int
        The token to pad with, and the one for what it doesn't know.
    n_tokens : int
        How many it knows.
    special : tuple of int
        The tokens that no text may say, ascending.
    truncation_side : str
        `right` or `left`.
    """

    prefix: int
    suffix: int
    padding_id: int
    unknown_id: int
    n_tokens: int
    special: tuple[int, ...]
    truncation_side: str

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Vocabulary:
        """Read what `to_dict` gave."""
        return cls(**{**content, "special": tuple(content["special"])})


# A word in a vocabulary that starts with a capital, with the mark that some put before words.
_CAPITALISED = re.compile("[▁Ġ]?([A-Z][A-Za-z]+)")
# A vocabulary is cased where so many of its pieces are such words; in those of cased models it is a
# fifth and more, in others it is none.
_CASED_SHARE = 0.01
_TRIED_WORDS = 20

# From texts to their token ids, and whether each was cut.
Cut = Callable[[Sequence[str]], tuple[list[list[int]], list[bool]]]


class TextTokenizer:
    """A tokenizer that is ready to run; made by `load_tokenizer` or `open_tokenizer`.

    Attributes
    ----------
    vocabulary : Vocabulary
    content : str or None
        Its tokenizer.json, as it is used; None where it is not a fast one.
    """

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        cut: Cut,
        pieces: Callable[[], Collection[str]],
        content: str | None,
    ) -> None:
        self.vocabulary, self.content = vocabulary, content
        self._name, self._cut, self._pieces = name, cut, pieces
        self._special = frozenset(vocabulary.special)

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
            found, truncated = self._cut(texts)
            return Tokens([self._as_array(ids) for ids in found], truncated)

    def loses_case(self) -> bool:
        """Tell whether it lower-cases texts although its vocabulary holds words with capitals.

        BERT's tokenizers do so where nothing in the folder says that the model is cased.
        """
        if self._cut(["A bC"])[0] != self._cut(["a bc"])[0]:
            return False
        pieces = self._pieces()
        words = [found[1] for piece in pieces if (found := _CAPITALISED.fullmatch(piece))]
        if not words or len(words) < _CASED_SHARE * len(pieces):
            return False
        some = sorted(words)[:: -(-len(words) // _TRIED_WORDS)]
        return self._cut(some)[0] == self._cut([word.lower() for word in some])[0]

    def _as_array(self, ids: Sequence[int]) -> npt.NDArray[np.int32]:
        """Give the ids of a text as an array, special tokens in its content as unknown ones.

        An unknown token stands for an empty text of which a tokenizer makes none.

        Some vocabularies hold special tokens as pieces of text too, so that a tweet that says
        "[SEP]" would end itself: such pieces are unknown.
        """
        unknown = self.vocabulary.unknown_id
        content = slice(self.vocabulary.prefix, len(ids) - self.vocabulary.suffix)
        if not self._special.isdisjoint(ids[content]):
            ids = [
                *ids[: content.start],
                *(unknown if token in self._special else token for token in ids[content]),
                *ids[content.stop :],
            ]
        return np.asarray(ids if len(ids) else [unknown], dtype=np.int32)


def load_tokenizer(checkpoint: Checkpoint, max_length: int) -> TextTokenizer:
    """Load the tokenizer of a checkpoint, as transformers understands its files.

    Parameters
    ----------
    checkpoint : Checkpoint
    max_length : int
        Tokens that are read of a text, special tokens included.

    Raises
    ------
    FileRefused
        It cannot be loaded, or not run.
    """
    import transformers

    with foreign(f"model {checkpoint.name!r}: its tokenizer cannot be loaded"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            checkpoint.folder,
            trust_remote_code=False,
            local_files_only=True,
            split_special_tokens=True,
            model_max_length=sys.maxsize,
        )
    with foreign(f"model {checkpoint.name!r}: its tokenizer cannot read texts"):
        mask = tokenizer("a b", return_special_tokens_mask=True)["special_tokens_mask"]
    # Padding is masked, so that any id will do where the tokenizer has none; but models that
    # number positions by what is not padding need the right one.
    padding_id = int(tokenizer.pad_token_id or 0)
    vocabulary = Vocabulary(
        prefix=mask.index(0) if 0 in mask else len(mask),
        suffix=mask[::-1].index(0) if 0 in mask else 0,
        padding_id=padding_id,
        unknown_id=int(tokenizer.unk_token_id or padding_id),
        n_tokens=len(tokenizer),
        special=tuple(sorted({*tokenizer.all_special_ids} - {tokenizer.unk_token_id})),
        truncation_side=tokenizer.truncation_side,
    )
    if tokenizer.is_fast:
        fast = tokenizer.backend_tokenizer
        cut = _fast(fast, max_length, vocabulary.truncation_side)
        return TextTokenizer(checkpoint.name, vocabulary, cut, _learned(fast), fast.to_str())

    def slowly(texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        full = tokenizer(list(texts), truncation=False, padding=False, verbose=False)
        kept = tokenizer(list(texts), truncation=True, max_length=max_length, padding=False)
        return kept["input_ids"], [len(ids) > max_length for ids in full["input_ids"]]

    return TextTokenizer(checkpoint.name, vocabulary, slowly, tokenizer.get_vocab, None)


def open_tokenizer(
    name: str, content: str, vocabulary: Vocabulary, max_length: int
) -> TextTokenizer:
    """Open what an earlier `load_tokenizer` found out, without transformers."""
    with foreign(f"model {name!r}: its tokenizer cannot be loaded"):
        fast = tokenizers.Tokenizer.from_str(content)
    cut = _fast(fast, max_length, vocabulary.truncation_side)
    return TextTokenizer(name, vocabulary, cut, _learned(fast), content)


def _learned(fast: tokenizers.Tokenizer) -> Callable[[], Collection[str]]:
    """Give what lists the pieces of a tokenizer, without those that were added by hand."""
    return lambda: fast.get_vocab(with_added_tokens=False)


def _fast(fast: tokenizers.Tokenizer, max_length: int, truncation_side: str) -> Cut:
    fast.no_padding()
    fast.enable_truncation(max_length, direction=truncation_side)
    fast.encode_special_tokens = True  # it is no part of its file

    def cut(texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        encodings = fast.encode_batch_fast(list(texts))
        return [e.ids for e in encodings], [bool(e.overflowing) for e in encodings]

    return cut
