"""Measure what held-out rows got, and write down what a head is made from. No solving, no files.

In come a task and what came of its trials; out come the metrics, the calibration that goes into the
head, and the head's metadata as JSON types.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from features.base.machine import processor
from features.version import __version__
from pipeline.evaluation.cross_validation import Outcome
from pipeline.evaluation.metrics import Metrics, measure
from pipeline.evaluation.options import Options
from pipeline.fitting.task import Task
from pipeline.head.calibration import Calibration
from pipeline.head.held_out_figures import HeldOutFigures
from pipeline.solver.solve import Solution, softmax


@dataclass(frozen=True)
class Measured:
    """Figures of held-out rows, what was done to their probabilities, and the records of it."""

    metrics: Metrics
    calibration: Calibration
    record: dict[str, Any]
    held_out: HeldOutFigures | None


def measured_by(outcome: Outcome, labels: Sequence[str], method: str, seed: int) -> Measured:
    """Measure held-out rows, after calibration where that is the method."""
    rows, chosen = outcome.nested, outcome.held_out
    weight, method = rows.weight, chosen.chosen(method)
    calibration = chosen.calibration(method)
    before = measure(rows.y, softmax(rows.logits), labels, seed=seed, weight=weight)
    if method == "none":
        figures = chosen.figures(calibration, before.confusion)
        return Measured(before, calibration, {"method": method}, figures)
    after = measure(rows.y, rows.calibrated(method), labels, seed=seed, weight=weight)
    record = {
        "method": method,
        "temperature": calibration.temperature,
        "bias": calibration.bias.tolist(),
        "before": _of_calibration(before),
        "after": _of_calibration(after),
    }
    return Measured(after, calibration, record, chosen.figures(calibration, after.confusion))


def _of_calibration(metrics: Metrics) -> dict[str, float]:
    return {"log_loss": metrics.log_loss, "calibration_error": metrics.calibration_error}


def _view_scales(task: Task) -> list[float]:
    """Give the scale of each view, see `pipeline/solver/view_scales.py`."""
    if task.data.scale is None:
        return [1.0] * len(task.sources)
    first = np.cumsum([0, *(source.width for source in task.sources[:-1])])
    return [float(scale) for scale in task.data.scale[first]]


def metadata_of(
    task: Task, outcome: Outcome, solution: Solution, measured: Measured, options: Options
) -> dict[str, Any]:
    """Say, as JSON types, what a head is made from, how, and what it is worth."""
    matching = task.stores.matching
    return {
        "frostline": __version__,
        "versions": {p: version(p) for p in ("scikit-learn", "numpy")}
        | {"python": platform.python_version()},
        "processor": processor()[0],
        "data": task.opened.made_from(),
        "rows": len(task.rows.y),
        "class_rows": task.target.class_rows,
        "unlabelled": task.rows.unlabelled,
        "matching": None if matching is None else dataclasses.asdict(matching),
        "corrections": task.corrections.counts() if task.corrections.files else None,
        "conflicts": task.conflicts.counts(),
        "C": outcome.best.C,
        "view_scales": _view_scales(task),
        "class_weight": options.class_weight,
        "prior": task.target.stated.tolist(),
        "calibration": measured.record,
        "held_out": None if measured.held_out is None else measured.held_out.to_dict(),
        "seed": options.seed,
        "near_identical": task.near_identical,
        "iterations": solution.iterations,
        "converged": solution.converged,
        "gap": solution.gap,
        "tol": options.tol,
        "max_iter": options.max_iter,
        "measured_on": task.trials.measured_on,
        "metric": options.metric,
        "grid": [
            {
                "C": c.C,
                "score": c.score,
                "fold_scores": list(c.fold_scores),
                "difference_error": c.difference_error,
                "log_loss": c.log_loss,
                "log_loss_error": c.log_loss_error,
            }
            for c in outcome.candidates
        ],
        "nested_choices": list(outcome.nested_choices),
        "metrics": measured.metrics.to_dict(),
    }
