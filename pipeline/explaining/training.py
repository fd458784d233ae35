"""Find the training tweets behind what a head says of a vector: those that speak for it or against.

In come a head, the vectors that it was fitted on and the vector in question, out come the tweets
without which the log-odds of the label would change most. All of them are estimated at once
(`pipeline/solver/influence.py`); the strongest are confirmed by models that are fitted without
them, on all the other rows. Rows of one text are one tweet: they go together. The C, the scales of
the views and the calibration stay the head's. No head is changed, and no encoder runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from features.base.arrays import Floating, Floats, Indices
from features.base.machine import bytes_of
from features.errors import InputError
from features.tweets.reader import Reject, Tweet
from pipeline.data.conflicts import HANDLINGS, settle
from pipeline.data.corrections import correct
from pipeline.data.join import Joined, open_joined
from pipeline.data.labelled_rows import validation_rows
from pipeline.evaluation.folds import number_texts
from pipeline.explaining.logits import log_odds
from pipeline.explaining.refits import refit
from pipeline.head.head import Head
from pipeline.labelling.next_rows import texts_of

# Log-odds of the same fit, ended at another certificate, differ by less.
_CLOSE = 0.02


@dataclass(frozen=True)
class TrainingTweet:
    """A tweet that the head was fitted on, and what it does to a prediction.

    Attributes
    ----------
    id : str
        Of its first row.
    row : int
        The number of that row in the file, from 0; in the first one where several are joined.
    copies : int
        Rows of the same text, which were left out together.
    label : str
        Of its first row.
    effect : float
        How much the log-odds of the label would fall without it, estimated.
    confirmed : float, optional
        The same by a model that was fitted without it.
    text : str, optional
    """

    id: str
    row: int
    copies: int
    label: str
    effect: float
    confirmed: float | None = None
    text: str | None = None


@dataclass(frozen=True)
class Training:
    """The training tweets behind what a head says of a vector.

    Attributes
    ----------
    speaking_for, speaking_against : tuple of TrainingTweet
        The strongest first.
    rows, tweets : int
        Labelled rows, and different texts among them.
    of_head, of_refit : float
        The log-odds of the label by the head, and by a model fitted on these rows as the head was.
    same_rows : bool
        Whether each class has as many rows as the head says that it had.
    mean : float64 array (D,)
        Of the vectors.
    """

    speaking_for: tuple[TrainingTweet, ...]
    speaking_against: tuple[TrainingTweet, ...]
    rows: int
    tweets: int
    of_head: float
    of_refit: float
    same_rows: bool
    mean: Floats

    @property
    def listed(self) -> list[TrainingTweet]:
        """All of them."""
        return [*self.speaking_for, *self.speaking_against]

    @property
    def is_another_fit(self) -> bool:
        """Whether the head was plainly not fitted on these rows with these labels."""
        return not self.same_rows or abs(self.of_refit - self.of_head) > _CLOSE

    def with_texts(self, tweets: Iterable[Tweet | Reject]) -> Training:
        """Find the texts of the tweets that are listed, by their ids."""
        ids = [one.id for one in self.listed]
        texts = dict(zip(ids, texts_of(ids, tweets), strict=True))

        def told(some: tuple[TrainingTweet, ...]) -> tuple[TrainingTweet, ...]:
            return tuple(replace(one, text=texts[one.id]) for one in some)

        return replace(
            self,
            speaking_for=told(self.speaking_for),
            speaking_against=told(self.speaking_against),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON types."""
        return {
            "rows": self.rows,
            "tweets": self.tweets,
            "log_odds_of_head": self.of_head,
            "log_odds_of_refit": self.of_refit,
            "for": [_record(one) for one in self.speaking_for],
            "against": [_record(one) for one in self.speaking_against],
        }


def _record(one: TrainingTweet) -> dict[str, Any]:
    names = ("id", "row", "copies", "label", "effect", "confirmed", "text")
    return {name: getattr(one, name) for name in names}


def find_training(
    head: Head,
    features: str | Path | Sequence[str | Path],
    x: Floating,
    label: int,
    *,
    corrections: str | Path | Sequence[str | Path] | None = None,
    number: int = 5,
    confirm: int = 2,
    memory: int | str | None = None,
) -> Training:
    """Find the training tweets behind the label of a vector.

    Parameters
    ----------
    head : Head
        Says which views, which C, which scales of the views and which class weights.
    features : path or sequence of paths
        The vectors that it was fitted on.
    x : float array (D,)
    label : int
        Code of a label of the head.
    corrections : path or sequence of paths, optional
        Labels that were corrected when the head was fitted; see `correct`.
    number : int
        Tweets to list that speak for the label, and as many that speak against it.
    confirm : int
        How many of each are confirmed, by fits without them.
    memory : int or str, optional
        As for `fit`.

    Raises
    ------
    InputError
        `number` is below 1 or `confirm` below 0, no row is labelled, a label is none of the head's,
        or the head does not say its C.
    FileRefused
        The vectors are of another encoder.
    """
    if number < 1 or confirm < 0:
        raise InputError(
            f"`number` is {number} and `confirm` {confirm}; list at least 1 tweet, and confirm 0 "
            "or more"
        )
    with open_joined(features) as stores:
        stores, _ = settle(correct(stores, corrections)[0], _handling(head))
        rows = validation_rows(stores, head.sources, head.labels)
        fitted = refit(head, rows, x, label, memory=bytes_of(memory))
        tweets = number_texts(rows.texts)
        # Rows that come together go together: to the first order, their effects add up.
        effects = np.bincount(tweets, fitted.estimated()).astype(np.float64)
        chosen = _strongest(effects, number)
        above = sum(effects[one] > 0 for one in chosen)
        confirmed = [*chosen[:above][:confirm], *chosen[above:][:confirm]]
        falls = fitted.without([tweets == one for one in confirmed])
        real = dict(zip(confirmed, falls, strict=True))
        listed = [
            _told(stores, np.flatnonzero(tweets == one), float(effects[one]), real.get(one))
            for one in chosen
        ]
    class_rows = np.bincount(rows.y, minlength=len(head.labels)).tolist()
    return Training(
        tuple(one for one in listed if one.effect > 0),
        tuple(one for one in listed if one.effect < 0),
        len(tweets),
        len(effects),
        log_odds(head.coef @ fitted.x + head.intercept, label),
        log_odds(fitted.logits(fitted.solution), label),
        head.metadata.get("class_rows", class_rows) == class_rows,
        fitted.mean,
    )


def _told(stores: Joined, rows: Indices, effect: float, confirmed: float | None) -> TrainingTweet:
    """Describe a tweet by its rows among the labelled ones."""
    labelled = np.flatnonzero(stores.codes >= 0)
    first = int(labelled[rows[0]])
    return TrainingTweet(
        stores.ids(slice(first, first + 1))[0],
        int(np.flatnonzero(stores.kept[0])[first]) if stores.kept else first,
        len(rows),
        stores.label_names[stores.codes[first]],
        effect,
        confirmed,
    )


def _strongest(effects: Floats, number: int) -> list[int]:
    """Give the tweets of the largest effects above 0, then those of the least below it."""
    order = np.argsort(-effects, kind="stable")
    above = [int(one) for one in order[:number] if effects[one] > 0]
    return above + [int(one) for one in order[::-1][:number] if effects[one] < 0]


def _handling(head: Head) -> str:
    """Give what the head's fit did with texts of several labels; heads of before kept them."""
    record = head.metadata.get("conflicts")
    handling = record.get("handling") if isinstance(record, dict) else None
    return str(handling) if handling in HANDLINGS else "keep"
