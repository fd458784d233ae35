"""Pass scores on, and say where many of them are of a kind that the head has not seen.

The distance of a row is in `Scores.novelty`, by `pipeline/head/novelty.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from features.errors import InputError
from pipeline.head.head import Head
from pipeline.head.novelty import FALSE_ALARMS
from pipeline.scoring.evaluate import Scores

# Of rows that are far, from which on a batch is of another kind: other topics and years of the same
# language give some more than the 5 % of the training tweets' own kind.
FAR_SHARE = 0.2
# Of as many far rows by chance alone.
_CHANCE = 1e-4
# Rows after which a stream is judged before its end.
_ENOUGH = 200


def check_can_tell(head: Head) -> None:
    """Refuse to ask a head for novelty that can't tell."""
    if head.novelty is None:
        raise InputError(
            "the head can't tell how far tweets lie from those it was fitted on: it is of an "
            "earlier frostline, or was fitted on fewer than 200 rows; fit it again, or leave out "
            "`novelty`"
        )


def watched(
    scores: Iterable[Scores], *, warn: Callable[[str], None], live: bool = False
) -> Iterator[Scores]:
    """Give all scores, and warn once if too many rows are far from the training tweets.

    Parameters
    ----------
    scores : iterable of Scores
    warn : callable
        Told a line.
    live : bool
        Whether to judge as soon as there are enough rows, not at the end alone.
    """
    rows = far = 0
    warned = False
    for block in scores:
        yield block
        if block.novelty is not None:
            rows += len(block.novelty)
            far += int(np.count_nonzero(block.novelty > 1))
        if live and rows >= _ENOUGH and not warned and is_of_another_kind(far, rows):
            warned = True
            warn(_warning(far, rows))
    if not warned and is_of_another_kind(far, rows):
        warn(_warning(far, rows))


def is_of_another_kind(far: int, rows: int) -> bool:
    """Say whether so many far rows are too many to be of the training tweets' kind."""
    from scipy.special import bdtrc  # a tenth of a second: only where it is used

    return far > FAR_SHARE * rows and float(bdtrc(far - 1, rows, FALSE_ALARMS)) < _CHANCE


def _warning(far: int, rows: int) -> str:
    return (
        f"WARNING: {far:,} of {rows:,} rows ({far / rows:.0%}) lie farther from the training "
        f"tweets than {1 - FALSE_ALARMS:.0%} of those do, so their labels, and shares that are "
        "estimated from them, are less sure than it is said. If they are in another language, "
        "extract and fit with a multilingual encoder; else label a hundred of them and evaluate "
        "the head, or fit it with them"
    )
