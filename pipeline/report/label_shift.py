"""Say how the shares of the classes were estimated, as text."""

from __future__ import annotations

from collections.abc import Sequence

from features.base.shown import printable
from pipeline.evaluation.label_shift import LabelShift
from pipeline.report.layout import table


def shift_text(shift: LabelShift, true: Sequence[float] | None = None) -> str:
    """Lay out an estimate of shares, beside the true ones where they are known."""
    head = ["class", "training", "counted", "estimated", "95 % interval"]
    rows = [
        [
            printable(name),
            f"{training:.3f}",
            f"{counted:.3f}",
            f"{share:.3f}",
            f"{low:.3f} to {high:.3f}",
        ]
        for name, training, counted, share, (low, high) in zip(
            shift.labels, shift.training, shift.counted, shift.shares, shift.intervals, strict=True
        )
    ]
    if true is not None:
        head.append("labelled")
        rows = [[*row, f"{share:.3f}"] for row, share in zip(rows, true, strict=True)]
    lines = [
        f"Shares of the classes, estimated from the probabilities of {shift.rows:,} rows",
        table([head, *rows]),
        _of_the_test(shift),
        f"  A row tells at least {shift.worth:.2f} of what a labelled one would.",
    ]
    return "\n".join([*lines, *(f"  {line}" for line in warnings_of(shift))])


def _of_the_test(shift: LabelShift) -> str:
    p = f"p = {shift.p_value:.3f}" if shift.p_value >= 0.001 else "p < 0.001"
    found = (
        "differ from those of the training rows"
        if shift.is_significant
        else ("can't be told from those of the training rows")
    )
    return f"  They {found} (likelihood ratio {shift.statistic:,.1f}, {p})."


def warnings_of(shift: LabelShift) -> list[str]:
    """Give what an estimate can't know, a line each."""
    found = []
    if shift.is_weak:
        found.append(
            "WARNING: the classifier tells some classes hardly apart, so that a small error of its "
            "probabilities is a large one of the shares; a better view or encoder is the cure"
        )
    if not shift.calibration_known:
        found.append(
            "The head does not say how sure its calibration is, so the intervals are of the rows "
            "alone and too narrow; fit it again"
        )
    return found
