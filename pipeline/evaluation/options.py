"""Record what `fit` and `compare` are both asked: how models are fitted and chosen. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from features.errors import InputError
from pipeline.evaluation.metrics import METRICS

CLASS_WEIGHTS = ("none", "balanced")


@dataclass(frozen=True)
class Options:
    """How models are fitted on labelled rows, how C is chosen, and what figures are for.

    Attributes
    ----------
    metric : str
        One of `METRICS`.
    class_weight : str
        One of `CLASS_WEIGHTS`.
    prior : str or mapping, optional
        See `parse_prior`; without, the prior that the models answer for as they are.
    seed : int
        Of the folds and of the bootstrap.
    max_iter : int
        Passes of the solver at most.
    tol : float
        The certificate that ends a fit.
    memory : int
        Bytes of vectors to hold.
    repeats : int
        Times that the rows are cut into folds.
    one_standard_error : bool
        See `choose`.

    Raises
    ------
    InputError
        A value is none of those allowed.
    """

    metric: str
    class_weight: str
    prior: str | Mapping[str, float] | None
    seed: int
    max_iter: int
    tol: float
    memory: int
    repeats: int = 1
    one_standard_error: bool = False

    def __post_init__(self) -> None:
        for value, allowed, what in (
            (self.class_weight, CLASS_WEIGHTS, "class weight"),
            (self.metric, tuple(METRICS), "metric"),
        ):
            if value not in allowed:
                raise InputError(f"unknown {what} {value!r}: choose {' or '.join(allowed)}")
        if self.max_iter < 1 or not 0 < self.tol < float("inf") or self.repeats < 1:
            raise InputError(
                f"`max_iter` {self.max_iter}, `tol` {self.tol} and `repeats` {self.repeats} must "
                "be above 0, and finite"
            )
