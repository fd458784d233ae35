"""Say in one sentence what a head is worth: figures and checks in, words out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.evaluation.metrics import Metrics
from pipeline.facts.facts import PROBLEM, WARNING, Check
from pipeline.facts.judges.judged import Judged


def verdict_of(metrics: Metrics, judged: Judged, checks: Sequence[Check]) -> str:
    """Give the sentence."""
    low, high = metrics.macro_recall_interval
    n_classes = sum(one.rows > 0 for one in metrics.classes)
    who = (
        "out of fold on its own training rows"
        if judged.refits is not None
        else "on rows that it was fitted on, which flatters it"
        if judged.is_own
        else "on these rows"
    )
    return (
        f"Of the tweets of each class the head finds {metrics.macro_recall:.1%} on average (95 % "
        f"interval {low:.1%} to {high:.1%}; guessing finds {1 / n_classes:.1%}), measured {who}"
        f"{_of_checks(checks)}."
    )


def _of_checks(checks: Sequence[Check]) -> str:
    """Name the checks that found something, the worst first."""
    found = {
        status: [one.title.lower() for one in checks if one.status == status]
        for status in (PROBLEM, WARNING)
    }
    if not any(found.values()):
        return "; no check found anything wrong"
    n_problems, n_warnings = (len(titles) for titles in found.values())
    counts = [
        f"{n} {name}{'s' if n > 1 else ''}"
        for n, name in ((n_problems, "problem"), (n_warnings, "warning"))
        if n
    ]
    first = (found[PROBLEM] or found[WARNING])[0]
    return f"; {' and '.join(counts)} to look at, first of all: {first}"
