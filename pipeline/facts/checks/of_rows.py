"""Check the rows: whether they are enough, of the right kind, and their labels sound.

Each check takes the subject and gives a record with what it found and what to do about it. The
bounds stand beside the checks. Nothing is fitted.
"""

from __future__ import annotations

import numpy as np

from features.base.shown import listed
from pipeline.evaluation.label_shift import estimate_shift
from pipeline.facts.checks.subject import Subject, graded, skipped
from pipeline.facts.facts import GOOD, PROBLEM, STATUSES, WARNING, Check
from pipeline.facts.judges.judged import handling_of
from pipeline.head.novelty import FALSE_ALARMS
from pipeline.scoring.estimated_prior import LEAST_ROWS, known_of
from pipeline.scoring.novelty import is_of_another_kind

# Shares of the rows from which on something is a warning, and a problem.
_CONFLICTS, _TRUNCATED = (0.001, 0.02), (0.01, 0.1)
# Of rows whose text the head was fitted on.
_KNOWN = (0.0, 0.05)
# Differences of a share from that of the training rows.
_SHIFT = (0.05, 0.15)
# Rows of a class: fewer than 50 know its recall to some 14 points at best, fewer than 10 to 30.
_FEW_OF_A_CLASS, _TOO_FEW_OF_A_CLASS = 50, 10
# Half the width of the interval of macro recall, and rows, as few that are all right have no width.
_WIDTH = (0.03, 0.08)
_FEW, _TOO_FEW = 200, 50


def duplicates_with_training(subject: Subject) -> Check:
    """Look for texts that the head was fitted on."""
    name, title = "duplicates-with-training", "Training texts among the rows"
    text = subject.scored.text
    copies = int(len(text) - len(np.unique(text)))
    if subject.judged.refits is not None:
        found = (
            "The rows are those that the head was fitted on. Each was judged by a model that saw "
            f"neither it nor a copy of its text ({copies:,} rows repeat an earlier text)."
        )
        return Check(name, GOOD, title, found, "")
    if subject.judged.is_own:
        found = "The rows are those that the head was fitted on, so that the figures flatter it."
        return Check(name, PROBLEM, title, found, "Measure it on tweets that it has not seen.")
    rows = subject.judged.rows
    known = None if subject.head.texts is None else subject.head.texts.look_up(rows.texts)
    if known is None or not known[0].any():
        why = "The head does not say which texts it was fitted on, or too few rows could be known."
        return skipped(name, title, why, "Fit it again, and measure it on more rows.")
    could, is_known = known
    n = int(is_known.sum())
    of_all = "" if could.all() else " whose texts it would know"
    found = (
        f"{n:,} of {int(could.sum()):,} labelled rows{of_all} have a text that the head was "
        "fitted on"
    )
    if not n:
        return Check(name, GOOD, title, f"{found}.", "")
    ids = [subject.scored.ids[row] for row in subject.judged.at[is_known][:3]]
    return Check(
        name,
        graded(n / int(could.sum()), *_KNOWN),
        title,
        f"{found}, so that the figures flatter it: ids {listed(ids)}.",
        "Measure it on tweets that were kept apart; copies of a text belong on one side.",
    )


def conflicting_labels(subject: Subject) -> Check:
    """Look for texts that come with several labels."""
    name, title = "conflicting-labels", "Texts with several labels"
    found = subject.conflicts
    if not found.texts:
        return Check(name, GOOD, title, "No text comes with several labels.", "")
    if subject.judged.is_own and (handling := handling_of(subject.head)) != "keep":
        what = f"{found.texts:,} texts come with several labels, in {found.rows:,} rows; the fit "
        what += "left them all out." if handling == "drop" else "kept the label that most have."
        return Check(name, GOOD, title, what, "")
    share = found.rows / len(subject.judged.rows.y)
    status = graded(share, *_CONFLICTS)
    return Check(
        name,
        status,
        title,
        f"{found.texts:,} texts come with several labels, in {found.rows:,} labelled rows "
        f"({share:.2%}). At most one label of each can be right.",
        ""
        if status == GOOD
        else "Correct the labels, or leave the rows out: `frostline fit --conflicts majority` or "
        "`--conflicts drop`.",
    )


def truncation(subject: Subject) -> Check:
    """Count the texts that the encoder did not read to their end."""
    name, title = "truncation", "Texts cut off"
    cut = int(subject.scored.is_truncated.sum())
    length = subject.stores.stores[0].spec.max_length
    if not cut:
        return Check(name, GOOD, title, f"No text is longer than the {length} tokens read.", "")
    share = cut / len(subject.scored.ids)
    status = graded(share, *_TRUNCATED)
    return Check(
        name,
        status,
        title,
        f"{cut:,} texts ({share:.1%}) are longer than the {length} tokens that the encoder reads.",
        "" if status == GOOD else "Extract with a larger `--max-length`, as far as the model goes.",
    )


def small_classes(subject: Subject) -> Check:
    """Look for classes with so few labelled rows that their figures mean little."""
    name, title = "small-classes", "Rows of each class"
    counts = np.bincount(subject.judged.rows.y, minlength=len(subject.head.labels))
    small = [
        f"{label!r} ({n:,})"
        for label, n in zip(subject.head.labels, counts.tolist(), strict=True)
        if n < _FEW_OF_A_CLASS
    ]
    if not small:
        found = f"Each class has at least {int(counts.min()):,} labelled rows."
        return Check(name, GOOD, title, found, "")
    return Check(
        name,
        PROBLEM if counts.min() < _TOO_FEW_OF_A_CLASS else WARNING,
        title,
        f"Fewer than {_FEW_OF_A_CLASS} labelled rows: {', '.join(small[:8])}"
        f"{' and more' if len(small) > 8 else ''}. Their recall and precision are rough guesses.",
        "Label more tweets of these classes; `frostline label-next` proposes which.",
    )


def few_rows(subject: Subject) -> Check:
    """Say how sure the figures are."""
    name, title = "few-rows", "Enough rows to measure"
    low, high = subject.judged.metrics.macro_recall_interval
    half, rows = (high - low) / 2, len(subject.judged.rows.y)
    status = max(graded(half, *_WIDTH), graded(-rows, 1 - _FEW, 1 - _TOO_FEW), key=STATUSES.index)
    return Check(
        name,
        status,
        title,
        f"{rows:,} labelled rows tell macro recall to {half:.3f} more or less.",
        "" if status == GOOD else "Label more tweets: four times the rows halve the error.",
    )


def label_shift(subject: Subject) -> Check:
    """Compare the shares of the classes with those of the training rows."""
    name, title = "label-shift", "Shares of the classes"
    head, proba = subject.head, subject.scored.proba
    if subject.judged.is_own:
        proba = np.delete(proba, subject.judged.at, axis=0)
        if len(proba) < LEAST_ROWS:
            return Check(name, GOOD, title, "The rows are the training rows themselves.", "")
    if head.prior is None or head.metadata.get("class_rows") is None:
        return skipped(name, title, "The head does not say which shares it was fitted for.")
    found = estimate_shift(proba, known_of(head))
    where = "in the rows without a label" if subject.judged.is_own else "here"
    moves = np.subtract(found.shares, found.training)
    at = int(np.abs(moves).argmax())
    largest = float(np.abs(moves[at]))
    what = (
        f"{found.labels[at]!r} has a share of {found.shares[at]:.1%} {where}, by its "
        f"probabilities, and {found.training[at]:.1%} in the training rows"
    )
    if not found.is_significant:
        what += f": no more than chance (p = {found.p_value:.2f})."
        return Check(name, GOOD, title, what, "")
    status = graded(largest, *_SHIFT)
    return Check(
        name,
        status,
        title,
        f"{what}: more than chance{' but little' if status == GOOD else ''}.",
        ""
        if status == GOOD
        else "Score with `--prior estimate`, and count classes with `frostline quantify`.",
    )


def out_of_depth(subject: Subject) -> Check:
    """Look for tweets of a kind that the head has not seen."""
    name, title = "out-of-depth", "Tweets of the training kind"
    far, rows = subject.scored.far, len(subject.scored.ids)
    if far is None:
        why = "The head can't tell: it was fitted on fewer than 200 rows, or by an earlier version."
        return skipped(name, title, why, "Fit it again, on more rows.")
    found = (
        f"{far:,} of {rows:,} rows ({far / rows:.1%}) lie farther from the training tweets than "
        f"{1 - FALSE_ALARMS:.0%} of those do."
    )
    if not is_of_another_kind(far, rows):
        return Check(name, GOOD, title, found, "")
    return Check(
        name,
        PROBLEM,
        title,
        found,
        "If they are in another language, extract and fit with a multilingual encoder; else label "
        "a hundred of them and fit with them.",
    )
