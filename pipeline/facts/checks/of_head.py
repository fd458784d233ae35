"""Check the head: whether it knows more than its prior, C was free, and probabilities hold.

Each check takes the subject and gives a record with what it found and what to do about it.
"""

from __future__ import annotations

import numpy as np

from features.base.arrays import Floats
from pipeline.evaluation.metrics import losses
from pipeline.facts.checks.subject import Subject, graded, skipped
from pipeline.facts.facts import GOOD, PROBLEM, WARNING, Check

# Calibration errors from which on it is a warning, and a problem, if they are no chance.
_CALIBRATION = (0.03, 0.1)
# Draws of rows whose probabilities hold, at least and at most, and rows that may be drawn in all.
_FEWEST, _MOST, _DRAWN = 50, 400, 20_000_000
# The share of the draws that a calibration error exceeds.
_CHANCE = 0.05
# Bins of the calibration error, see `pipeline/evaluation/metrics.py`.
_BINS = 15


def c_at_edge(subject: Subject) -> Check:
    """See whether the best C may lie outside what was tried."""
    name, title = "c-at-edge", "C inside the grid"
    grid = () if subject.choice is None else subject.choice.grid
    tried = [one.C for one in grid]
    chosen = next((one.C for one in grid if one.chosen), None)
    if chosen is None:
        return skipped(name, title, "C was given, or the head does not say what was tried.")
    found = f"C is {chosen:g}, of {len(tried)} that were tried from {tried[0]:g} to {tried[-1]:g}."
    if chosen == tried[-1]:
        cure = f"Fit with a larger one as well, `--C {10 * tried[-1]:g}`, and compare."
    elif chosen == tried[0]:
        cure = (
            f"Fit with a smaller one as well, `--C {tried[0] / 10:g}`, and compare; where the "
            "vectors tell nothing of the classes, another view or encoder is the cure."
        )
    else:
        return Check(name, GOOD, title, found, "")
    return Check(name, WARNING, title, f"{found} A better one may lie beyond the edge.", cure)


def no_better_than_prior(subject: Subject) -> Check:
    """Compare the head with always saying the shares that it answers for."""
    name, title = "no-better-than-prior", "Better than guessing"
    judged, head = subject.judged, subject.head
    n_classes = int(np.count_nonzero(np.bincount(judged.rows.y)))
    prior = np.full(len(head.labels), 1 / len(head.labels)) if head.prior is None else head.prior
    gain = -np.log(prior[judged.rows.y]) - losses(judged.rows.y, judged.proba)
    mean = float(np.average(gain, weights=judged.weight))
    error = float((judged.weight * (gain - mean)).std() / np.sqrt(len(gain)))
    low = judged.metrics.macro_recall_interval[0]
    found = (
        f"Macro recall is {judged.metrics.macro_recall:.3f} where guessing gives "
        f"{1 / n_classes:.3f}; log-loss is {mean:.3f} ± {2 * error:.3f} lower than that of the "
        "shares alone."
    )
    if low > 1 / n_classes and mean > 2 * error:
        return Check(name, GOOD, title, found, "")
    return Check(
        name,
        PROBLEM,
        title,
        found,
        "Check that the labels belong to these tweets (`frostline check`), then try another view "
        "or encoder with `frostline compare`.",
    )


def calibration(subject: Subject) -> Check:
    """See whether confidence is off by more than chance."""
    name, title = "calibration", "Probabilities mean what they say"
    judged = subject.judged
    error = judged.metrics.calibration_error
    by_chance = _errors_by_chance(judged.proba.max(axis=1), judged.weight)
    bound = float(np.quantile(by_chance, 1 - _CHANCE))
    found = (
        f"Confidence is off by {error:.3f} on average, {bound:.3f} at most by chance where "
        "probabilities hold."
    )
    status = GOOD if error <= bound else graded(error, *_CALIBRATION)
    if status == GOOD:
        return Check(name, GOOD, title, found, "")
    cure = (
        "Fit again with `--calibrate auto`."
        if judged.is_own
        else "Fit with some of these rows, or move it to their shares with `--prior estimate`."
    )
    return Check(name, status, title, found, cure)


def _errors_by_chance(confidence: Floats, weight: Floats) -> Floats:
    """Draw calibration errors of rows that are right as often as their confidence says.

    This is the consistency resampling of Bröcker and Smith, "Increasing the reliability of
    reliability diagrams", 2007.
    """
    rng = np.random.default_rng(0)
    order = np.argsort(confidence, kind="stable")
    confidence, weight = confidence[order].astype(np.float32), weight[order].astype(np.float32)
    at = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    starts = np.flatnonzero(np.diff(at, prepend=-1))
    draws = int(np.clip(_DRAWN // len(confidence), _FEWEST, _MOST))
    total, found = float(weight.sum()), np.empty(draws)
    for n in range(draws):
        is_right = rng.random(len(confidence), np.float32) < confidence
        gaps = np.add.reduceat(weight * (is_right - confidence), starts)
        found[n] = np.abs(gaps).sum() / total
    return found
