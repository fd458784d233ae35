"""Take the rows of feature stores that have a label, for stage two. No fitting.

In come open stores and views of them, out come vectors that can be streamed, and classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array, Mask
from features.errors import InputError
from features.spec.vector_spec import VectorSpec
from pipeline.data.join import Joined
from pipeline.data.matching import nth
from pipeline.solver.blocks import Rows
from pipeline.solver.distributed import DistributedRows


@dataclass(frozen=True)
class Labelled:
    """Labelled rows of one store, or of several that are joined.

    Attributes
    ----------
    X : Rows
        Raw vectors, N x D.
    y : int array (N,)
        Codes into the labels that were asked for.
    texts : int array (N, ·)
        Equal rows are equal texts.
    unlabelled : int
        Rows that are left out because they have no label.
    """

    X: Rows
    y: npt.NDArray[np.intp]
    texts: npt.NDArray[np.integer[Any]]
    unlabelled: int


def classes_of(stores: Joined) -> list[str]:
    """Name the classes that have rows, at least two."""
    counts = np.bincount(stores.codes[stores.codes >= 0], minlength=len(stores.label_names))
    names = [name for name, count in zip(stores.label_names, counts, strict=True) if count]
    if not names:
        raise InputError(
            f"{stores} has no labels; extract tweets with a label column, or name it with "
            "`label_column`"
        )
    if len(names) == 1:
        raise InputError(f"{stores} has one class only, {names[0]!r}; a head needs at least two")
    return names


def labelled_rows(stores: Joined, sources: Sequence[VectorSpec], labels: Sequence[str]) -> Labelled:
    """Find the rows whose label is one of `labels`, with codes into these."""
    known = np.array(
        # Codes below 0, no label and `LEFT_OUT`, count from the end.
        [*(labels.index(n) if n in labels else -1 for n in stores.label_names), -1, -1]
    )
    y = known[stores.codes]
    has_label = y >= 0

    return Labelled(
        rows_where(stores, sources, has_label),
        y[has_label].astype(np.intp),
        stores.texts()[has_label],
        int(np.count_nonzero(stores.codes == -1)),
    )


def rows_where(stores: Joined, sources: Sequence[VectorSpec], kept: Mask) -> Rows:
    """Give the vectors of some rows, which are read when they are gone through.

    By workers, where the stores are shared out to some by these rows.
    """

    def pieces(start: int) -> Iterator[Array]:
        at = nth(kept, start)
        for piece in stores.blocks(sources, start=at):
            here = kept[at : at + len(piece)]
            yield piece if here.all() else piece[here]
            at += len(piece)

    shape = int(kept.sum()), sum(source.width for source in sources)
    dtype = np.result_type(*(source.store_dtype for source in sources))
    shared = stores.shared
    if shared is None or not np.array_equal(kept, shared.kept):
        return Rows(shape, dtype, pieces)
    view = tuple(map(stores.name, sources))
    return DistributedRows(shape, dtype, pieces, crew=shared.crew, view=view)


def validation_rows(
    stores: Joined, sources: Sequence[VectorSpec], labels: Sequence[str]
) -> Labelled:
    """Find the labelled rows of other stores, of the encoders and the labels that were fitted."""
    there = {stores.label_names[code] for code in np.unique(stores.codes) if code >= 0}
    like = stores.like(sources)
    if unknown := sorted(there - set(labels)):
        raise InputError(
            f"{stores} has labels that are not in the training rows: {', '.join(unknown)}; these "
            f"have {', '.join(labels)}: extract it again with a `mapping`, which has a line "
            "label<TAB>name for each label to be measured, with one of these as its name (rows of "
            "other labels are rejected), or fit on rows that have these labels too"
        )
    rows = labelled_rows(stores, like, labels)
    if not len(rows.y):
        raise InputError(f"{stores} has no labelled rows to measure on")
    return rows
