"""Do what several commands do with heads and results: open, check, write; no options here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from features.base.atomic import replacing
from features.base.paths import check_replaceable
from features.base.shown import printable
from features.errors import InputError
from pipeline.cli.group import in_flags
from pipeline.data.matching import Matching
from pipeline.evaluation.label_shift import LabelShift
from pipeline.head.head import Head, load_head
from pipeline.report.stores_and_heads import matching_text
from pipeline.scoring.estimated_prior import ESTIMATE


def remark(line: str) -> None:
    """Say a line beside the result, on standard error."""
    click.echo(printable(in_flags(line)), err=True)


def say_matching(matching: Matching) -> None:
    """Say which rows are left out of the output, beside it."""
    if any(matching.left_out.values()):
        click.echo(matching_text(matching), err=True)


def open_head(path: Path, prior: str | None) -> Head:
    """Load a head, and move it to a prior that is given."""
    head = load_head(path)
    return head if prior in (None, ESTIMATE) else head.with_prior(prior)


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
