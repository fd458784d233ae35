"""Find the calibration and the figures of rows that the models did not see. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from features.base.arrays import Floats, Indices
from pipeline.evaluation.metrics import losses
from pipeline.head.calibration import (
    BIAS_CORRECTED,
    TEMPERATURE,
    Calibration,
    cross_fitted,
    fit_calibration,
    uncertainty,
)
from pipeline.head.held_out_figures import MOST_CLASSES, HeldOutFigures
from pipeline.head.priors import importance


@dataclass(frozen=True)
class HeldOut:
    """Rows that were held out, each once, and what they got.

    Attributes
    ----------
    y : int array (n,)
    logits : float64 array (n, K)
        Under `prior`.
    groups : int array (n,)
        Each is calibrated by the others.
    prior : float array (K,)
        The one that figures are for.
    calibrated_by : mapping of int to HeldOut
        For every group, the rows that calibrate it, with what models of its own C say about them.
        Empty where all groups have the same C: they calibrate each other. See `MadeWhenAsked`.
    """

    y: Indices
    logits: Floats
    groups: Indices
    prior: Floats
    calibrated_by: Mapping[int, HeldOut] = field(default_factory=dict)

    @property
    def weight(self) -> Floats:
        """Weights of the rows, by which their classes have the shares of the prior."""
        return importance(self.y, self.prior)

    def chosen(self, method: str) -> str:
        """Say which method `auto` is: the biases have to be better by more than chance.

        The difference of the log-losses, each group's calibrated by the others, must be larger than
        its own standard error over the rows.
        """
        if method != "auto":
            return method
        gain = self.weight * (self._losses(TEMPERATURE) - self._losses(BIAS_CORRECTED))
        is_better = gain.mean() > gain.std() / np.sqrt(len(gain))
        return BIAS_CORRECTED if is_better else TEMPERATURE

    def _losses(self, method: str) -> Floats:
        """Give the log-loss of each row, by the calibration of the other groups."""
        return losses(self.y, self.calibrated(method))

    def calibration(self, method: str) -> Calibration:
        """Find the calibration of all rows, see `fit_calibration`."""
        if method == "none":
            return Calibration.none(len(self.prior))
        return fit_calibration(method, self.logits, self.y, self.prior, self.weight)

    def calibrated(self, method: str) -> Floats:
        """Give probabilities (n, K), each group's at the calibration of the others."""
        if not self.calibrated_by:
            return cross_fitted(method, self.logits, self.y, self.groups, self.prior, self.weight)
        found = np.empty_like(self.logits)
        for group, others in self.calibrated_by.items():
            its = self.groups == group
            found[its] = others.calibration(method).probabilities(self.logits[its], self.prior)
        return found

    def figures(
        self, calibration: Calibration, confusion: Sequence[Sequence[int]]
    ) -> HeldOutFigures | None:
        """Give what a head keeps of these rows; None for more than `MOST_CLASSES`.

        Parameters
        ----------
        calibration : Calibration
            That of the head.
        confusion : sequence of sequences of int, (K, K)
            Rows of each true class by predicted one.
        """
        prior = self.prior
        if len(prior) > MOST_CLASSES:
            return None
        logits = self.logits - np.log(prior)
        logits /= calibration.temperature
        logits += calibration.bias
        logits += np.log(prior)
        found = uncertainty(logits, self.y, prior, self.weight)
        return HeldOutFigures(prior, np.array(confusion), found)


class MadeWhenAsked(Mapping[int, HeldOut]):
    """Rows that calibrate groups, which are there for one group at a time."""

    def __init__(self, made: Mapping[int, Callable[[], HeldOut]]) -> None:
        self._made = made

    def __getitem__(self, group: int) -> HeldOut:
        return self._made[group]()

    def __iter__(self) -> Iterator[int]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)
