"""Say what `frostline check` found in input files, as text."""

from __future__ import annotations

from features.base.shown import listed as names_of
from features.base.shown import printable, shown
from features.extraction.check import InputReport
from pipeline.report.layout import counts_text, facts_text

_VERDICTS = {
    "fine": "`extract` would read all of it",
    "look": "`extract` would read it; look at what is marked with !",
    "refused": "`extract` would refuse it",
}


def check_text(report: InputReport) -> str:
    """Say what is in the files, what is odd about it, and how some rows will be seen."""
    r = report
    lengths = ", ".join(f"{name} {value:,}" for name, value in r.characters.items())
    facts = {
        **{
            f"read {printable(name)}" if len(r.read) > 1 else "read": printable(how)
            for name, how in r.read.items()
        },
        **{
            f"left {printable(name)}" if len(r.read) > 1 else "left": names_of(left)
            for name, left in r.left.items()
            if left
        },
        "rows": f"{r.rows:,}",
        "tweets": f"{r.tweets:,}" + counts_text(r.labels),
        "rejected": f"{r.rejected:,}" + counts_text(r.reasons),
        "flagged": f"{r.empty:,} empty, {r.repaired:,} repaired",
        "repeated": f"{r.same_texts:,} with the text of an earlier row, "
        f"{r.doubled_ids:,} with its id",
        "characters": lengths,
        "scripts": counts_text(r.scripts).strip(" ()"),
    }
    lines = [_VERDICTS[r.verdict], facts_text({name: text for name, text in facts.items() if text})]
    lines += [f"! {printable(remark)}" for remark in r.remarks]
    for reject in r.examples_of_rejects:
        lines.append(
            f"! line {reject['line']} of {printable(reject['source'])}: {reject['reason']}"
        )
    if r.conflicts:
        lines.append(f"! {r.conflicts:,} texts come with several labels, for example:")
        for conflict in r.examples_of_conflicts:
            lines.append(f"    {shown(conflict.text)}{counts_text(conflict.labels)}")
    if r.examples:
        lines.append("The first rows, as they stand and as the encoder will read them:")
    for example in r.examples:
        label = "no label" if example.label is None else example.label
        lines.append(f"  {printable(example.id)} ({printable(label)})")
        lines.append(f"    {shown(example.text)}")
        if example.normalised != example.text:
            lines.append(f"    {shown(example.normalised)}")
    return "\n".join(lines)
