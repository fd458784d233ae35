"""Lay out labels in doubt, for a terminal: conflicts, and those that are probably wrong."""

from __future__ import annotations

import textwrap
from itertools import islice

from features.base.shown import listed, printable, shown
from pipeline.data.conflicts import Conflicts
from pipeline.data.corrections import Corrections
from pipeline.labelling.next_rows import NextRows
from pipeline.labelling.suspects import Suspects
from pipeline.report.layout import COLUMNS, counts_text, table
from pipeline.report.stores_and_heads import matching_text

# Suspects, and pairs of labels, that are shown; the file has all.
_SHOWN = 5


def corrections_text(corrections: Corrections) -> str:
    """Say what was corrected, and what of the files was not used; nothing without files."""
    c = corrections
    if not c.files:
        return ""
    changed, empty = sum(c.changed.values()), sum(file.empty for file in c.files)
    pairs = {f"{a} -> {b}": n for (a, b), n in c.changed.items()}
    parts = [f"{changed:,} labels changed{counts_text(pairs)}"]
    parts += [f"{c.labelled:,} given to rows without one"] if c.labelled else []
    parts += [f"{c.same:,} were there already"] if c.same else []
    parts += [f"{empty:,} lines without a label"] if empty else []
    lines = [f"Corrected by {' and '.join(file.name for file in c.files)}: {'; '.join(parts)}"]
    if c.unknown:
        lines.append(
            f"! {len(c.unknown):,} lines are not used: no row has their ids, {listed(c.unknown)}"
        )
    if c.twins.corrected:
        a, b = c.twins.examples[0]
        lines.append(
            f"! {c.twins.corrected:,} of these rows have a text that {c.twins.others:,} other rows "
            f"have with another label, which they keep: e.g. ids {shown(a)} and {shown(b)}"
        )
    return "\n".join(textwrap.fill(printable(line), COLUMNS) for line in lines)


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


def suspects_text(found: Suspects) -> str:
    """Say how many labels look wrong, which pairs there are, and show the first rows."""
    rows = len(found.y)
    lines = [
        f"Judged by {found.measured_on} ({rows:,} rows"
        + (f"; {found.unlabelled:,} without a label left out" if found.unlabelled else "")
        + f"), C {found.C:g}",
    ]
    if found.matching is not None:
        lines.append(f"Joined: {matching_text(found.matching)}")
    if corrected := corrections_text(found.corrections):
        lines.append(corrected)
    wrong = found.doubts.n_wrong
    lines.append(
        f"Confident learning counts {wrong:,} labels ({wrong / rows:.0%}) as wrong or too hard for "
        "the head: read the first ones, and stop where they are right"
    )
    pairs: list[list[object]] = [["label -> suggested", "rows"]]
    pairs += [[f"{a} -> {b}", f"{n:,}"] for (a, b), n in islice(found.pairs().items(), _SHOWN)]
    first: list[list[object]] = [["id", "label", "suggested", "p", "loss", "neighbours"]]
    first += [
        [
            shown(row["id"]),
            row["label"],
            row["suggested"],
            f"{row['probability']:.2f}",
            f"{row['loss']:.2f}",
            f"{row['neighbours']:.2f}",
        ]
        for row in islice(found.table(), _SHOWN)
    ]
    said = "\n".join(textwrap.fill(line, COLUMNS) for line in lines)
    return f"{said}\n\n{table(pairs)}\n\n{table(first)}"


def next_rows_text(found: NextRows) -> str:
    """Say how many rows were chosen, out of how many, and why each."""
    why = counts_text({reason: found.why.count(reason) for reason in dict.fromkeys(found.why)})
    text = (
        f"{len(found.ids):,} rows to label{why}, of {found.pool:,} without a label"
        + (f"; {found.labelled:,} that have one left out" if found.labelled else "")
        + (f"\nJoined: {matching_text(found.matching)}" if found.matching else "")
    )
    if corrected := corrections_text(found.corrections):
        text += f"\n{corrected}"
    if len(found.ids) < found.asked:
        text += f"\n{found.asked:,} were asked for: the others are nearly the same as these"
    return text
