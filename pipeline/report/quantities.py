"""Lay out the shares of the classes, of all rows and by groups, as text."""

from __future__ import annotations

from features.base.shown import printable
from pipeline.report.label_shift import warnings_of
from pipeline.report.layout import table
from pipeline.scoring.quantify import FEW_ROWS, Quantities, Quantity

# Groups that are shown on a terminal.
_SHOWN = 30


def quantities_text(found: Quantities) -> str:
    """Lay out shares in tables, and say what they rest on."""
    shift, adjusted = found.all.shift, found.all.adjusted
    rows = [["class", "counted", "EM", "95 % interval", "adjusted count", "95 % interval"]] + [
        [
            name,
            f"{shift.counted[k]:.3f}",
            f"{shift.shares[k]:.3f}",
            _interval(shift.intervals[k]),
            f"{adjusted.shares[k]:.3f}",
            _interval(adjusted.intervals[k]),
        ]
        for k, name in enumerate(found.labels)
    ]
    parts = [f"Shares of the classes in {shift.rows:,} rows\n{table(rows)}"]
    if found.by is not None:
        parts.append(_of_groups(found))
    parts.append(
        "EM and adjusted count take a tweet of a class to look as it did in training, and\n"
        "know nothing of classes that were not there. Where their intervals do not\n"
        "overlap, that does not hold."
    )
    return "\n\n".join([*parts, *warnings_of(shift)])


def _of_groups(found: Quantities) -> str:
    shown = found.groups[:_SHOWN]
    rows = [[str(found.by), "rows", *found.labels]] + [_of_group(one) for one in shown]
    lines = [f"By {printable(str(found.by))}: EM, with 95 % intervals", table(rows)]
    if len(found.groups) > _SHOWN:
        lines.append(f"… and {len(found.groups) - _SHOWN:,} more, which the output file has")
    if any(one.is_small for one in found.groups):
        lines.append(f"* fewer than {FEW_ROWS} rows: take the interval, not the share")
    if found.ungrouped:
        lines.append(f"{found.ungrouped:,} rows have no value of it, and are in none of these")
    return "\n".join(lines)


def _of_group(one: Quantity) -> list[str]:
    shift = one.shift
    cells = [
        f"{share:.2f} ({low:.2f} to {high:.2f})"
        for share, (low, high) in zip(shift.shares, shift.intervals, strict=True)
    ]
    return [f"{one.group}{' *' if one.is_small else ''}", f"{shift.rows:,}", *cells]


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"
