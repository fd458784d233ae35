"""Pack the points of the map: two blocks of base64 that the page unpacks when it opens.

In come rows with their places, labels and texts; out go gzip and base64. The first block holds
arrays: places as 16 bits across each axis, probabilities as 8 bits. The second one holds names as
JSON. Both are data to the browser, never script.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json

import numpy as np
import numpy.typing as npt

from pipeline.facts.facts import Points
from pipeline.page.words import clean, cut

_STEPS = np.iinfo(np.uint16).max


@dataclasses.dataclass(frozen=True)
class Blocks:
    """What the page holds of the map, and of how many rows."""

    arrays: str
    names: str
    rows: int

    @property
    def n_bytes(self) -> int:
        """Bytes in the page, as base64 has one a character."""
        return len(self.arrays) + len(self.names)


def pack(points: Points, most_characters: int | None) -> Blocks:
    """Pack rows; texts longer than `most_characters` are cut, None cuts none.

    The arrays are, one behind the other and little-endian: rows uint32, x uint16, y uint16, label
    int16, predicted int16, probability uint8, each (N,).
    """
    places, spans = _quantised(points)
    arrays = [
        points.rows.astype("<u4"),
        places[:, 0],
        places[:, 1],
        points.label.astype("<i2"),
        points.predicted.astype("<i2"),
        np.rint(points.probability * 255).astype(np.uint8),
    ]
    texts = points.texts
    if texts is not None:
        texts = [clean(t if most_characters is None else cut(t, most_characters)) for t in texts]
    names = {"spans": spans, "ids": points.ids, "texts": texts}
    return Blocks(
        _packed(b"".join(one.tobytes() for one in arrays)),
        _packed(json.dumps(names, ensure_ascii=False).encode("utf-8", "replace")),
        len(points.rows),
    )


def some_of(points: Points, rows: int) -> Points:
    """Draw rows by chance, always the same ones, in their order."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(points.rows))[:rows])
    return dataclasses.replace(
        points,
        xy=points.xy[chosen],
        label=points.label[chosen],
        predicted=points.predicted[chosen],
        probability=points.probability[chosen],
        rows=points.rows[chosen],
        ids=[points.ids[i] for i in chosen],
        texts=None if points.texts is None else [points.texts[i] for i in chosen],
    )


def _quantised(points: Points) -> tuple[npt.NDArray[np.uint16], list[float]]:
    """Give places as steps across each axis, (N, 2), and how long the axes are: the longer is 1."""
    xy = points.xy.astype(np.float64)
    low, high = (xy.min(axis=0), xy.max(axis=0)) if len(xy) else (np.zeros(2), np.ones(2))
    span = high - low
    steps = np.rint((xy - low) / np.where(span > 0, span, 1) * _STEPS).astype("<u2")
    return steps, (span / (span.max() or 1)).tolist()


def _packed(content: bytes) -> str:
    # No time stamp, so that the same facts give the same page.
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")
