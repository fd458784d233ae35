"""Do what several commands do with heads and results: open, check, write; no options here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from features.backends.choice import Choice
from features.base.atomic import replacing
from features.base.paths import check_replaceable
from features.base.shown import printable
from features.errors import InputError
from pipeline.cli.group import in_flags
from pipeline.data.matching import Matching
from pipeline.evaluation.label_shift import LabelShift
from pipeline.head.head import Head, load_head
from pipeline.report.machine import choice_text
from pipeline.report.stores_and_heads import matching_text
from pipeline.scoring.evaluate import Scores
from pipeline.terminal.output import tell_aside
from pipeline.terminal.volume import volume


def remark(line: str) -> None:
    """Say a line beside the result, on standard error."""
    tell_aside(str, printable(in_flags(line)))


def say_matching(matching: Matching) -> None:
    """Say which rows are left out of the output, beside it."""
    if any(matching.left_out.values()):
        tell_aside(matching_text, matching)


def say_choice(choice: Choice) -> None:
    """Say what runs the model, and what else was tried, if much is to be said."""
    if volume().verbose:
        tell_aside(choice_text, choice)


def counted(
    scores: Iterable[Scores], update: Callable[[float | None, int], None]
) -> Iterator[Scores]:
    """Give all scores, and tell the share of the input and the rows that were taken."""
    rows = 0
    for block in scores:
        yield block
        rows += len(block.ids)
        update(block.share, rows)


def open_head(path: Path, prior: str | None) -> Head:
    """Load a head, and move it to a prior that is given."""
    head = load_head(path)
    return head if prior is None else head.with_prior(prior)


def shares_of(head: Head, shifts: Sequence[LabelShift]) -> dict[str, Any]:
    """Say, as JSON types, which shares probabilities answer for, and how they were estimated."""
    if shifts:
        return {"prior": list(shifts[-1].shares), "label_shift": shifts[-1].to_dict()}
    return {"prior": None if head.prior is None else head.prior.tolist()}


def check_json(path: Path | None, others: Sequence[str | Path | None]) -> None:
    """Refuse a file that JSON can't be written to, before the work."""
    if path is not None:
        check_replaceable(path, others)
        if path in others:  # the head, which is not there yet
            raise InputError(f"{path} is the output already; give --json another name")


def write_json(path: Path | None, content: Any) -> None:
    """Write a result as JSON, if there is to be a file."""
    if path is not None:
        write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")
