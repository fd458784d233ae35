"""Lay out an explanation for a terminal: the tweet in colours, words, views, training tweets."""

from __future__ import annotations

import textwrap
from itertools import islice

from features.base.shown import printable, shown
from pipeline.explaining.explain import Explanation, WordEffect, winner_of
from pipeline.explaining.training import Training, TrainingTweet
from pipeline.report.layout import COLUMNS, table, table_with_texts

# Words that are listed; all are coloured. Characters that are shown of the tweet, of a word, and of
# a training tweet.
_SHOWN, _OF_TWEET, _OF_WORD, _OF_TRAINING = 10, 1000, 24, 100
# What speaks for the label is green, what speaks against it red, the strongest in bold.
_FOR, _AGAINST, _STRONG, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"
# Shares of the strongest effect from which on a word is coloured, and is bold.
_COLOURED, _BOLD = 0.15, 0.5


def explanation_text(found: Explanation, *, colours: bool) -> str:
    """Say what a head makes of a text, and what moved it.

    Parameters
    ----------
    found : Explanation
    colours : bool
        Whether escape sequences may be in it.
    """
    label = printable(found.labels[found.winner])
    order = found.proba.argsort(kind="stable")[::-1]
    probabilities = ", ".join(f"{printable(found.labels[k])} {found.proba[k]:.3f}" for k in order)
    parts = [
        f"{label}\n{textwrap.fill(probabilities, COLUMNS)}",
        _tweet(found, colours=colours),
        *(textwrap.fill(f"! {line}", COLUMNS) for line in found.remarks()),
        _words(found, label),
        _views(found, label),
    ]
    if found.training is not None:
        parts.append(_training(found.training, label))
    return "\n\n".join(part for part in parts if part)


def _tweet(found: Explanation, *, colours: bool) -> str:
    """Show the text, its words in colours."""
    strongest = max((abs(one.effect) for one in found.words), default=0.0)
    pieces, at = [], 0
    for one in found.words:
        if one.stop > _OF_TWEET:
            break
        pieces.append(printable(found.text[at : one.start]))
        word = printable(found.word(one))
        pieces.append(_coloured(word, one, strongest) if colours else word)
        at = one.stop
    rest = found.text[at:_OF_TWEET] if at < _OF_TWEET else ""
    cut = " …" if len(found.text) > max(at, _OF_TWEET) else ""
    return "".join(pieces) + printable(rest) + cut


def _coloured(word: str, one: WordEffect, strongest: float) -> str:
    if abs(one.effect) < _COLOURED * strongest or not strongest:
        return word
    bold = _STRONG if abs(one.effect) >= _BOLD * strongest else ""
    return f"{bold}{_FOR if one.effect > 0 else _AGAINST}{word}{_PLAIN}"


def _words(found: Explanation, label: str) -> str:
    if not found.words:
        return "There is no word to leave out."
    rows: list[list[object]] = [["word", "effect", "p without it", "label without it"]]
    for one in islice(found.strongest(), _SHOWN):
        without = winner_of(one.proba)
        rows.append(
            [
                shown(found.word(one)[:_OF_WORD]),
                f"{one.effect:+.2f}",
                f"{one.proba[found.winner]:.3f}",
                found.labels[without],
            ]
        )
    more = len(found.words) - _SHOWN
    rest = f"\n… and {more} more" if more > 0 else ""
    return f"Words: how much the log-odds of {label} fall without each\n{table(rows)}{rest}"


def _views(found: Explanation, label: str) -> str:
    runner_up = printable(found.labels[found.runner_up])
    base, parts = found.views.between(found.winner, found.runner_up)
    total = found.logits[found.winner] - found.logits[found.runner_up]
    rows: list[list[object]] = [["part", "adds"], [found.views.measured_from, f"{base:+.3f}"]]
    rows += [[name, f"{part:+.3f}"] for name, part in zip(found.views.names, parts, strict=True)]
    rows.append(["together", f"{total:+.3f}"])
    return f"Views: what each adds to the logit of {label} less that of {runner_up}\n{table(rows)}"


def _training(found: Training, label: str) -> str:
    text = (
        f"Training tweets: how much the log-odds of {label} would fall without each, of "
        f"{found.tweets:,}, estimated; confirmed by a fit without it"
    )
    parts = [textwrap.fill(text, COLUMNS)]
    for name, some in (("for", found.speaking_for), ("against", found.speaking_against)):
        if not some:
            parts.append(f"None speaks {name} {label}.")
            continue
        rows: list[list[object]] = [["label", "effect", "confirmed"]]
        rows += [[one.label, f"{one.effect:+.4f}", _confirmed(one)] for one in some]
        parts.append(table_with_texts(rows, [f"speaking {name} {label}", *map(_named, some)]))
    return "\n\n".join(parts)


def _named(one: TrainingTweet) -> str:
    """Name a tweet: by its text where that is known, else by its id; and its copies."""
    name = shown(one.id) if one.text is None else _cut(one.text, _OF_TRAINING)
    return (f"{one.copies} times: " if one.copies > 1 else "") + name


def _confirmed(one: TrainingTweet) -> str:
    return "" if one.confirmed is None else f"{one.confirmed:+.4f}"


def _cut(text: str, most: int) -> str:
    text = printable(" ".join(text.split()))
    return text if len(text) <= most else text[: most - 1] + "…"
