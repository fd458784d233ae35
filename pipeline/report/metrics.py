"""Show how good a head is: metrics in tables, and what they are for in words."""

from __future__ import annotations

from collections.abc import Sequence

from features.base.shown import printable
from pipeline.evaluation.metrics import METRICS, Metrics
from pipeline.report.layout import columns, facts_text, table

# On a terminal more classes have no table of all pairs.
_MANY_CLASSES = 20


def metrics_text(metrics: Metrics, measured_on: str, prior: Sequence[float] | None = None) -> str:
    """Lay out metrics as tables; log-loss and calibration error are those under `prior`."""
    low, high = metrics.macro_recall_interval
    overall = {METRICS[metric].label: f"{figure:.4f}" for metric, figure in metrics.figures.items()}
    overall[METRICS["macro-recall"].label] += f"  (95 % interval {low:.4f} to {high:.4f})"
    overall["calibration error"] = f"{metrics.calibration_error:.4f}"
    if prior is not None:
        overall["both for the prior"] = prior_in_words([c.label for c in metrics.classes], prior)
    names = [printable(c.label) for c in metrics.classes]
    per_class = [["class", "rows", "precision", "recall", "F1"]] + [
        [name, f"{c.rows:,}", f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}"]
        for name, c in zip(names, metrics.classes, strict=True)
    ]
    if columns() is not None and len(names) > _MANY_CLASSES:
        confusion = _confused_most(names, metrics.confusion)
    else:
        counts = zip(names, metrics.confusion, strict=True)
        confusion = [["true \\ predicted", *names]]
        confusion += [[name, *(f"{n:,}" for n in row)] for name, row in counts]
    return "\n\n".join(
        [
            f"Measured on {printable(measured_on)} ({metrics.rows:,} rows)\n{facts_text(overall)}",
            table(per_class),
            table(confusion),
        ]
    )


def _confused_most(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[list[str]]:
    """Give the pairs of classes that are confused most, instead of a table of all pairs."""
    pairs = [
        (n, names[true], names[predicted])
        for true, row in enumerate(confusion)
        for predicted, n in enumerate(row)
        if n and true != predicted
    ]
    most = sorted(pairs, key=lambda pair: -pair[0])[:_MANY_CLASSES]
    return [["true", "predicted", "rows"], *([a, b, f"{n:,}"] for n, a, b in most)]


def prior_in_words(labels: Sequence[str], prior: Sequence[float]) -> str:
    """Give `uniform`, or the share of each class."""
    if len(set(prior)) == 1:
        return "uniform"
    shown = [
        f"{printable(n)} {share:.3f}" for n, share in list(zip(labels, prior, strict=True))[:8]
    ]
    return ", ".join(shown) + (", …" if len(labels) > 8 else "")
