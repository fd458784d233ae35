"""Keep a sample of the texts that a head was fitted on, so that they are known again. Pure.

In come digests of normalised texts, out comes which rows have a text of the sample. A digest is as
good as a random number, so the smallest ones are a fair sample, and whether a text *could* be in
it is seen from its own digest: of other rows, those whose digests are as small are a fair sample as
well (Bar-Yossef et al., "Counting distinct elements in a data stream", 2002, algorithm 1). Up to
4,096 texts, the sample is all of them.

No text can be read from it. Who has a text can see whether it is in the sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array, Mask
from features.errors import FileRefused
from features.store.format import DIGEST_BYTES

# Digests that are kept: with them a head of many rows finds 1 % of its texts among 5,000 others.
_KEPT = 4096
_BITS = 63  # of a digest: they are kept as signed integers


@dataclass(frozen=True)
class TrainingTexts:
    """The smallest digests.

    Attributes
    ----------
    digests : int64 array (n,)
        Ascending, all different.
    texts : int
        Different texts that there were.
    """

    digests: npt.NDArray[np.int64]
    texts: int

    @classmethod
    def of(cls, digests: Array) -> TrainingTexts | None:
        """Take a sample of digests (N, 16); None where they are other numbers of texts."""
        if not _are_digests(digests):
            return None
        numbers = np.sort(_numbers(digests))
        differs = np.diff(numbers, prepend=-1) > 0
        smallest = numbers[np.flatnonzero(differs)[:_KEPT]]
        return cls(smallest, int(np.count_nonzero(differs)))

    def look_up(self, digests: Array) -> tuple[Mask, Mask] | None:
        """Say which rows could be known and which are, (N,) each, by digests (N, 16).

        None where the texts are other numbers, as for `of`.
        """
        if not _are_digests(digests):
            return None
        numbers = _numbers(digests)
        everything = self.texts == len(self.digests)
        could = np.full(len(numbers), True) if everything else numbers <= self.digests[-1]
        return could, np.isin(numbers, self.digests)

    def to_dict(self) -> dict[str, Any]:
        """Give the array and the number by name."""
        return {"digests": self.digests, "texts": self.texts}

    @classmethod
    def from_dict(cls, record: Any) -> TrainingTexts | None:
        """Read them from a head's file; None where there are none.

        Raises
        ------
        FileRefused
            They are not ascending digests.
        """
        if record is None:
            return None
        found = record if isinstance(record, dict) else {}
        digests, texts = found.get("digests"), found.get("texts")
        if not (
            isinstance(digests, np.ndarray)
            and digests.dtype == np.int64
            and digests.ndim == 1
            and 0 < len(digests) <= _KEPT
            and (digests >= 0).all()
            and (np.diff(digests) > 0).all()
            and type(texts) is int
            and len(digests) <= texts < 2**63
        ):
            raise FileRefused("its training texts are not ascending digests")
        return cls(digests, texts)


def _are_digests(texts: Array) -> bool:
    """Say whether numbers of texts (N, ·) are their digests; of some joined stores they are not."""
    return texts.dtype == np.uint8 and texts.shape[1] == DIGEST_BYTES


def _numbers(digests: Array) -> npt.NDArray[np.int64]:
    """Take the first bits of digests (N, 16) as numbers, (N,)."""
    first = np.ascontiguousarray(digests[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
    return (first >> np.uint64(64 - _BITS)).astype(np.int64)
