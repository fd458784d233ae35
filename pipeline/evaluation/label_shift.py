"""Estimate the shares of the classes in rows without labels, from calibrated probabilities. Pure.

In come the probabilities of rows, the prior that they answer for, and the shares in the training
rows; out comes a `LabelShift`: the likeliest shares by EM (`pipeline/evaluation/mixture.py`), with
intervals, with a test of whether they differ from the training shares at all, and with what a row
tells.

All of it rests on one assumption: a tweet of a class looks as it did in training, p(x | y) is the
same, and only the shares of the classes have changed. Probabilities alone can't show whether it
holds.

**Intervals** are of the bootstrap: rows are drawn again, and so is the calibration that their
probabilities come from, by its covariance (`uncertainty` of `pipeline/head/calibration.py`). Of
many rows, `_ROWS_DRAWN` are drawn, and the deviations are scaled by the root of the ratio (the m
out of n bootstrap: Bickel, Götze and van Zwet, "Resampling fewer than n observations", 1997), so
that a million rows cost what some thousands do.

**The test** is the likelihood ratio of the estimate against the training shares. Twice its
logarithm would have a chi-square distribution with K - 1 degrees of freedom if both the
probabilities and the training shares were known exactly. As neither is, it is divided by the mean
of how much they widen the variance first (Rao and Scott, "The analysis of categorical data from
complex sample surveys", 1981, section 4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.base.arrays import Floats
from pipeline.evaluation.mixture import likeliest_shares

BOOTSTRAP_ROUNDS = 500
_ROWS_DRAWN = 1000
# Values of resampled rows that are held at a time.
_VALUES = 2**16
# Of a false alarm of the test.
SIGNIFICANCE = 0.05
# Below it, errors of the calibration become more than twenty times as large errors of the shares.
WEAK = 0.05
_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class LabelShift:
    """The shares of the classes in some rows, as far as their probabilities tell.

    Attributes
    ----------
    labels : tuple of str, (K,)
    rows : int
    training : tuple of float, (K,)
        Shares in the training rows.
    shares : tuple of float, (K,)
        Estimated ones, which sum to 1.
    intervals : tuple of (float, float), (K,)
        95 % of each share, by itself.
    counted : tuple of float, (K,)
        Shares of the most probable classes: what plain counting gives.
    statistic, p_value : float
        Of the test that the shares are those of the training rows.
    worth : float
        What a row tells of the shares, at least, against one with a label, from 0 to 1: the
        smallest eigenvalue of the confusion matrix of probabilities, see `worth_of`.
    calibration_known : bool
        Whether the intervals count in that the calibration was fitted on so many rows.
    """

    labels: tuple[str, ...]
    rows: int
    training: tuple[float, ...]
    shares: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    counted: tuple[float, ...]
    statistic: float
    p_value: float
    worth: float
    calibration_known: bool

    @property
    def is_significant(self) -> bool:
        """Whether the shares differ from those of the training rows by more than chance."""
        return self.p_value < SIGNIFICANCE

    @property
    def is_weak(self) -> bool:
        """Whether the classes are so hard to tell apart that small errors become large ones."""
        return self.worth < WEAK

    def to_dict(self) -> dict[str, Any]:
        """Give the estimate as JSON types."""
        return dataclasses.asdict(self) | {
            "is_significant": self.is_significant,
            "is_weak": self.is_weak,
        }


@dataclass(frozen=True)
class Known:
    """What is known of the rows that a head was fitted on.

    Attributes
    ----------
    labels : tuple of str, (K,)
    prior : float array (K,)
        The one that probabilities answer for.
    class_rows : sequence of int, (K,)
        Training rows of each class.
    calibration : float array (1 + K, 1 + K), optional
        Covariance of scale and biases, see `uncertainty`; without, they are taken as exact.
    """

    labels: tuple[str, ...]
    prior: Floats
    class_rows: Sequence[int]
    calibration: Floats | None = None


def estimate_shift(
    proba: Floats, known: Known, *, seed: int = 0, rounds: int = BOOTSTRAP_ROUNDS
) -> LabelShift:
    """Estimate the shares of the classes in rows.

    Parameters
    ----------
    proba : float array (N, K)
        Calibrated probabilities under `known.prior`, of one row at least.
    known : Known
    seed, rounds : int
        Of the bootstrap.
    """
    evidence = _evidence(proba, known.prior)
    ratios = _ratios(evidence[:, None], known.prior)
    shares = likeliest_shares(ratios)[0]
    drawn = _drawn_again(evidence, known, shares, rounds, np.random.default_rng(seed))
    deviations = drawn - shares
    low, high = np.clip(np.percentile(deviations, [2.5, 97.5], axis=0) + shares, 0.0, 1.0)
    counts = np.asarray(known.class_rows, np.float64)
    training = counts / counts.sum()
    of_rows = ratios[:, 0].T
    statistic, p_value = _test(of_rows, shares, training, deviations, counts.sum())
    n_classes = len(known.labels)
    return LabelShift(
        known.labels,
        len(proba),
        tuple(training.tolist()),
        tuple(shares.tolist()),
        tuple(zip(low.tolist(), high.tolist(), strict=True)),
        tuple((np.bincount(proba.argmax(axis=1), minlength=n_classes) / len(proba)).tolist()),
        statistic,
        p_value,
        worth_of(of_rows, known.prior, shares),
        known.calibration is not None,
    )


def estimated_shares(proba: Floats, prior: Floats) -> Floats:
    """Give the shares alone, (K,), from probabilities (N, K) that answer for a prior."""
    return np.asarray(likeliest_shares(_ratios(_evidence(proba, prior)[:, None], prior))[0])


def _evidence(proba: Floats, prior: Floats) -> Floats:
    """Take the prior out of probabilities (N, K), by class: (K, N)."""
    shown = np.log(np.maximum(proba, _LEAST_PROBABILITY)) - np.log(prior)
    return np.ascontiguousarray(shown.T)


def _ratios(evidence: Floats, prior: Floats) -> Floats:
    """Turn evidence (K, B, N) into likelihood ratios whose mean by the prior is 1."""
    ratios = np.exp(evidence - evidence.max(axis=0))
    return np.asarray(ratios / np.tensordot(prior, ratios, 1))


def _drawn_again(
    evidence: Floats, known: Known, of_all: Floats, rounds: int, rng: np.random.Generator
) -> Floats:
    """Estimate the shares anew from rows, and a calibration, that are drawn again: (rounds, K).

    The deviations that come from the rows are scaled; those that come from the calibration do not
    become smaller with more rows.
    """
    n_classes, n_rows = evidence.shape
    n_drawn = min(n_rows, _ROWS_DRAWN)
    scale = np.sqrt(n_drawn / n_rows)
    at_once = max(1, _VALUES // (n_drawn * n_classes))
    found = []
    for first in range(0, rounds, at_once):
        n = min(at_once, rounds - first)
        rows = evidence[:, rng.integers(0, n_rows, (n, n_drawn))]
        of_rows = likeliest_shares(_ratios(rows, known.prior), start=of_all)
        shares = of_all + scale * (of_rows - of_all)
        if known.calibration is not None:
            moved = rng.multivariate_normal(
                np.zeros(1 + n_classes), known.calibration, n, check_valid="ignore"
            ).T
            rows *= 1 + moved[0, :, None]
            rows += moved[1:, :, None]
            of_moved = likeliest_shares(_ratios(rows, known.prior), start=of_all)
            shares += of_moved - of_rows
        found.append(shares)
    return np.concatenate(found)


def _test(
    ratios: Floats, shares: Floats, training: Floats, deviations: Floats, training_rows: float
) -> tuple[float, float]:
    """Give the likelihood ratio against the training shares, corrected, and its p-value."""
    from scipy.special import chdtrc  # a tenth of a second: only where it is used

    n_classes = ratios.shape[1]
    at_training = ratios @ training
    gain = 2 * float((np.log(ratios @ shares) - np.log(at_training)).sum())
    # On K - 1 shares: the last one is what is left.
    free = np.vstack([np.eye(n_classes - 1), -np.ones(n_classes - 1)])
    relative = ratios / at_training[:, None]
    information = free.T @ (relative.T @ relative) @ free
    of_training = (np.diag(training) - np.outer(training, training)) / training_rows
    covariance = (deviations.T @ deviations) / len(deviations) + of_training
    widened = float(np.trace(information @ covariance[:-1, :-1])) / (n_classes - 1)
    statistic = max(0.0, gain) / max(1.0, widened)
    return statistic, float(chdtrc(n_classes - 1, statistic))


def worth_of(ratios: Floats, prior: Floats, shares: Floats) -> float:
    """Say what a row tells of the shares, at least, against a row with a label.

    Were the classes shared as the prior says, E[p(k|x) p(l|x)] / sqrt(prior_k prior_l) would have
    the eigenvalue 1, for the prior itself, and K - 1 others between 0 and 1: the information on a
    change of the shares over that of labelled rows, in as many directions. The rows stand for such
    ones by their densities.

    Parameters
    ----------
    ratios : float array (N, K)
        Whose mean by the prior is 1.
    prior, shares : float arrays (K,)
        What probabilities answer for, and what the rows have.

    Returns
    -------
    float
        The least of them. 1: every row shows its class; 0: two classes can't be told apart.
    """
    weight = 1 / (ratios @ shares)
    scaled = ratios * np.sqrt(prior)
    confusion = (scaled * (weight / weight.sum())[:, None]).T @ scaled
    return float(np.clip(np.linalg.eigvalsh(confusion)[0], 0.0, 1.0))


def moved(proba: Floats, prior: Floats, shares: Floats, rows: int) -> Floats:
    """Move probabilities (N, K) from a prior to estimated shares.

    A class that no row speaks for keeps half a row's share: it may still come.
    """
    new = np.maximum(shares, 0.5 / rows)
    weighted = proba * (new / new.sum() / prior)
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True))
