"""Choose which rows to label next: a head and a pool of vectors in, a list to fill in out.

Nine tenths are rows that teach the head most: where it was fitted on few rows, typical ones, and
else those that it is unsure about and that differ from each other (`diversity.py`). A tenth is
drawn at random and marked, so that what is measured on these rows holds for the pool. The labels
are for a person to give, and nothing is fitted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.base.arrays import Floats, Indices, Mask
from features.base.machine import bytes_of
from features.errors import InputError
from features.tweets.reader import Reject, Tweet
from pipeline.data.corrections import Corrections, correct
from pipeline.data.join import Joined, open_joined
from pipeline.data.labelled_rows import rows_where
from pipeline.data.matching import Matching
from pipeline.evaluation.folds import number_texts
from pipeline.head.head import Head
from pipeline.head.settings import view_scales, widths
from pipeline.labelling.diversity import Pool, at_random, typical, uncertain
from pipeline.labelling.neighbours import standardised
from pipeline.solver.blocks import Workers
from pipeline.solver.centred import centred

# Rows of its smallest class below which a head knows too little to say what it is unsure about.
FEW = 20
RANDOM, UNCERTAIN, TYPICAL = "random", "uncertain", "typical"


@dataclass(frozen=True)
class NextRows:
    """Rows to label, in the order in which to label them.

    Attributes
    ----------
    ids : list of str, (n,)
    rows : int array (n,)
        Their numbers in the file, from 0; in the first one where several are joined.
    why : list of str, (n,)
        `uncertain`, `typical` or `random`.
    asked : int
        Rows that were asked for; fewer are there where the rest is nearly the same.
    pool : int
        Rows without a label, which were chosen from.
    labelled : int
        Rows that were left out because they, or others of their text, have one.
    matching : Matching, optional
        What came of joining the stores of several encoders.
    corrections : Corrections
        Labels that were given by hand.
    """

    ids: list[str]
    rows: Indices
    why: list[str]
    asked: int
    pool: int
    labelled: int
    matching: Matching | None
    corrections: Corrections

    def table(self, texts: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Give the rows by the columns of `table_columns`; the labels are for a person to give.

        Texts are those of the rows, (n,).
        """
        for n, identity in enumerate(self.ids):
            cells: dict[str, Any] = {"id": identity, "row": int(self.rows[n])}
            if texts is not None:
                cells["text"] = texts[n]
            yield cells | {"label": "", "why": self.why[n]}


def table_columns(*, with_text: bool) -> list[str]:
    """Name the columns of a list."""
    return ["id", "row", *(["text"] if with_text else []), "label", "why"]


def next_rows(
    head: Head,
    features: str | Path | Sequence[str | Path],
    *,
    number: int = 100,
    corrections: str | Path | Sequence[str | Path] | None = None,
    seed: int = 0,
    memory: int | str | None = None,
) -> NextRows:
    """Choose rows without a label that are worth one.

    Parameters
    ----------
    head : Head
    features : path or sequence of paths
        Vectors of the head's encoders. Texts that have a label in one of the files are left out, so
        that those which were labelled since can be given beside the pool.
    number : int
        Rows to choose; fewer are, where the rest of the pool is nearly the same.
    corrections : path or sequence of paths, optional
        As for `fit`: rows that have a label in them are left out.
    seed : int
        Of all draws.
    memory : int or str, optional
        Bytes that the vectors may take; default a quarter of what is free.

    Raises
    ------
    InputError
        `number` is below 1, every row has a label, or the vectors take more than `memory`.
    FileRefused
        The vectors are of another encoder.
    """
    if number < 1:
        raise InputError(f"`number` is {number}; list at least 1 row")
    rng = np.random.default_rng(seed)
    with open_joined(features) as opened:
        stores, corrected = correct(opened, corrections)
        kept = _without_labels(stores)
        if not kept.any():
            raise InputError(
                f"{stores} has no row without a label; give the vectors of tweets that are still "
                "to be labelled"
            )
        pool, proba = _read(head, stores, kept, bytes_of(memory))
        rows, reasons = choose(pool, proba, number, rng, knows_little=_knows_little(head))
        joined = np.flatnonzero(kept)[rows]
        ids = stores.ids(slice(0, stores.n_rows))
        return NextRows(
            [ids[row] for row in joined],
            np.flatnonzero(stores.kept[0])[joined] if stores.kept else joined,
            reasons,
            number,
            len(pool.x),
            len(kept) - len(pool.x),
            stores.matching,
            corrected,
        )


def choose(
    pool: Pool, proba: Floats, number: int, rng: np.random.Generator, *, knows_little: bool
) -> tuple[list[int], list[str]]:
    """Choose rows of a pool, and say why each.

    Parameters
    ----------
    pool : Pool
    proba : float64 array (N, K)
        What the head says of the rows.
    number : int
        Rows to choose.
    rng : numpy Generator
    knows_little : bool
        Whether the head was fitted on few rows.
    """
    random = at_random(pool, round(number / 10), rng)
    free = np.ones(len(pool.x), bool)
    for row in random:
        free &= ~pool.like(row)
    rest = number - len(random)
    if knows_little:
        return _mixed(typical(pool, free, rest, rng), TYPICAL, random)
    return _mixed(uncertain(pool, proba, free, rest, rng), UNCERTAIN, random)


def texts_of(ids: Sequence[str], tweets: Iterable[Tweet | Reject]) -> list[str]:
    """Find the texts of rows by their ids.

    Raises
    ------
    InputError
        No tweet has one of the ids, or several have it and not the same text.
    """
    asked = set(ids)
    found: dict[str, str] = {}
    for tweet in tweets:
        if not isinstance(tweet, Tweet) or tweet.id not in asked:
            continue
        if found.setdefault(tweet.id, tweet.text) != tweet.text:
            raise InputError(
                f"id {tweet.id!r} is that of several texts in `tweets`; give each tweet an id of "
                "its own and extract again, or leave out `tweets`"
            )
    for identity in ids:
        if identity not in found:
            raise InputError(
                f"`tweets` has no tweet with id {identity!r}; give all files that the vectors were "
                "extracted from, and the same `id_column`"
            )
    return [found[identity] for identity in ids]


def _without_labels(stores: Joined) -> Mask:
    """Say which rows have no label, and no other row of their text has one."""
    text = number_texts(stores.texts())
    has_label = np.zeros(len(text), bool)
    has_label[text[stores.codes != -1]] = True
    return ~has_label[text]


def _read(head: Head, stores: Joined, kept: Mask, memory: int) -> tuple[Pool, Floats]:
    """Read the vectors of some rows, and what the head says of them."""
    sources = stores.like(head.sources)
    rows = rows_where(stores, sources, kept)
    needed = rows.shape[0] * rows.shape[1] * 4
    if needed > memory:
        raise InputError(
            f"{rows.shape[0]:,} rows are compared in memory, {needed >> 20:,} MiB where "
            f"{memory >> 20:,} are allowed; raise `memory`, or give a part of the rows"
        )
    vectors = centred(rows, np.ones(rows.shape[0]), memory=0, workers=Workers())
    x = standardised(vectors, np.repeat(view_scales(head), widths(head)))
    proba = np.concatenate([head.predict_proba(block) for block in rows.blocks()])
    return Pool(x, number_texts(stores.texts()[kept])), proba


def _knows_little(head: Head) -> bool:
    """Say whether a head was fitted on few rows; one that does not say was not."""
    class_rows = head.metadata.get("class_rows")
    return class_rows is not None and min(class_rows) < FEW


def _mixed(chosen: list[int], why: str, random: list[int]) -> tuple[list[int], list[str]]:
    """Spread the random rows evenly among the others, so that who stops early has some of each."""
    places = [(n + 0.5) / len(chosen) for n in range(len(chosen))]
    places += [(n + 0.5) / len(random) for n in range(len(random))]
    order = np.argsort(places, kind="stable")
    rows, reasons = [*chosen, *random], [why] * len(chosen) + [RANDOM] * len(random)
    return [rows[n] for n in order], [reasons[n] for n in order]
