"""What models say about rows that they did not see: its temperature and its figures. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from features.base.arrays import Floats, Indices
from pipeline.head.calibration import cross_fitted, fit_temperature
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
    """

    y: Indices
    logits: Floats
    groups: Indices
    prior: Floats

    @property
    def weight(self) -> Floats:
        """Weights of the rows, by which their classes have the shares of the prior."""
        return importance(self.y, self.prior)

    def temperature(self) -> float:
        """Find the temperature of all rows, see `fit_temperature`."""
        return fit_temperature(self.logits, self.y, self.prior, self.weight)

    def calibrated(self) -> Floats:
        """Give probabilities (n, K), each group's at the temperature of the others."""
        return cross_fitted(self.logits, self.y, self.groups, self.prior, self.weight)
