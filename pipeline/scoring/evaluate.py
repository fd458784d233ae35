"""Measure scored rows where the truth is known. No files, no models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array
from features.errors import InputError
from features.tweets.findings import folded_label
from pipeline.evaluation.metrics import Metrics, measure
from pipeline.head.head import Head
from pipeline.head.priors import importance


@dataclass(frozen=True)
class Scores:
    """Some scored rows, in input order.

    Attributes
    ----------
    ids, texts : list of str
        Texts are those of the input; None for cached vectors.
    labels : list of str or None
        Those of the input, if it has any: the truth, not the prediction.
    proba : float64 array (rows, K)
    flags : list of str
        `empty` where there is no text, `repaired` where bytes were no text, both, or nothing.
    groups : list of str or None
        Those of the input, where a column of groups was asked for.
    novelty : float64 array (rows,), optional
        Distances to the training rows, above 1 where they are far; None where the head can't tell.
    digests : uint8 array (rows, 16), optional
        Of the normalised texts, where vectors are cached; other numbers where `Joined.texts` gives
        them.
    share : float, optional
        Of the input that is scored, with these rows; None where its size is unknown.
    """

    ids: list[str]
    texts: list[str] | None
    labels: list[str | None]
    proba: npt.NDArray[np.float64]
    flags: list[str]
    groups: list[str | None] = field(default_factory=list)
    novelty: npt.NDArray[np.float64] | None = None
    digests: Array | None = None
    share: float | None = None


def evaluate(
    head: Head, scores: Iterable[Scores], *, seed: int = 0, as_they_are: bool = False
) -> tuple[Metrics, int]:
    """Measure a head on scored rows that have labels, under the prior that it answers for.

    Parameters
    ----------
    head : Head
    scores : iterable of Scores
    seed : int
        Of the bootstrap.
    as_they_are : bool
        Whether all rows count alike, as where the probabilities answer for the shares of these very
        rows; else they count by the head's prior.

    Returns
    -------
    metrics : Metrics
    unlabelled : int
        Rows that were left out because they have no label.

    Raises
    ------
    InputError
        No row has a label, or one has a label that the head does not know.
    """
    codes: list[int] = []
    proba: list[npt.NDArray[np.float64]] = []
    unlabelled = 0
    for block in scores:
        labelled = [i for i, label in enumerate(block.labels) if label is not None]
        unlabelled += len(block.labels) - len(labelled)
        for i in labelled:
            if block.labels[i] not in head.labels:
                raise _unknown(head, str(block.labels[i]), block.ids[i], block.texts is None)
            codes.append(head.labels.index(str(block.labels[i])))
        proba.append(block.proba[labelled])
    if not codes:
        raise InputError("no row has a label to measure on; name the column with `label_column`")
    y = np.array(codes)
    weight = None if head.prior is None or as_they_are else importance(y, head.prior)
    metrics = measure(y, np.concatenate(proba), head.labels, seed=seed, weight=weight)
    return metrics, unlabelled


def _unknown(head: Head, label: str, row: str, cached: bool) -> InputError:
    """Say that a label is none of the head's, and what helps."""
    variant = folded_label(label) in head.labels
    how = (
        "`label_case=fold`"
        if variant
        else "a `mapping` that has a line label<TAB>name for each label to be measured, with one "
        "of the head's as its name (rows of other labels are rejected)"
    )
    cure = f"extract the tweets again with {how}" if cached else f"give {how}"
    return InputError(
        f"label {label!r} of row {row!r} is none of the head's: {', '.join(head.labels)}; {cure}, "
        "or fit a head on rows that have this label too"
    )
