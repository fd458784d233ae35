"""Let models stand in for a head: fitted as it was, on labels that are given, and judging by folds.

In come a head, which says how it was fitted, and rows that are cut into folds; out come
probabilities of rows by models that were not fitted on them. Nothing is measured here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from features.base.arrays import Floats, Indices, Mask
from features.errors import InputError
from features.spec.vector_spec import VectorSpec
from pipeline.data.join import Joined
from pipeline.data.labelled_rows import rows_where
from pipeline.evaluation.cross_validation import SELECTION_TOL
from pipeline.evaluation.options import CLASS_WEIGHTS, Options
from pipeline.evaluation.trials import Target, training_set
from pipeline.head.calibration import BIAS_CORRECTED, TEMPERATURE, Calibration, fit_calibration
from pipeline.head.head import Head
from pipeline.head.priors import fitted_prior, importance, shift
from pipeline.head.settings import inverse_penalty, view_scales
from pipeline.solver.solve import Data, Problem, prepare, solve
from pipeline.solver.view_scales import with_view_scales

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Settings:
    """How a head was fitted: its C, the scales of its views, (V,), class weights, calibration."""

    C: float
    scales: Floats
    class_weight: str
    method: str

    @classmethod
    def of(cls, head: Head) -> Settings:
        """Read them from its metadata."""
        class_weight = head.metadata.get("class_weight")
        record = head.metadata.get("calibration")
        method = record.get("method") if isinstance(record, Mapping) else "none"
        if class_weight not in CLASS_WEIGHTS or method not in (TEMPERATURE, BIAS_CORRECTED, "none"):
            raise InputError(
                f"the head says class weight {class_weight!r} and calibration {method!r}, by which "
                "it can't be fitted; fit it again"
            )
        return cls(inverse_penalty(head), view_scales(head), str(class_weight), str(method))


@dataclass(frozen=True)
class FoldedRows:
    """N labelled rows of stores, prepared for fits of a head, and who judges them.

    Attributes
    ----------
    stores : Joined
        Its rows with labels are the N.
    sources : tuple of VectorSpec
        The views in `data`.
    target : Target
        The classes, and the prior that probabilities are for.
    data : Data
    folds : sequence of bool arrays (N,)
        The rows that each model leaves out.
    """

    stores: Joined
    sources: tuple[VectorSpec, ...]
    target: Target
    data: Data
    folds: Sequence[Mask]

    def judged(self, values: npt.NDArray[T]) -> npt.NDArray[T]:
        """Give what N rows have, (N, …), of those in the first fold, then in the next, (n, …)."""
        return np.concatenate([values[fold] for fold in self.folds])


def out_of_fold(head: Head, y: Indices, rows: FoldedRows, options: Options) -> Floats:
    """Give what models of a head's settings say of rows that they did not see.

    Parameters
    ----------
    head : Head
    y : int array (N,)
        The labels to learn from, each class with rows; rows of -1 are learned from by none.
    rows : FoldedRows
    options : Options

    Returns
    -------
    float64 array (n, K)
        Of the rows of the first fold, then of the next.
    """
    settings, prior, folds = Settings.of(head), rows.target.stated, rows.folds
    n_classes = len(prior)
    known = y >= 0
    codes = np.where(known, y, 0)
    data = _data(settings, tuple(rows.stores.like(head.sources)), codes, rows, options)
    sets = [training_set(codes, n_classes, settings.class_weight, fold | ~known) for fold in folds]
    tol = max(options.tol, SELECTION_TOL)
    problems = [Problem(settings.C, one, tol) for one in sets]
    solutions = solve(data, problems, max_iter=options.max_iter)
    class_rows = np.bincount(y[known], minlength=n_classes).tolist()
    moved = shift(fitted_prior(class_rows, settings.class_weight), prior)
    logits = [
        one.held_out[fold[fold | ~known]].astype(np.float64) + moved
        for one, fold in zip(solutions, folds, strict=True)
    ]
    return _calibrated(logits, [y[fold] for fold in folds], settings.method, prior)


def _calibrated(
    logits: Sequence[Floats], y: Sequence[Indices], method: str, prior: Floats
) -> Floats:
    """Give the probabilities of the rows of each fold, calibrated by those of the others."""
    found = []
    for number, of_fold in enumerate(logits):
        others = [n for n in range(len(logits)) if n != number]
        calibration = Calibration.none(len(prior))
        if others and method != "none":
            judged = np.concatenate([logits[n] for n in others])
            labels = np.concatenate([y[n] for n in others])
            judged, labels = judged[labels >= 0], labels[labels >= 0]
            weight = importance(labels, prior)
            calibration = fit_calibration(method, judged, labels, prior, weight)
        found.append(calibration.probabilities(of_fold, prior))
    return np.concatenate(found)


def _data(
    settings: Settings,
    sources: tuple[VectorSpec, ...],
    codes: Indices,
    rows: FoldedRows,
    options: Options,
) -> Data:
    """Give the vectors of a head's views at its scales: those at hand, where these are they."""
    widths = [source.width for source in sources]
    scale = np.repeat(settings.scales, widths)
    if sources == rows.sources and np.array_equal(
        scale, np.ones(len(scale)) if rows.data.scale is None else rows.data.scale
    ):
        return dataclasses.replace(rows.data, y=codes)
    data = prepare(
        rows_where(rows.stores, sources, rows.stores.codes >= 0),
        codes,
        n_classes=len(rows.target.labels),
        memory=options.memory,
        class_weight=rows.target.everything.class_weight,
    )
    return with_view_scales(data, settings.scales, widths)
