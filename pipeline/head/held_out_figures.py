"""Keep what a head knows of held-out rows: its errors, and how sure its calibration is.

Shares of classes are estimated by them (`pipeline/evaluation/label_shift.py`,
`pipeline/evaluation/adjusted_counting.py`). In the head's metadata they are JSON types, under
`held_out`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Floats
from features.errors import FileRefused

# More have no room in a head.
MOST_CLASSES = 100


@dataclass(frozen=True)
class HeldOutFigures:
    """Figures of rows that the judged models did not see.

    Attributes
    ----------
    prior : float array (K,)
        Under which their classes were predicted.
    confusion : int array (K, K)
        Rows of each true class by predicted one.
    uncertainty : float array (1 + K, 1 + K)
        Covariance of the calibration, see `uncertainty` of `pipeline/head/calibration.py`.
    """

    prior: Floats
    confusion: npt.NDArray[np.int64]
    uncertainty: Floats

    def to_dict(self) -> dict[str, Any]:
        """Give the figures as JSON types."""
        return {
            "prior": self.prior.tolist(),
            "confusion": self.confusion.tolist(),
            "uncertainty": self.uncertainty.tolist(),
        }

    @classmethod
    def from_dict(cls, record: Any, n_classes: int) -> HeldOutFigures | None:
        """Read them from a head's metadata; None where there are none.

        Raises
        ------
        FileRefused
            They are not those of a head of so many classes.
        """
        if record is None:
            return None
        parts = []
        for name, shape, kind, least in (
            ("prior", (n_classes,), float, 1e-12),
            ("confusion", (n_classes, n_classes), int, 0),
            ("uncertainty", (1 + n_classes, 1 + n_classes), float, -1e9),
        ):
            rows = record.get(name) if isinstance(record, dict) else None
            table = [rows] if len(shape) == 1 else rows
            fits = (
                isinstance(table, list)
                and len(table) == (1 if len(shape) == 1 else shape[0])
                and all(isinstance(row, list) and len(row) == shape[-1] for row in table)
                and all(type(n) is kind and least <= n < 2**53 for row in table for n in row)
            )
            if not fits:
                raise FileRefused(f"its held-out {name} is not a table of numbers for its classes")
            parts.append(np.array(rows))
        return cls(*parts)
