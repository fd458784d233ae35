"""Say what `fit` did, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from features.base.shown import printable
from pipeline.evaluation.choice import Candidate, best_of, plateau
from pipeline.evaluation.metrics import METRICS
from pipeline.fit import FitResult
from pipeline.fitting.changes import Change, Changes
from pipeline.report.labels import conflicts_text, corrections_text
from pipeline.report.layout import COLUMNS, counts_text, facts_text, table
from pipeline.report.metrics import metrics_text
from pipeline.report.stores_and_heads import matching_text, views_of


def fit_text(result: FitResult) -> str:
    """Say what was fitted and what it is worth."""
    head, meta = result.head, result.head.metadata
    facts = {
        "views": " + ".join(
            view + (f" (scale {scale:g})" if scale != 1 else "")
            for view, scale in zip(views_of(head), meta["view_scales"], strict=True)
        ),
        "rows": f"{meta['rows']:,}"
        + counts_text(dict(zip(head.labels, meta["class_rows"], strict=True)))
        + (f"; {result.unlabelled:,} without a label left out" if result.unlabelled else ""),
        **({} if result.matching is None else {"joined": matching_text(result.matching)}),
        "C": f"{meta['C']:g}" + (" (chosen)" if result.candidates else ""),
        "class weight": meta["class_weight"],
        "calibration": _calibration(meta["calibration"]),
        "certificate": f"within {result.gap:.1e} of the optimum, relatively, "
        f"after {meta['iterations']} passes",
        "seconds": ", ".join(f"{part} {value:.2f}" for part, value in result.seconds.items()),
    }
    text = facts_text(facts)
    if corrected := corrections_text(result.corrections):
        text += f"\n\n{corrected}"
    if warning := conflicts_text(result.conflicts):
        text += f"\n\n{warning}"
    if result.candidates:
        text += "\n\n" + table(_candidates(result.candidates, meta))
    if not result.converged:
        text += f"\n\n{_not_converged(meta)}"
    text += "\n\n" + metrics_text(result.metrics, result.measured_on, meta["prior"])
    return text if result.changes is None else f"{text}\n\n{_changes(result.changes)}"


def _not_converged(meta: Mapping[str, Any]) -> str:
    if meta["iterations"] >= meta["max_iter"]:
        return (
            f"Not converged: --max-iter ended the fit after {meta['iterations']} passes, before "
            f"--tol {meta['tol']:g} was reached; give more passes or a larger tolerance"
        )
    return (
        f"Not converged: rounding ended the fit before --tol {meta['tol']:g} was reached; give a "
        "larger tolerance"
    )


def _candidates(candidates: Sequence[Candidate], meta: Mapping[str, Any]) -> list[list[object]]:
    """Lay out every C beside the best; `~ best` marks those that the rows can't tell from it."""
    metric = METRICS[meta["metric"]]
    best = best_of(candidates, higher_is_better=metric.higher_is_better)
    near = plateau(candidates, higher_is_better=metric.higher_is_better)
    rows: list[list[object]] = [["C", metric.label, "Δ vs best", "± s.e.", "log-loss", ""]]
    for one in candidates:
        marks = ["chosen"] * (meta["C"] == one.C)
        marks += ["best"] if one is best else ["~ best"] * (one in near)
        rows.append(
            [
                f"{one.C:g}",
                f"{one.score:.4f}",
                f"{one.score - best.score:+.4f}",
                f"{one.difference_error:.4f}",
                f"{one.log_loss:.4f}",
                ", ".join(marks),
            ]
        )
    return rows


def _changes(found: Changes) -> str:
    """Lay out both heads in tables."""
    said = [
        f"Against {found.against}, which had other labels for {found.corrections:,} rows, on "
        f"{found.measured_on}",
        *(f"! {remark}" for remark in found.remarks),
    ]
    parts = ["\n".join(textwrap.fill(printable(line), COLUMNS) for line in said)]
    parts.append(table(_compared(found.metrics)))
    if (undisputed := found.undisputed) is not None:
        parts.append(
            textwrap.fill(
                f"On the {undisputed.rows:,} of these rows whose label was not changed. Trust the "
                "first table where this one agrees: a head always looks better by labels that it "
                "has learned from, be they right or wrong",
                COLUMNS,
            )
        )
        parts.append(table(_compared(undisputed.metrics)))
    last = (
        f"{found.flipped:,} of the {found.rows:,} rows are predicted differently. Δ by a paired "
        "bootstrap over texts; ~ same: its interval holds 0"
    )
    return "\n\n".join([*parts, textwrap.fill(last, COLUMNS)])


def _compared(metrics: Sequence[Change]) -> list[list[object]]:
    """Lay out figures of two heads; `~ same` marks what the rows can't tell apart."""
    head: list[object] = ["", "before", "after", "Δ", "95 % interval", ""]
    rows: list[list[object]] = [
        [
            METRICS[one.name].label,
            f"{one.before:.4f}",
            f"{one.after:.4f}",
            f"{one.difference:+.4f}",
            f"{one.low:+.4f} to {one.high:+.4f}",
            "~ same" if one.low <= 0 <= one.high else "",
        ]
        for one in metrics
    ]
    return [head, *rows]


def _calibration(found: Mapping[str, Any]) -> str:
    """Say what was done to the probabilities, and what it gave."""
    if found["method"] == "none":
        return "none"
    before, after = found["before"], found["after"]
    biases = ", ".join(f"{bias:+.3f}" for bias in found["bias"]) if any(found["bias"]) else ""
    return (
        f"temperature {found['temperature']:.3f}{biases and f', biases {biases}'}: log-loss "
        f"{before['log_loss']:.4f} to {after['log_loss']:.4f}, calibration error "
        f"{before['calibration_error']:.4f} to {after['calibration_error']:.4f}"
    )
