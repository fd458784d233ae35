"""Summaries and metrics in, text for a terminal out. It computes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from features.extract import ExtractSummary
from features.store import FeatureStore
from pipeline.fit import FitResult
from pipeline.head import Head
from pipeline.metrics import Metrics
from pipeline.predict import Written


def table(rows: Sequence[Sequence[object]]) -> str:
    """Line up cells; the first column to the left, the others to the right."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def printable(text: str) -> str:
    """Make text from a file safe to print: control characters are written as escapes."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def extract_text(summary: ExtractSummary) -> str:
    """Say what a run of `extract` did."""
    s = summary
    views = ", ".join(f"{view} ({width})" for view, width in s.views.items())
    size = f"{s.file_bytes / 1e6:,.1f} MB"
    facts: dict[str, str] = {
        "rows": f"{s.rows:,}" + _listed(s.labels),
        "unique texts": f"{s.unique:,} ({s.encoded:,} encoded in this run)",
        "tokens": f"{s.tokens:,} ({s.tokens / s.rows:.1f} a tweet)",
        "flagged": f"{s.truncated:,} truncated, {s.empty:,} empty, {s.repaired:,} repaired",
        "rejected": f"{s.rejected:,}" + (f", listed in {s.rejects_file}" if s.rejects_file else ""),
        "views": views,
        "encoder": f"{printable(s.model)}, {s.precision} precision"
        + (f" ({s.compute})" if s.compute else ""),
    }
    if s.outcome == "unchanged":
        return (
            f"{printable(str(s.output))} is up to date: same input, same encoder; nothing was done\n"
            + _facts(facts)
        )
    parts = ", ".join(
        f"{part} {s.seconds[part]:.2f}" for part in ("read", "tokenise", "forward", "write")
    )
    facts["seconds"] = f"{s.seconds['total']:.2f} (load {s.seconds['load']:.2f}, {parts})"
    facts["speed"] = f"{s.tweets_per_second:,.0f} tweets/s, without loading the model"
    facts["file"] = f"{s.output}, {size}"
    verb = "extended" if s.outcome == "extended" else "written"
    return f"{printable(str(s.output))} {verb}\n" + _facts(facts)


def fit_text(result: FitResult) -> str:
    """Say what was fitted and what it is worth."""
    head, meta = result.head, result.head.metadata
    facts = {
        "views": " + ".join(f"{source.view} ({source.width})" for source in head.sources),
        "rows": f"{meta['rows']:,}"
        + _listed(dict(zip(head.labels, meta["class_rows"], strict=True)))
        + (f"; {result.unlabelled:,} without a label left out" if result.unlabelled else ""),
        "C": f"{meta['C']:g}" + (" (chosen)" if result.candidates else ""),
        "class weight": meta["class_weight"],
        "seconds": ", ".join(f"{part} {value:.2f}" for part, value in result.seconds.items()),
    }
    text = _facts(facts)
    if result.candidates:
        rows: list[list[object]] = [["C", "macro recall", "± s.e."]]
        rows += [
            [
                f"{c.C:g}" + (" *" if meta["C"] == c.C else ""),
                f"{c.score:.4f}",
                _error(c.fold_scores, c),
            ]
            for c in result.candidates
        ]
        text += "\n\n" + table(rows)
    if not result.converged:
        text += (
            f"\n\nNot converged: --max-iter ended the fit after {meta['iterations']} iterations, before "
            "--tol was reached; give more iterations or a larger tolerance"
        )
    return text + "\n\n" + metrics_text(result.metrics, result.measured_on)


def _error(fold_scores: Sequence[float], candidate: Any) -> str:
    return f"{candidate.standard_error:.4f}" if len(fold_scores) > 1 else ""


def metrics_text(metrics: Metrics, measured_on: str) -> str:
    """Lay out metrics as tables."""
    low, high = metrics.macro_recall_interval
    overall = {
        "macro recall": f"{metrics.macro_recall:.4f}  (95 % interval {low:.4f} to {high:.4f})",
        "accuracy": f"{metrics.accuracy:.4f}",
        "macro F1": f"{metrics.macro_f1:.4f}",
        "log-loss": f"{metrics.log_loss:.4f}",
        "calibration error": f"{metrics.calibration_error:.4f}",
    }
    names = [printable(c.label) for c in metrics.classes]
    per_class = [["class", "rows", "precision", "recall", "F1"]] + [
        [name, f"{c.rows:,}", f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}"]
        for name, c in zip(names, metrics.classes, strict=True)
    ]
    confusion = [["true \\ predicted", *names]] + [
        [name, *(f"{n:,}" for n in row)] for name, row in zip(names, metrics.confusion, strict=True)
    ]
    return "\n\n".join(
        [
            f"Measured on {printable(measured_on)} ({metrics.rows:,} rows)\n{_facts(overall)}",
            table(per_class),
            table(confusion),
        ]
    )


def predict_text(written: Written, output: str, rejected: int, rejects_file: object) -> str:
    """Say what was scored, and show the first rows."""
    facts = {"rows": f"{written.rows:,}" + _listed(written.counts), "file": output}
    if rejected:
        facts["rejected"] = f"{rejected:,}, listed in {rejects_file}"
    text = f"{printable(output)} written\n" + _facts(facts)
    if written.first:
        rows: list[list[object]] = [
            ["label", *(k for k in written.first[0] if k.startswith("p_")), "tweet"]
        ]
        rows += [
            [
                printable(row["label"]),
                *(f"{v:.3f}" for k, v in row.items() if k.startswith("p_")),
                "  " + _start(row.get("text", row["id"])),
            ]
            for row in written.first
        ]
        widths = table([row[:-1] for row in rows]).split("\n")
        text += "\n\n" + "\n".join(
            f"{left}  {row[-1]}".rstrip() for left, row in zip(widths, rows, strict=True)
        )
    return text


def store_text(store: FeatureStore) -> str:
    """Say what a store holds and where it came from."""
    import numpy as np

    codes = store.labels()
    counts = {n: int(np.count_nonzero(codes == k)) for k, n in enumerate(store.label_names)}
    made = store.provenance[0]
    facts = {
        "rows": f"{store.n_rows:,}" + _listed(counts),
        "shards": str(len(store.paths)),
        "views": ", ".join(f"{view} ({width})" for view, width in store.views.items()),
        "precision": f"{store.precision}, stored as {store.store_dtype}",
        **_spec_facts(store.spec.to_dict(), store.fingerprint),
        "made from": printable(", ".join(map(str, made.get("inputs", [])))),
        "made by": _versions(made),
    }
    return f"{printable(str(store))}: cached vectors\n{_facts(facts)}\n\nIt fits heads of encoder {store.fingerprint[:12]}."


def head_text(head: Head, path: str) -> str:
    """Say what a head is, what it takes, and how it was measured."""
    meta = head.metadata
    facts = {"labels": printable(", ".join(head.labels))}
    for number, source in enumerate(head.sources, 1):
        prefix = "takes" if len(head.sources) == 1 else f"takes ({number})"
        facts[prefix] = f"{source.view} ({source.width}), {source.precision} precision"
        facts |= _spec_facts(source.spec.to_dict(), source.spec.fingerprint)
    facts["fitted on"] = (
        f"{meta.get('rows', 0):,} rows, C = {meta.get('C')}, class weight {meta.get('class_weight')}"
    )
    metrics = meta.get("metrics") or {}
    if "macro_recall" in metrics:
        facts["macro recall"] = (
            f"{metrics['macro_recall']:.4f} on {printable(str(meta.get('measured_on')))}"
        )
    facts["made by"] = _versions(meta)
    encoders = ", ".join(sorted({source.spec.fingerprint[:12] for source in head.sources}))
    return f"{printable(path)}: a fitted head\n{_facts(facts)}\n\nIt fits vectors of encoder {encoders}."


def _spec_facts(spec: Mapping[str, Any], fingerprint: str) -> dict[str, str]:
    revision = f" at {spec['revision']}" if spec["revision"] else ""
    return {
        "model": printable(f"{spec['model']}{revision}"),
        "max length": f"{spec['max_length']} tokens",
        "normaliser": printable(str(spec["normalizer"])),
        "fingerprint": fingerprint,
    }


def _versions(made: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in made.get("versions", {}).items())
    return printable(f"frostline {made.get('frostline')} ({versions})")


def _listed(counts: Mapping[str, int]) -> str:
    """Give ` (a 3, b 4)`, cut where there are many."""
    if not counts:
        return ""
    shown = [f"{printable(name)} {n:,}" for name, n in list(counts.items())[:8]]
    return f" ({', '.join(shown)}{', …' if len(counts) > 8 else ''})"


def _facts(facts: Mapping[str, str]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"  {name.ljust(width)}  {printable(value)}" for name, value in facts.items())


def _start(text: str) -> str:
    one_line = printable(" ".join(text.split()))
    return one_line if len(one_line) <= 70 else one_line[:69] + "…"
