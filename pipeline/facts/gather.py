"""Gather all facts of a report on one screen: a head and open stores in, facts and points out.

Nothing is written, and no page is drawn: that is for `pipeline/page` and `markdown`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.base.arrays import Codes
from features.base.machine import bytes_of
from features.tweets.reader import Reject, Tweet
from pipeline.data.conflicts import Conflicts, settle
from pipeline.data.join import Joined
from pipeline.facts.changes import Against, changes_of, codes_of
from pipeline.facts.checks.checks import checks_of
from pipeline.facts.checks.subject import Subject
from pipeline.facts.curves import confusion_of, precision_recall, reliability
from pipeline.facts.facts import ClassRows, DataFacts, Duplicates, Facts, Lengths, Points
from pipeline.facts.figures import LearningCurve
from pipeline.facts.judges.doubts import doubts_of
from pipeline.facts.judges.judged import Judged, judge_rows
from pipeline.facts.judges.scored_rows import ScoredRows, score_rows
from pipeline.facts.learning_curve import learning_curve
from pipeline.facts.lists import Sheet, mistakes, suspects, uncertain
from pipeline.facts.plane import described_map, on_plane
from pipeline.facts.provenance import choice_of, head_facts, provenance_of
from pipeline.facts.scripts import scripts_of
from pipeline.facts.verdict import verdict_of
from pipeline.fitting.changes import Changes
from pipeline.head.head import Head
from pipeline.labelling.next_rows import texts_of

# Bins of the lengths, about.
_BINS = 24


@dataclass(frozen=True)
class Source:
    """Where what a report is of comes from.

    Attributes
    ----------
    head_file : str
    files : tuple of str
        Of vectors.
    command : str
        That makes the report again.
    tweets : iterable of Tweet or Reject, optional
        The tweets that the vectors are of; without, the report has no texts.
    against : Against, optional
        Another head to compare with.
    corrections : int
        Rows whose label was corrected.
    memory : int or str, optional
        Bytes of vectors to hold; default a quarter of what is free.
    map : str
        How rows are put on the plane; one of `MAPS` of `plane`.
    """

    head_file: str
    files: tuple[str, ...]
    command: str
    tweets: Iterable[Tweet | Reject] | None = None
    against: Against | None = None
    corrections: int = 0
    memory: int | str | None = None
    map: str = "pca"


def gather(head: Head, stores: Joined, source: Source) -> tuple[Facts, Points]:
    """Find out all that a report says.

    Parameters
    ----------
    head : Head
    stores : Joined
        Vectors of the head's encoders.
    source : Source

    Raises
    ------
    InputError
        No row has a label, one has a label that the head does not know, or a tweet is missing.
    FileRefused
        The vectors are of another encoder.
    """
    memory = bytes_of(source.memory)
    scored = score_rows(head, stores)
    texts = None if source.tweets is None else texts_of(scored.ids, source.tweets)
    judged = judge_rows(head, stores, scored, memory)
    sheet = _sheet(head, stores, scored, judged, texts)
    doubts = doubts_of(head, judged, memory)
    curve, why = _curve(head, judged)
    _, conflicts = settle(stores, "keep")
    choice = choice_of(head)
    checks = checks_of(Subject(head, stores, scored, judged, conflicts, choice))
    metrics, y = judged.metrics, judged.rows.y
    facts = Facts(
        verdict=verdict_of(metrics, judged, checks),
        head=head_facts(head, source.head_file),
        data=_data(head, scored, judged, conflicts, source.files, texts),
        checks=checks,
        choice=choice,
        metrics=metrics.to_dict() | {"measured_on": judged.measured_on},
        confusion=confusion_of(head.labels, metrics.confusion),
        precision_recall=precision_recall(y, judged.proba, head.labels),
        reliability=reliability(y, judged.proba, judged.before, judged.weight),
        learning_curve=curve,
        mistakes=mistakes(sheet, judged.at),
        uncertain=uncertain(sheet),
        suspects=() if doubts.doubts is None else suspects(sheet, judged.at, doubts.doubts),
        changes=_changes(head, stores, judged, source),
        provenance=provenance_of(head, source.head_file, stores, source.files, source.command)
        | {"map": described_map(source.map)},
        left_out=(*why, *doubts.left_out, *_other_labels(head, judged)),
    )
    return facts, _points(sheet, on_plane(head, stores, source.map))


def _sheet(
    head: Head, stores: Joined, scored: ScoredRows, judged: Judged, texts: list[str] | None
) -> Sheet:
    """Put together what is said of all rows: by the judges of labelled ones, else by the head."""
    proba = scored.proba.copy()
    proba[judged.at] = judged.proba
    label = codes_of(head, stores)
    return Sheet(head.labels, label, proba, scored.numbers, scored.ids, scored.text, texts)


def _curve(head: Head, judged: Judged) -> tuple[LearningCurve | None, tuple[str, ...]]:
    """Give the learning curve, or say why there is none."""
    if judged.refits is None:
        why = (
            "Learning curve: it needs the rows that the head was fitted on, and enough of each "
            "class."
        )
        return None, (why,)
    curve = learning_curve(judged.refits, judged.refits.options.metric)
    if curve is None:
        return None, ("Learning curve: the rows are too few or too many for it.",)
    return curve, ()


def _other_labels(head: Head, judged: Judged) -> tuple[str, ...]:
    """Say where the head learned its own rows with other labels than they have here."""
    fitted = head.metadata.get("class_rows")
    here = np.bincount(judged.rows.y, minlength=len(head.labels)).tolist()
    if not judged.is_own or fitted in (None, here):
        return ()
    return (
        "Labels: the head was fitted on these rows with other labels than they have here; give "
        "its corrections as well.",
    )


def _data(
    head: Head,
    scored: ScoredRows,
    judged: Judged,
    conflicts: Conflicts,
    files: tuple[str, ...],
    texts: list[str] | None,
) -> DataFacts:
    """Count what the rows are."""
    counts = np.bincount(judged.rows.y, minlength=len(head.labels)).tolist()
    copies = np.bincount(scored.text)
    return DataFacts(
        files,
        len(scored.ids),
        len(judged.rows.y),
        tuple(
            ClassRows(label, n, n / len(judged.rows.y))
            for label, n in zip(head.labels, counts, strict=True)
        ),
        _lengths(scored.n_tokens, int(scored.is_truncated.sum())),
        Duplicates(int((copies > 1).sum()), int(copies[copies > 1].sum()), conflicts.texts),
        None if texts is None else scripts_of(texts),
    )


def _lengths(n_tokens: Codes, truncated: int) -> Lengths:
    """Count rows by their tokens."""
    width = max(1, -(-(int(n_tokens.max()) + 1) // _BINS))
    counts = np.bincount(n_tokens // width)
    edges = (np.arange(len(counts) + 1) * width).tolist()
    return Lengths(tuple(edges), tuple(counts.tolist()), truncated)


def _changes(head: Head, stores: Joined, judged: Judged, source: Source) -> Changes | None:
    """Compare with another head on the same rows, under the labels of this one."""
    if source.against is None:
        return None
    memory, corrections = bytes_of(source.memory), source.corrections
    return changes_of(head, stores, judged, source.against, corrections=corrections, memory=memory)


def _points(sheet: Sheet, xy: npt.NDArray[np.float32]) -> Points:
    """Put together what the map shows of all rows, with their places (N, 2)."""
    return Points(
        xy,
        sheet.label.astype(np.int16),
        sheet.proba.argmax(axis=1).astype(np.int16),
        sheet.proba.max(axis=1).astype(np.float32),
        sheet.numbers.astype(np.int64),
        sheet.ids,
        None if sheet.texts is None else list(sheet.texts),
    )
