"""Stage two: cached vectors in, a head that scores tweets out; and the command line.

>>> from pipeline import fit, load_head, predict
"""

from typing import TYPE_CHECKING

# Functions take the names of their modules; importing them here, once, settles which one is meant.
from pipeline.compare import Compared, Comparison, compare
from pipeline.evaluation.metrics import Metrics
from pipeline.fit import FitResult, fit
from pipeline.head.head import Head, load_head, save_head

if TYPE_CHECKING:
    from pipeline.scoring.frames import predict
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
    "predict",
    "save_head",
]


def __getattr__(name: str) -> object:
    # These load scikit-learn, and what scores: fitting and inspecting do without.
    if name == "MultinomialLogisticRegression":
        from pipeline.solver.estimator import MultinomialLogisticRegression

        return MultinomialLogisticRegression
    if name == "predict":
        from pipeline.scoring.frames import predict

        return predict
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
