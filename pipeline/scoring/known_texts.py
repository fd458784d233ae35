"""Pass scores on, and say how many of the labelled rows have a text that the head was fitted on.

On such rows a head looks better than it is. It knows them by the digests that it keeps, see
`pipeline/head/training_texts.py`. Rows are only counted: none is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from features.base.arrays import Array
from features.spec.normalize import normalizer
from features.store.format import text_digest
from pipeline.head.head import Head
from pipeline.scoring.evaluate import Scores


def told_of_known_texts(
    head: Head, scores: Iterable[Scores], *, warn: Callable[[str], None]
) -> Iterator[Scores]:
    """Give all scores, and warn at their end if the head was fitted on some of their texts.

    Parameters
    ----------
    head : Head
        Those of an earlier version keep no digests; of them nothing is said.
    scores : iterable of Scores
    warn : callable
        Told a line.
    """
    known = could = 0
    for block in scores:
        yield block
        found = None if head.texts is None else head.texts.look_up(_digests(head, block))
        if found is not None:
            labelled = np.array([label is not None for label in block.labels])
            could += int(np.count_nonzero(found[0] & labelled))
            known += int(np.count_nonzero(found[1] & labelled))
    if known:
        all_known = head.texts is not None and head.texts.texts == len(head.texts.digests)
        of_sample = "" if all_known else " whose texts it would know"
        warn(
            f"WARNING: {known:,} of {could:,} labelled rows{of_sample} have a text that the head "
            "was fitted on, so that the figures flatter it: measure it on tweets that were kept "
            "apart; `frostline fit` and `frostline report` measure out of fold"
        )


def _digests(head: Head, block: Scores) -> Array:
    """Take the digests of the texts of some rows, (rows, ·), or compute them."""
    if block.digests is not None:
        return block.digests
    normalize = normalizer(head.sources[0].spec.normalizer)
    digests = b"".join(text_digest(normalize(text)) for text in block.texts or [])
    return np.frombuffer(digests, np.uint8).reshape(len(block.ids), -1)
