"""Move scores to the shares that the classes have in these very rows.

The shares are estimated by `pipeline/evaluation/label_shift.py` from the probabilities themselves.
Of a whole input, all rows are scored first, and their probabilities are held; of a stream that is
answered as it comes, each block is moved to the shares of the last rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from features.base.arrays import Floats
from features.errors import InputError
from pipeline.evaluation.label_shift import (
    Known,
    LabelShift,
    estimate_shift,
    estimated_shares,
    moved,
)
from pipeline.head.head import Head
from pipeline.scoring.evaluate import Scores

# What `--prior` says for it.
ESTIMATE = "estimate"
# Rows of a stream without which the head's prior stands.
LEAST_ROWS = 200


def known_of(head: Head) -> Known:
    """Give what a head says about the rows that it was fitted on.

    Raises
    ------
    InputError
        It says nothing.
    """
    class_rows = head.metadata.get("class_rows")
    if head.prior is None or class_rows is None:
        raise InputError(
            "the head does not say which prior it answers for, so that no shares can be estimated "
            "with it; fit it again"
        )
    held_out = head.held_out
    uncertainty = None if held_out is None else held_out.uncertainty
    return Known(head.labels, head.prior, class_rows, uncertainty)


def for_their_shares(
    head: Head,
    scores: Iterable[Scores],
    *,
    tell: Callable[[LabelShift], None],
    with_text: bool = False,
    seed: int = 0,
) -> Iterator[Scores]:
    """Move all scores to the shares that are estimated from all of them.

    Parameters
    ----------
    head : Head
        That made the scores.
    scores : iterable of Scores
        All are held before the first is given.
    tell : callable
        Told the estimate.
    with_text : bool
        Whether texts are held too.
    seed : int
        Of the bootstrap.
    """
    known = known_of(head)
    held = [block if with_text else replace(block, texts=None) for block in scores]
    if not held:
        return
    rows = np.concatenate([block.proba for block in held])
    shift = estimate_shift(rows, known, seed=seed)
    tell(shift)
    shares = np.array(shift.shares)
    for block in held:
        yield replace(block, proba=moved(block.proba, known.prior, shares, len(rows)))


def for_last_shares(
    head: Head,
    scores: Iterable[Scores],
    *,
    tell: Callable[[LabelShift], None],
    window_rows: int = 5000,
) -> Iterator[Scores]:
    """Move each block to the shares that are estimated from the last rows, its own among them.

    Until there are `LEAST_ROWS`, the head's prior stands.

    Parameters
    ----------
    head, scores
        As for `for_their_shares`; nothing is held back.
    tell : callable
        Told the estimate of the last rows, at the end.
    window_rows : int
        Rows that shares are estimated from.
    """
    known = known_of(head)
    last: deque[Floats] = deque(maxlen=window_rows)
    for block in scores:
        last.extend(block.proba)
        if len(last) < LEAST_ROWS:
            yield block
            continue
        shares = estimated_shares(np.array(last), known.prior)
        yield replace(block, proba=moved(block.proba, known.prior, shares, len(last)))
    if len(last) >= LEAST_ROWS:
        tell(estimate_shift(np.array(last), known))
