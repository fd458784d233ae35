"""Estimate the share of each class in scored rows, by groups too. No files, no models.

Most people who label tweets want to know how many are of each class, per day or per topic, not
which. Counting labels is biased towards the classes that a classifier is partial to. Here the
shares come in two ways that are not: by EM on the probabilities
(`pipeline/evaluation/label_shift.py`), and by counts that are adjusted by the errors on held-out
rows (`pipeline/evaluation/adjusted_counting.py`). Where both rest on what is true, their intervals
overlap.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.base.arrays import Floats
from features.errors import InputError
from features.store.format import sort_labels
from pipeline.evaluation.adjusted_counting import AdjustedCount, adjusted_count
from pipeline.evaluation.label_shift import LabelShift, estimate_shift
from pipeline.head.head import Head
from pipeline.head.held_out_figures import HeldOutFigures
from pipeline.scoring.estimated_prior import known_of
from pipeline.scoring.evaluate import Scores

# Rows below which shares of a group say little: 95 % intervals are wider than ten points to either
# side.
FEW_ROWS = 100
# Groups are values that people look at one by one.
MOST_GROUPS = 2000


@dataclass(frozen=True)
class Quantity:
    """The shares of the classes in some rows, in three ways.

    Attributes
    ----------
    group : str, optional
        The value that the rows have in common; None for all rows.
    shift : LabelShift
        By EM, and by plain counting.
    adjusted : AdjustedCount
    """

    group: str | None
    shift: LabelShift
    adjusted: AdjustedCount

    @property
    def is_small(self) -> bool:
        """Whether there are too few rows to say much."""
        return self.shift.rows < FEW_ROWS


@dataclass(frozen=True)
class Quantities:
    """What `quantify` gives.

    Attributes
    ----------
    labels : tuple of str, (K,)
    by : str, optional
        What the groups are of.
    all : Quantity
    groups : tuple of Quantity
        In the order of their values, numbers first.
    ungrouped : int
        Rows without a value, which are in `all` only.
    """

    labels: tuple[str, ...]
    by: str | None
    all: Quantity
    groups: tuple[Quantity, ...]
    ungrouped: int

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON types."""
        return {
            "by": self.by,
            "ungrouped": self.ungrouped,
            "quantities": [
                {
                    "group": one.group,
                    "is_small": one.is_small,
                    "em": one.shift.to_dict(),
                    "adjusted": dataclasses.asdict(one.adjusted),
                }
                for one in (self.all, *self.groups)
            ],
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Give a flat row for each class of all rows, and of each group.

        `by` and `group` are empty for all rows. `share` is that of EM, `flags` says `few-rows` and
        `weak`.
        """
        for one in (self.all, *self.groups):
            flags = (("few-rows", one.is_small), ("weak", one.shift.is_weak))
            for k, label in enumerate(self.labels):
                (low, high), (adjusted_low, adjusted_high) = (
                    one.shift.intervals[k],
                    one.adjusted.intervals[k],
                )
                figures = {
                    "counted": one.shift.counted[k],
                    "share": one.shift.shares[k],
                    "share_low": low,
                    "share_high": high,
                    "adjusted": one.adjusted.shares[k],
                    "adjusted_low": adjusted_low,
                    "adjusted_high": adjusted_high,
                    "p_shift": one.shift.p_value,
                }
                yield {
                    "by": "" if one.group is None else str(self.by),
                    "group": one.group or "",
                    "rows": one.shift.rows,
                    "class": label,
                    **{name: round(value, 6) for name, value in figures.items()},
                    "flags": " ".join(name for name, holds in flags if holds),
                }


COLUMNS = (
    "by",
    "group",
    "rows",
    "class",
    "counted",
    "share",
    "share_low",
    "share_high",
    "adjusted",
    "adjusted_low",
    "adjusted_high",
    "p_shift",
    "flags",
)


def quantify(
    head: Head, scores: Iterable[Scores], *, by: str | None = None, seed: int = 0
) -> Quantities:
    """Estimate the shares of the classes, of all rows and by groups.

    Parameters
    ----------
    head : Head
        That made the scores.
    scores : iterable of Scores
        With their groups, if `by` is given.
    by : str, optional
        What the groups are of, in words.
    seed : int
        Of the bootstrap.

    Raises
    ------
    InputError
        The head keeps no figures of held-out rows, or none of one of its classes; there is no row;
        no row has a group, or there are more than `MOST_GROUPS`.
    """
    held_out = _figures(head)
    proba, groups = [], []
    for block in scores:
        proba.append(block.proba)
        groups += block.groups or [None] * len(block.ids)
    if not groups:
        raise InputError("no usable tweet in the input; there is nothing to quantify")
    rows = np.concatenate(proba)
    names = _names(groups, by)
    number = {name: n for n, name in enumerate(names)}
    of_row = np.array([-1 if group is None else number.get(group, -1) for group in groups])
    return Quantities(
        head.labels,
        by,
        _quantity(None, rows, head, held_out, seed),
        tuple(
            _quantity(name, rows[of_row == n], head, held_out, seed) for n, name in enumerate(names)
        ),
        0 if by is None else int(np.count_nonzero(of_row < 0)),
    )


def by_stored_label(scores: Iterable[Scores], by: str) -> Iterator[Scores]:
    """Group cached vectors by the one column that they are stored with.

    Raises
    ------
    InputError
        It is another one.
    """
    if by != "label":
        raise InputError(
            f"cached vectors are stored with one column, label, and not with {by!r}: give the file "
            f"of tweets instead, or extract it with {by!r} as the label column, and quantify "
            "`by=label`"
        )
    return (dataclasses.replace(block, groups=block.labels) for block in scores)


def _figures(head: Head) -> HeldOutFigures:
    """Give the errors of held-out rows, of each class some."""
    held_out = head.held_out
    if held_out is None:
        raise InputError(
            "the head keeps no errors of held-out rows (it is of an earlier frostline, or of very "
            "many classes), so that counts can't be adjusted; fit it again"
        )
    for label, row in zip(head.labels, held_out.confusion, strict=True):
        if not row.sum():
            raise InputError(
                f"the head was measured on no row of class {label!r}, so that counts can't be "
                "adjusted; fit it again with folds, or with validation rows of all classes"
            )
    return held_out


def _names(groups: list[str | None], by: str | None) -> list[str]:
    """Give the values of the groups, in order."""
    if by is None:
        return []
    found = {group for group in groups if group is not None}
    if not found:
        raise InputError(f"no row has a value of {by!r}; name another column with `by`")
    if len(found) > MOST_GROUPS:
        raise InputError(
            f"{by!r} has {len(found):,} values, more than {MOST_GROUPS:,}: give `by` a column of "
            "few values, such as the day instead of the second"
        )
    return sort_labels(found)


def _quantity(
    group: str | None, proba: Floats, head: Head, held_out: HeldOutFigures, seed: int
) -> Quantity:
    """Estimate the shares in rows, from probabilities under the head's prior."""
    known = known_of(head)
    # As the held-out rows were predicted, whose errors are known.
    predicted = (proba * (held_out.prior / known.prior)).argmax(axis=1)
    counts = np.bincount(predicted, minlength=len(head.labels))
    return Quantity(
        group,
        estimate_shift(proba, known, seed=seed),
        adjusted_count(counts, held_out.confusion, seed=seed),
    )
