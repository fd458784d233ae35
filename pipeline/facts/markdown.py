"""Write the facts of a report as Markdown: the content of `report.json` in, text out.

All that comes from files is escaped: it can make no link, picture, heading, table or HTML, and it
moves no cursor where the file is printed. Long texts are cut; `report.json` has them whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from features.base.markdown import escaped, table
from features.base.shown import printable
from pipeline.evaluation.metrics import METRICS


def markdown_of(facts: Mapping[str, Any]) -> str:
    """Write the report.

    Parameters
    ----------
    facts : mapping
        See `Facts.to_dict`.
    """
    parts = [
        "# frostline report",
        escaped(facts["verdict"], None),
        *_checks(facts["checks"]),
        *_metrics(facts),
        *_head(facts["head"]),
        *_data(facts["data"]),
        *_choice(facts["choice"]),
        *_curve(facts["learning_curve"]),
        *_changes(facts["changes"]),
        *_rows("Most confident mistakes", facts["mistakes"]),
        *_rows("Least sure", facts["uncertain"]),
        *_suspects(facts["suspects"]),
        *_provenance(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _checks(checks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "## Checks"
    rows = [[one[name] for name in ("status", "title", "finding", "cure")] for one in checks]
    yield table(["status", "check", "what was found", "what helps"], rows, most=None)


def _metrics(facts: Mapping[str, Any]) -> Iterator[str]:
    metrics, confusion = facts["metrics"], facts["confusion"]
    yield "## Metrics"
    yield f"Measured on {escaped(metrics['measured_on'], None)}."
    low, high = metrics["macro_recall_interval"]
    rows: list[list[object]] = [
        [one.label, metrics[name.replace("-", "_")]] for name, one in METRICS.items()
    ]
    rows[0].append(f"{low:.4f} to {high:.4f}")
    rows.append(["calibration error", metrics["calibration_error"]])
    yield table(["metric", "value", "95 % interval"], [[*row, ""][:3] for row in rows])
    average = {one["label"]: one["average_precision"] for one in facts["precision_recall"]}
    yield table(
        ["class", "rows", "precision", "recall", "F1", "average precision"],
        [
            [
                *(one[name] for name in ("label", "rows", "precision", "recall", "f1")),
                average.get(one["label"], ""),
            ]
            for one in metrics["classes"]
        ],
    )
    labels = confusion["labels"]
    yield table(
        ["true \\ predicted", *labels],
        [[label, *row] for label, row in zip(labels, confusion["counts"], strict=True)],
    )


def _head(head: Mapping[str, Any]) -> Iterator[str]:
    yield "## Head"
    prior = head["prior"]
    yield table(
        ["what", "value"],
        [
            ["file", head["file"]],
            ["rows", head["rows"]],
            ["views", ", ".join(head["views"])],
            ["encoders", ", ".join(head["encoders"])],
            ["C", "unknown" if head["C"] is None else f"{head['C']:g}"],
            ["calibration", head["calibration"] or "unknown"],
            ["prior", "unknown" if prior is None else ", ".join(f"{one:.3f}" for one in prior)],
        ],
    )


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    yield "## Data"
    copies, lengths = data["duplicates"], data["lengths"]
    lines = [
        f"{data['rows']:,} rows of {escaped(', '.join(data['files']), None)}, {data['labelled']:,} "
        "with a label.",
        f"{copies['texts']:,} texts come more than once, in {copies['rows']:,} rows; "
        f"{copies['conflicting']:,} of them with several labels.",
        f"{lengths['truncated']:,} texts are longer than the encoder reads.",
    ]
    if data["scripts"]:
        counted = ", ".join(f"{one['name']} {one['rows']:,}" for one in data["scripts"][:8])
        lines.append(f"Scripts: {escaped(counted)}.")
    yield "\n".join(f"- {line}" for line in lines)
    yield table(
        ["class", "rows", "share"],
        [[one["name"], one["rows"], one["share"]] for one in data["classes"]],
    )


def _choice(choice: Mapping[str, Any] | None) -> Iterator[str]:
    if choice is None:
        return
    yield "## Choice of C"
    rows = [
        [
            f"{one['C']:g}",
            one["score"],
            one["delta"],
            one["standard_error"],
            one["log_loss"],
            ", ".join(name for name in ("chosen", "best", "plateau") if one[name]),
        ]
        for one in choice["grid"]
    ]
    label = METRICS[choice["metric"]].label
    yield table(["C", label, "to the best", "standard error", "log-loss", ""], rows)


def _curve(curve: Mapping[str, Any] | None) -> Iterator[str]:
    if curve is None:
        return
    yield "## Learning curve"
    rows = [
        [one["rows"], one["value"], f"{one['low']:.4f} to {one['high']:.4f}"]
        for one in curve["points"]
    ]
    yield table(["rows", METRICS[curve["metric"]].label, "95 % interval"], rows)
    if (forecast := curve["forecast"]) is not None:
        yield forecast_text(forecast)


def forecast_text(forecast: Mapping[str, Any]) -> str:
    """Say what twice the rows would probably bring."""
    gain, low, high = (100 * forecast[name] for name in ("gain", "gain_low", "gain_high"))
    return (
        f"Twice the labels, {forecast['rows']:,} rows: about {gain:+.1f} points ({low:+.1f} to "
        f"{high:+.1f})."
    )


def _changes(changes: Mapping[str, Any] | None) -> Iterator[str]:
    if changes is None:
        return
    yield "## What has changed"
    yield (
        f"Against {escaped(changes['against'], None)}: {changes['flipped']:,} of "
        f"{changes['rows']:,} rows get another label; {changes['corrections']:,} labels were "
        "corrected."
    )
    yield _differences(changes["metrics"])
    if (rows := changes["undisputed"]) is not None:
        yield f"On the {rows['rows']:,} rows whose label was not changed:"
        yield _differences(rows["metrics"])


def _differences(changes: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            METRICS[one["name"]].label,
            one["before"],
            one["after"],
            one["difference"],
            f"{one['low']:+.4f} to {one['high']:+.4f}",
        ]
        for one in changes
    ]
    return table(["metric", "before", "after", "difference", "95 % interval"], rows)


def _rows(title: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield f"## {title}"
    names = ["row", "id", "label", "predicted", "probability", "text"]
    shown = [name for name in names if name != "text" or rows[0]["text"] is not None]
    yield table(shown, [[one[name] for name in shown] for one in rows])


def _suspects(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield "## Labels that are probably wrong"
    names = ["row", "id", "label", "suggested", "score", "loss", "text"]
    shown = [name for name in names if name != "text" or rows[0]["text"] is not None]
    yield table(shown, [[one[name] for name in shown] for one in rows])


def _provenance(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "## Provenance"
    said = facts["provenance"]
    versions = ", ".join(f"{name} {one}" for name, one in said["versions"].items())
    yield f"Made by {escaped(versions)}. Again:"
    # An indented block shows all as it is, and nothing in a line can end it.
    yield "\n".join(f"    {printable(' '.join(one.split()))}" for one in said["commands"])
    if facts["left_out"]:
        yield "## Left out"
        yield "\n".join(f"- {escaped(line, None)}" for line in facts["left_out"])
