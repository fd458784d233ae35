"""Explain what a head says of one tweet: a head and a text in, an `Explanation` out.

Which words moved it is found by leaving each of them out and encoding what is left, all of it in
one batch and as `predict` does. What is shown is how much the log-odds of the label fall without
the word. That is what the head does, and no account of why: words that say the same stand in for
each other, and a word that is left out leaves a text that nobody wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.base.arrays import Floats
from features.base.shown import NOT_UNICODE
from features.errors import CannotContinue, NotFinite
from features.spec.normalize import normalizer
from pipeline.explaining.logits import ViewShares, log_odds, view_shares
from pipeline.explaining.training import Training, find_training
from pipeline.explaining.words import without, words_of
from pipeline.head.head import Head
from pipeline.scoring.predict import encode_for

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder

FORMAT, VERSION = "frostline explanation", 1
# Words that are left out, each of which is a text more to encode. Encoders read about as many.
MOST_WORDS = 128


@dataclass(frozen=True)
class WordEffect:
    """What leaving a word out does: ``text[start:stop]``.

    Attributes
    ----------
    start, stop : int
    effect : float
        How much the log-odds of the label fall without it; below 0 they rise.
    proba : float64 array (K,)
        Without it.
    """

    start: int
    stop: int
    effect: float
    proba: Floats


@dataclass(frozen=True)
class Explanation:
    """What a head says of a text, and what moved it.

    Attributes
    ----------
    text : str
    labels : tuple of str, (K,)
    proba, logits : float64 arrays (K,)
    words : tuple of WordEffect
        In the order of the text.
    n_words : int
        Words of the text; those behind the first `MOST_WORDS` were not left out.
    truncated : bool
        Whether an encoder reads only the beginning of the text.
    novelty : float, optional
        How far it lies from the training tweets; above 1 is far. None where the head can't tell.
    views : ViewShares
    training : Training, optional
        The training tweets behind it, if they were asked for.
    """

    text: str
    labels: tuple[str, ...]
    proba: Floats
    logits: Floats
    words: tuple[WordEffect, ...]
    n_words: int
    truncated: bool
    novelty: float | None
    views: ViewShares
    training: Training | None = None

    @property
    def winner(self) -> int:
        """The class of the text, as `predict` gives it."""
        return winner_of(self.proba)

    @property
    def runner_up(self) -> int:
        """The most probable of the other classes."""
        return int(np.where(np.arange(len(self.proba)) == self.winner, -1, self.proba).argmax())

    def word(self, one: WordEffect) -> str:
        """Give a word itself."""
        return self.text[one.start : one.stop]

    def strongest(self) -> list[WordEffect]:
        """Give the words by the size of their effect, the strongest first."""
        return sorted(self.words, key=lambda one: -abs(one.effect))

    def remarks(self) -> list[str]:
        """Say what a reader should know before believing it, a line each."""
        lines = []
        if self.n_words > len(self.words):
            lines.append(
                f"the text has {self.n_words:,} words; the first {len(self.words)} were left out "
                "one by one, the others were not"
            )
        if self.truncated:
            lines.append("the text is longer than the head's model reads; its end has no effect")
        if self.novelty is not None and self.novelty > 1:
            lines.append(
                f"the text is unlike the training tweets (novelty {self.novelty:.2f}; 1 in 20 of "
                "their own kind is above 1)"
            )
        if self.training is not None and self.training.is_another_fit:
            lines.append(
                "the head was not fitted on just these rows and labels: a fit on them gives "
                f"log-odds of {self.training.of_refit:+.2f}, the head "
                f"{self.training.of_head:+.2f}; give the files that it was fitted on, and the "
                "corrections that were made then"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON types."""
        winner, runner_up = self.winner, self.runner_up
        base, parts = self.views.between(winner, runner_up)
        return {
            "format": FORMAT,
            "version": VERSION,
            "text": self.text,
            "label": self.labels[winner],
            "probabilities": self._by_label(self.proba),
            "log_odds": log_odds(self.logits, winner),
            "novelty": self.novelty,
            "words": [
                {
                    "word": self.word(one),
                    "start": one.start,
                    "stop": one.stop,
                    "effect": one.effect,
                    "label_without": self.labels[winner_of(one.proba)],
                    "probabilities_without": self._by_label(one.proba),
                }
                for one in self.words
            ],
            "words_in_text": self.n_words,
            "truncated": self.truncated,
            "remarks": self.remarks(),
            "views": {
                "measured_from": self.views.measured_from,
                "between": [self.labels[winner], self.labels[runner_up]],
                "difference": float(self.logits[winner] - self.logits[runner_up]),
                "base": base,
                "parts": dict(zip(self.views.names, parts.tolist(), strict=True)),
                "logits": self._by_label(self.logits),
                "base_logits": self._by_label(self.views.base),
                "part_logits": {
                    name: self._by_label(part)
                    for name, part in zip(self.views.names, self.views.parts, strict=True)
                },
            },
            "training": None if self.training is None else self.training.to_dict(),
        }

    def _by_label(self, values: Floats) -> dict[str, float]:
        return dict(zip(self.labels, values.tolist(), strict=True))


def explain(
    head: Head,
    text: str,
    encoders: Sequence[FrozenEncoder],
    *,
    training: str | Path | Sequence[str | Path] | None = None,
    corrections: str | Path | Sequence[str | Path] | None = None,
    number: int = 5,
    confirm: int = 2,
    memory: int | str | None = None,
) -> Explanation:
    """Say what a head makes of a text, and what moved it.

    Parameters
    ----------
    head : Head
    text : str
        As it was written.
    encoders : sequence of FrozenEncoder
        Those of the head, see `encoders_for`.
    training : path or sequence of paths, optional
        The vectors that the head was fitted on, to find the tweets behind it; see `find_training`.
    corrections, number, confirm, memory
        As for `find_training`.

    Raises
    ------
    CannotContinue
        The vector of the text, or of the text without one of its words, is not finite.
    InputError, FileRefused
        As `find_training` does.
    """
    text = NOT_UNICODE.sub("\ufffd", text)
    words = words_of(text)
    tried = words[:MOST_WORDS]
    try:
        X = encode_for(head, [text, *(without(text, word) for word in tried)], encoders)
    except NotFinite as error:
        raise CannotContinue(
            "the vector of the text, or of the text without one of its words, is not finite, in "
            "float32 too: the head's model can't read it"
        ) from error
    logits = X.astype(np.float64) @ head.coef.T + head.intercept
    # As `predict` does it, to the last bit.
    proba = head.predict_proba(X)
    winner = winner_of(proba[0])
    odds = [log_odds(one, winner) for one in logits]
    found = None
    if training is not None:
        found = find_training(
            head,
            training,
            X[0],
            winner,
            corrections=corrections,
            number=number,
            confirm=confirm,
            memory=memory,
        )
    return Explanation(
        text,
        head.labels,
        proba[0],
        logits[0],
        tuple(
            WordEffect(word.start, word.stop, odds[0] - odds[n], proba[n])
            for n, word in enumerate(tried, 1)
        ),
        len(words),
        any(_is_truncated(one, text) for one in encoders),
        None if head.novelty is None else float(head.novelty.of(X[:1])[0]),
        view_shares(head, X[0], None if found is None else found.mean),
        found,
    )


def winner_of(proba: Floats) -> int:
    """Give the class of a text as `predict` does, from (K,): by the digits that it prints."""
    return int(proba.round(6).argmax())


def _is_truncated(encoder: FrozenEncoder, text: str) -> bool:
    return encoder.tokenize([normalizer(encoder.spec.normalizer)(text)]).truncated[0]
