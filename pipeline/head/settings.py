"""Read from a head how it was fitted: its own words in, checked values out."""

from __future__ import annotations

import numpy as np

from features.base.arrays import Floats
from features.errors import InputError
from pipeline.head.head import Head


def inverse_penalty(head: Head) -> float:
    """Give the head's own C."""
    C = head.metadata.get("C")
    if not isinstance(C, int | float) or not 0 < C < float("inf"):
        raise InputError("the head does not say with which C it was fitted; fit it again")
    return float(C)


def view_scales(head: Head) -> Floats:
    """Give the scale of each view, (V,); see `pipeline/solver/view_scales.py`."""
    scales = head.metadata.get("view_scales", [1.0] * len(head.sources))
    fits = isinstance(scales, list) and len(scales) == len(head.sources)
    if not fits or not all(isinstance(one, float) and 0 < one < float("inf") for one in scales):
        raise InputError(f"the head says scales {scales!r} of its views; fit it again")
    return np.array(scales)


def widths(head: Head) -> list[int]:
    """Give the columns of each view."""
    return [source.width for source in head.sources]
