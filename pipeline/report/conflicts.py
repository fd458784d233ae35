"""Say which texts come with several labels, and what was done with their rows, as text."""

from __future__ import annotations

from features.base.shown import printable, shown
from pipeline.data.conflicts import Conflicts


def conflicts_text(conflicts: Conflicts) -> str:
    """Warn of texts with several labels, with examples; nothing where there are none."""
    c = conflicts
    if not c.texts:
        return ""
    done = {
        "keep": "all are kept; --conflicts drop or majority leaves rows out",
        "drop": f"all {c.left_out:,} are left out",
        "majority": f"{c.left_out:,} are left out that have another label than most of their text"
        + (f", or whose text has none that most have ({c.tied:,} texts)" if c.tied else ""),
    }[c.handling]
    lines = [f"! {c.texts:,} texts come with several labels, in {c.rows:,} rows: {done}"]
    for example in c.examples:
        labels = (
            f"{printable(label)} {rows:,} (id {shown(example.ids[label])})"
            for label, rows in example.rows.items()
        )
        lines.append(f"    {', '.join(labels)}")
    return "\n".join(lines)
