"""Lay out what `compare` found, as one table."""

from __future__ import annotations

from pipeline.compare import Comparison
from pipeline.evaluation.metrics import METRICS
from pipeline.report.labels import conflicts_text, corrections_text
from pipeline.report.layout import columns, table
from pipeline.report.metrics import prior_in_words
from pipeline.report.stores_and_heads import matching_text

# Columns of a terminal that has room for the whole table.
_WIDE = 140
# The columns in the order of a narrower one, where the first ones stay together.
_WHAT_MATTERS_FIRST = (0, 2, 3, 5, 6, 7, 1, 4, 8, 9, 10)


def comparison_text(result: Comparison) -> str:
    """Lay out a comparison as one table, the best line first."""
    metric = METRICS[result.metric].label
    rows = _rows(result)
    if (room := columns()) is not None and room < _WIDE:
        rows = [[row[n] for n in _WHAT_MATTERS_FIRST if n < len(row)] for row in rows]
    text = (
        f"Measured on {result.measured_on} ({result.rows:,} rows"
        + (f"; {result.unlabelled:,} without a label left out" if result.unlabelled else "")
        + f"), C chosen by {metric}\n"
        + (f"Joined: {matching_text(result.matching)}\n" if result.matching else "")
        + f"Log-loss is for the prior {prior_in_words(result.labels, result.prior)}, "
        f"after calibration\n\n{table(rows)}\n\n"
        f"Δ vs best: difference in {metric}, by a paired bootstrap over rows.\n"
        "~ best: its interval holds 0, so that these rows don't tell the two apart."
    )
    if corrected := corrections_text(result.corrections):
        text += f"\n\n{corrected}"
    if warning := conflicts_text(result.conflicts):
        text += f"\n\n{warning}"
    if slow := [line.name for line in result.lines if not line.converged]:
        text += f"\n\nNot converged: --max-iter ended fits of {', '.join(slow)}; give more passes"
    return text


def _rows(result: Comparison) -> list[list[object]]:
    """Give the head of the table and its lines."""
    shown = list(dict.fromkeys(["macro-recall", "log-loss", result.metric]))
    first, *others = (METRICS[name].label for name in shown)
    head = ["view", "D", "C", first, "95 % interval", "Δ vs best", "95 % interval", ""]
    rows: list[list[object]] = [[*head, *others, "seconds"]]
    for line in result.lines:
        low, high = line.metrics.macro_recall_interval
        below, above = line.difference_interval
        first, *others = (f"{line.metrics.figures[name]:.4f}" for name in shown)
        cells = [line.name, f"{line.width:,}", f"{line.C:g}", first, f"{low:.4f} to {high:.4f}"]
        difference = (
            ["", "", "best"]
            if line is result.lines[0]
            else [
                f"{line.difference:+.4f}",
                f"{below:+.4f} to {above:+.4f}",
                "" if line.distinguishable else "~ best",
            ]
        )
        rows.append([*cells, *difference, *others, f"{line.seconds:.1f}"])
    return rows
