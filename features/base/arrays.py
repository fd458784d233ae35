"""Name the types of arrays that several packages use, so that a signature says what is in one.

Types alone: no functions, no shapes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# Of any precision: vectors, probabilities, logits.
Floating = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]
# Numbers of classes, 0 to K-1.
Codes = npt.NDArray[np.integer[Any]]
# Numbers of rows or models.
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
