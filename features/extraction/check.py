"""Look at input files as `extract` would read them, without a model, and say what is odd.

In go files and what was said about them, out comes an `InputReport`: formats, columns, labels,
rejects with their reasons, doubles, texts with conflicting labels, lengths, scripts, and some rows
before and after normalising. Memory is bounded but for the distinct texts, of which a hash is kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from features.errors import LOUD_SHARE, REFUSED_SHARE
from features.spec.normalize import normalizer, versioned_name
from features.tweets.columns import Columns
from features.tweets.reader import Reject, Tweet, TweetReader
from features.tweets.table import InputFormat

# Rows that are shown, and rejects and conflicts of which an example is.
_SHOWN, _EXAMPLES = 5, 3
# Different reasons that are counted.
_REASONS = 100
# Rows that are counted together; after each, the share of the work is told.
_STEP = 256
_DIGITS = re.compile(r"\d+")
# Ranges of letters by script, for those that tweets are written in most.
_SCRIPTS = {
    "Latin": "A-Za-z\u00c0-\u024f",
    "Cyrillic": "\u0400-\u052f",
    "Greek": "\u0370-\u03ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Hebrew": "\u0590-\u05ff",
    "Devanagari": "\u0900-\u097f",
    "Thai": "\u0e00-\u0e7f",
    "Hangul": "\u1100-\u11ff\uac00-\ud7af",
    "Kana": "\u3040-\u30ff",
    "Han": "\u4e00-\u9fff",
}
_LETTERS = {name: re.compile(f"[{letters}]") for name, letters in _SCRIPTS.items()}


@dataclass(frozen=True)
class Conflict:
    """A text that comes with several labels, and how often with each."""

    text: str
    labels: dict[str, int]


@dataclass(frozen=True)
class Example:
    """A row as it will be seen: before and after normalising."""

    id: str
    label: str | None
    text: str
    normalised: str


@dataclass(frozen=True)
class InputReport:
    """What files hold, as `extract` would read them.

    Attributes
    ----------
    rows, tweets, rejected : int
        Rows read; those that can be used, and those that can't.
    reasons : dict of str to int
        Why rows are rejected, numbers left out; `examples_of_rejects` has the first ones.
    read : dict of str to str
        By file: columns and format.
    left : dict of str to list of str
        By file: the columns that are not read.
    labels, missing_labels : dict of str to int
    label_variants : list of list of str
        Labels that differ in case and blanks alone.
    empty, repaired : int
        Tweets without text, and with bytes that were no text.
    same_texts, doubled_ids : int
        Rows whose text, or id, an earlier row has.
    conflicts : int
        Texts that come with several labels; `examples_of_conflicts` has the first ones.
    characters : dict of str to int
        `median`, `longest` and `mean` of the lengths of texts.
    scripts : dict of str to int
        Tweets by the script that their first letter is of; `none` without one.
    examples : list of Example
    remarks : list of str
        What there is to say besides.
    verdict : str
        `fine`, `look` where something is odd, or `refused` where `extract` would end with an error.
    """

    rows: int
    tweets: int
    rejected: int
    reasons: dict[str, int]
    examples_of_rejects: list[dict[str, Any]]
    read: dict[str, str]
    left: dict[str, list[str]]
    labels: dict[str, int]
    missing_labels: dict[str, int]
    label_variants: list[list[str]]
    empty: int
    repaired: int
    same_texts: int
    doubled_ids: int
    conflicts: int
    examples_of_conflicts: list[Conflict]
    characters: dict[str, int]
    scripts: dict[str, int]
    examples: list[Example]
    remarks: list[str]
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON types."""
        return asdict(self)


def check(
    inputs: Sequence[str | Path],
    columns: Columns = Columns(),  # noqa: B008 - it is frozen
    written: InputFormat = InputFormat(),  # noqa: B008 - it is frozen
    *,
    normalize: str = "tweeteval",
    progress: Callable[[float], None] = lambda share: None,
) -> InputReport:
    """Read files as `extract` does, and say what is in them.

    Parameters
    ----------
    inputs : sequence of paths
    columns, written
        See `TweetReader`.
    normalize : str
        How the examples are normalised.
    progress : callable
        Told the share that is read, from time to time.

    Raises
    ------
    InputError, FileRefused
        A file can't be read at all.
    """
    reader = TweetReader(inputs, columns, written=written)
    seen = _Seen()
    rows = iter(reader)
    while batch := list(islice(rows, _STEP)):
        seen.add_tweets([row for row in batch if isinstance(row, Tweet)])
        for row in batch:
            if isinstance(row, Reject):
                seen.add_reject(row)
        progress(reader.fraction_read() or 0.0)
    normalise = normalizer(versioned_name(normalize))
    findings = reader.findings
    remarks = list(findings.remarks())
    share = len(seen.rejects) and seen.n_rejects / reader.rows_read
    odd = bool(remarks or seen.conflicts or share > LOUD_SHARE)
    refused = share > REFUSED_SHARE or not seen.n_tweets
    return InputReport(
        rows=reader.rows_read,
        tweets=seen.n_tweets,
        rejected=seen.n_rejects,
        reasons=dict(seen.reasons.most_common()),
        examples_of_rejects=[asdict(reject) for reject in seen.rejects],
        read={name: str(file) for name, file in findings.files.items()},
        left={name: list(file.left) for name, file in findings.files.items()},
        labels=dict(sorted(findings.labels.items())),
        missing_labels=dict(findings.missing_labels),
        label_variants=findings.label_variants(),
        empty=seen.empty,
        repaired=seen.repaired,
        same_texts=seen.n_tweets - len(seen.first_labels),
        doubled_ids=findings.doubled_ids,
        conflicts=len(seen.conflicts),
        examples_of_conflicts=[
            Conflict(text, dict(labels))
            for text, labels in list(seen.conflicts.values())[:_EXAMPLES]
        ],
        characters=_lengths(seen.lengths, seen.n_tweets),
        scripts=dict(seen.scripts.most_common()),
        examples=[
            Example(tweet.id, tweet.label, tweet.text, normalise(tweet.text))
            for tweet in seen.tweets
        ],
        remarks=remarks,
        verdict="refused" if refused else "look" if odd else "fine",
    )


@dataclass
class _Seen:
    """What was seen of the rows so far."""

    n_tweets: int = 0
    n_rejects: int = 0
    empty: int = 0
    repaired: int = 0
    tweets: list[Tweet] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)
    # By the hash of the text: its first label, how often that came again, and the labels of texts
    # that have several.
    first_labels: dict[int, str | None] = field(default_factory=dict)
    repeats: Counter[int] = field(default_factory=Counter)
    conflicts: dict[int, tuple[str, Counter[str]]] = field(default_factory=dict)

    def add_tweets(self, tweets: list[Tweet]) -> None:
        """Count some tweets."""
        self.n_tweets += len(tweets)
        self.tweets += tweets[: _SHOWN - len(self.tweets)]
        texts = [tweet.text for tweet in tweets]
        self.repaired += sum(tweet.repaired for tweet in tweets)
        self.empty += sum(not text or text.isspace() for text in texts)
        self.lengths.update(map(len, texts))
        self.scripts.update(map(script_of, texts))
        first_labels = self.first_labels
        for key, tweet in zip(map(hash, texts), tweets, strict=True):
            if key not in first_labels:
                first_labels[key] = tweet.label
            elif tweet.label is not None:
                self._add_label(key, tweet.text, tweet.label)

    def _add_label(self, key: int, text: str, label: str) -> None:
        """Count the label of a text that was there before."""
        first = self.first_labels[key]
        if first is None:
            self.first_labels[key] = label
        elif key in self.conflicts:
            self.conflicts[key][1][label] += 1
        elif first == label:
            self.repeats[key] += 1
        else:
            self.conflicts[key] = text, Counter({first: 1 + self.repeats[key], label: 1})

    def add_reject(self, reject: Reject) -> None:
        """Count a reject."""
        self.n_rejects += 1
        if len(self.rejects) < _EXAMPLES:
            self.rejects.append(reject)
        # Without what differs from row to row: numbers, and what is quoted from the file.
        reason = _DIGITS.sub("N", reject.reason.partition(": ")[0])
        if reason in self.reasons or len(self.reasons) < _REASONS:
            self.reasons[reason] += 1


def script_of(text: str) -> str:
    """Name the script of a text's first letter; `none` where there is none, `other` if unknown.

    Examples
    --------
    >>> script_of("@user 123 Schön"), script_of("привет"), script_of("!?")
    ('Latin', 'Cyrillic', 'none')
    """
    first = text[:1]
    if first.isascii() and first.isalpha():  # most begin so
        return "Latin"
    if text.isascii():
        return "Latin" if _LETTERS["Latin"].search(text) else "none"
    for letter in text:
        if letter.isalpha():
            return next((name for name, found in _LETTERS.items() if found.match(letter)), "other")
    return "none"


def _lengths(lengths: Mapping[int, int], n: int) -> dict[str, int]:
    """Summarise lengths that were counted."""
    if not n:
        return {}
    below = 0
    for median in sorted(lengths):
        below += lengths[median]
        if 2 * below >= n:
            break
    mean = round(sum(length * count for length, count in lengths.items()) / n)
    return {"median": median, "mean": mean, "longest": max(lengths)}
