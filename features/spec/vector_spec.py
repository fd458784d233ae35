"""The record of what vectors are: encoder, views, precision and type on disk. No torch.

A run asks for such vectors; a journal, a shard and a source of a head say that they hold them.
`differences` says where two of these do not agree; how that is worded is up to who raises the
error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.spec.encoder_spec import Difference, EncoderSpec

# What the forward pass may be computed in, as far as its vectors are concerned.
PRECISIONS = ("float32", "half", "int8")
# Types of vectors on disk.
STORE_DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class VectorSpec:
    """The description of some vectors, as they are or are to be.

    Attributes
    ----------
    spec : EncoderSpec
    views : mapping of str to int
        Columns of each view; 0 where that is not known before the model is loaded.
    precision : str or None
        One of `PRECISIONS`; None where any will do.
    store_dtype : str
        One of `STORE_DTYPES`.
    """

    spec: EncoderSpec
    views: Mapping[str, int]
    precision: str | None
    store_dtype: str

    def __hash__(self) -> int:
        return hash((self.spec, *sorted(self.views.items()), self.precision, self.store_dtype))

    @property
    def view(self) -> str:
        """The name of the view, where there is one."""
        (view,) = self.views
        return view

    @property
    def width(self) -> int:
        """Columns of all views together."""
        return sum(self.views.values())

    @property
    def view_bytes(self) -> dict[str, int]:
        """Bytes of a vector of each view, the views by name."""
        itemsize = np.dtype(self.store_dtype).itemsize
        return {view: self.views[view] * itemsize for view in sorted(self.views)}

    def differences(self, other: VectorSpec) -> list[Difference]:
        """Give what differs; what one of the two leaves open is no difference."""
        found = self.spec.differences(other.spec)
        mine, theirs = dict(self.views), dict(other.views)
        widths = [(mine[view], theirs[view]) for view in mine if view in theirs]
        if mine.keys() != theirs.keys():
            found.append(Difference("views", ", ".join(sorted(mine)), ", ".join(sorted(theirs))))
        elif any(a != b for a, b in widths if a and b):
            found.append(
                Difference("columns of the views", sum(mine.values()), sum(theirs.values()))
            )
        if self.store_dtype != other.store_dtype:
            found.append(Difference("store dtype", self.store_dtype, other.store_dtype))
        if None not in (self.precision, other.precision) and self.precision != other.precision:
            found.append(Difference("precision", str(self.precision), str(other.precision)))
        return found


def precision_of(dtype: str) -> str | None:
    """Give the precision of vectors that a dtype of the forward pass makes; None for `auto`."""
    return {"auto": None, "float32": "float32", "int8": "int8"}.get(dtype, "half")
