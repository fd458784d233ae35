"""Choose C from the scores of every C on the same held-out rows, with the figures behind it.

The best mean score wins by noise where several C are about as good. So the smallest C is taken that
the rows can't tell from the best, in two steps: first by the metric, and then, as figures like
recall are coarse, by the log-loss of the calibrated probabilities. What rows can tell is said by
the standard error of the *difference*, taken over the same rows for both: what makes some rows hard
for all C cancels in it. Nothing is fitted here.

On 50 draws of 2,000 tweets, this rule gives on other tweets 0.0011 +- 0.0004 more macro recall than
the best score does, and choices that scatter by 0.18 decades of C instead of 0.30. On 50 draws of
400, it gives 0.0038 +- 0.0015 more, and 0.29 decades instead of 0.56. The smallest C by the metric
alone gives 0.0016 and 0.0029 less than the best score (`benchmarks/choice_of_c.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from features.base.arrays import Floats

# Half-decades from 1e-4 to 1e2. Standardised BERT vectors want small C: several hundred correlated
# dimensions overfit from about 1 on.
C_GRID = tuple(float(f"{10 ** (k / 2):.3g}") for k in range(-8, 5))


@dataclass(frozen=True)
class Candidate:
    """One C: its score in each fold of each repeat.

    Attributes
    ----------
    C : float
    fold_scores : tuple of float
        The folds of the first repeat, then those of the next.
    repeats : int
        Times that the rows were cut into folds.
    difference_error : float
        Standard error of the difference between its mean score and the best one, over the same
        rows; 0 for the best.
    log_loss : float
        Of all rows, at the temperature that is best for them, in nats.
    log_loss_error : float
        Standard error of the difference between its log-loss and the least one of the plateau.
    """

    C: float
    fold_scores: tuple[float, ...]
    repeats: int = 1
    difference_error: float = 0.0
    log_loss: float = 0.0
    log_loss_error: float = 0.0

    @property
    def score(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.fold_scores))

    @property
    def standard_error(self) -> float:
        """Of the mean over the folds of one repeat: cutting the same rows again adds no rows."""
        folds = np.reshape(self.fold_scores, (self.repeats, -1))
        return float(np.sqrt(folds.var(axis=1, ddof=1).mean() / folds.shape[1]))


def best_of(candidates: Sequence[Candidate], *, higher_is_better: bool = True) -> Candidate:
    """Give the one with the best mean score; among equals that with the smallest C."""
    sign = 1 if higher_is_better else -1
    return max(candidates, key=lambda candidate: (sign * candidate.score, -candidate.C))


def plateau(candidates: Sequence[Candidate], *, higher_is_better: bool = True) -> list[Candidate]:
    """Give those whose mean scores are at most a standard error of the difference from the best."""
    best = best_of(candidates, higher_is_better=higher_is_better)
    return [one for one in candidates if abs(best.score - one.score) <= one.difference_error]


class Moves(Protocol):
    """How much each of G independent groups of rows moves a figure, at the C of each number."""

    def __getitem__(self, number: int, /) -> Floats:
        """Give it, (G,), as `influence` of `pipeline/evaluation/metrics.py` finds it."""


def paired(
    candidates: Sequence[Candidate],
    influence: Moves,
    influence_on_loss: Moves,
    *,
    higher_is_better: bool = True,
) -> tuple[Candidate, ...]:
    """Add the standard errors of the differences in mean score and in log-loss."""
    found = paired_in_score(candidates, influence, higher_is_better=higher_is_better)
    return paired_in_loss(found, influence_on_loss, higher_is_better=higher_is_better)


def paired_in_score(
    candidates: Sequence[Candidate], influence: Moves, *, higher_is_better: bool = True
) -> tuple[Candidate, ...]:
    """Add the standard errors of the differences to the best mean score."""
    best = candidates.index(best_of(candidates, higher_is_better=higher_is_better))
    return tuple(
        replace(one, difference_error=error)
        for one, error in zip(candidates, _errors(influence, best, len(candidates)), strict=True)
    )


def paired_in_loss(
    candidates: Sequence[Candidate], influence_on_loss: Moves, *, higher_is_better: bool = True
) -> tuple[Candidate, ...]:
    """Add the standard errors of the differences to the least log-loss of the plateau."""
    good = plateau(candidates, higher_is_better=higher_is_better)
    least = candidates.index(min(good, key=lambda one: one.log_loss))
    errors = _errors(influence_on_loss, least, len(candidates))
    return tuple(
        replace(one, log_loss_error=error) for one, error in zip(candidates, errors, strict=True)
    )


def _errors(influence: Moves, reference: int, n: int) -> Iterator[float]:
    """Give them one after another: what rows move is not there for all C at a time."""
    of_reference = influence[reference]
    for number in range(n):
        if number == reference:
            yield 0.0
            continue
        yield float(np.sqrt(np.square(influence[number] - of_reference).sum()))


def choose(
    candidates: Sequence[Candidate],
    *,
    higher_is_better: bool = True,
    one_standard_error: bool = False,
) -> Candidate:
    """Take the smallest C, the simplest model, that the rows can't tell from the best.

    With `one_standard_error`, take the smallest C that is within one standard error of the best
    mean score itself (Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3).
    """
    best = best_of(candidates, higher_is_better=higher_is_better)
    if one_standard_error:
        error = best.standard_error
        good = [
            one
            for one in candidates
            if abs(best.score - one.score) <= max(one.difference_error, error)
        ]
    else:
        near = plateau(candidates, higher_is_better=higher_is_better)
        least = min(one.log_loss for one in near)
        good = [one for one in near if one.log_loss - least <= one.log_loss_error]
    return min(good, key=lambda candidate: candidate.C)
