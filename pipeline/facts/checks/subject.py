"""Hold together what checks look at: a head, the rows, who judged them and how C was chosen."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.data.conflicts import Conflicts
from pipeline.data.join import Joined
from pipeline.facts.facts import GOOD, PROBLEM, SKIPPED, WARNING, Check
from pipeline.facts.figures import Choice
from pipeline.facts.judges.judged import Judged
from pipeline.facts.judges.scored_rows import ScoredRows
from pipeline.head.head import Head


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes
    ----------
    head : Head
    stores : Joined
    scored : ScoredRows
    judged : Judged
    conflicts : Conflicts
        Texts that come with several labels.
    choice : Choice, optional
        None where C was given, or the head does not say.
    """

    head: Head
    stores: Joined
    scored: ScoredRows
    judged: Judged
    conflicts: Conflicts
    choice: Choice | None


def skipped(check: str, title: str, why: str, cure: str = "") -> Check:
    """Say that a check could not be made."""
    return Check(check, SKIPPED, title, why, cure)


def graded(value: float, warning: float, problem: float) -> str:
    """Give the status of a value that is better the smaller it is: bad from a bound on."""
    return PROBLEM if value >= problem else WARNING if value >= warning else GOOD
