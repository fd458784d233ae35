"""Stage two: cached vectors in, a head that scores tweets out; and the command line.

>>> from pipeline import fit, load_head
"""

from typing import TYPE_CHECKING

# Functions take the names of their modules; importing them here, once, settles which one is meant.
from pipeline.compare import Compared, Comparison, compare
from pipeline.evaluation.metrics import Metrics
from pipeline.fit import FitResult, fit
from pipeline.head.head import Head, load_head, save_head

if TYPE_CHECKING:
    from pipeline.solver.estimator import MultinomialLogisticRegression

__all__ = [
    "Compared",
    "Comparison",
    "FitResult",
    "Head",
    "Metrics",
    "MultinomialLogisticRegression",
    "compare",
    "fit",
    "load_head",
    "save_head",
]


def __getattr__(name: str) -> object:
    # It loads scikit-learn, which scoring and inspecting do without.
    if name == "MultinomialLogisticRegression":
        from pipeline.solver.estimator import MultinomialLogisticRegression

        return MultinomialLogisticRegression
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
