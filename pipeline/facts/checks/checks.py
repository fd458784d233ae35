"""Make all checks of a report, in the order of how much they spoil."""

from __future__ import annotations

from pipeline.facts.checks import of_head, of_rows
from pipeline.facts.checks.subject import Subject
from pipeline.facts.facts import Check

_CHECKS = (
    of_head.no_better_than_prior,
    of_rows.duplicates_with_training,
    of_rows.conflicting_labels,
    of_rows.out_of_depth,
    of_rows.label_shift,
    of_head.calibration,
    of_rows.small_classes,
    of_rows.few_rows,
    of_head.c_at_edge,
    of_rows.truncation,
)


def checks_of(subject: Subject) -> tuple[Check, ...]:
    """Make all checks."""
    return tuple(check(subject) for check in _CHECKS)
