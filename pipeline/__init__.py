"""Stage two: cached vectors in, a head that scores tweets out; and the command line.

>>> from pipeline import fit, load_head
"""

# The function takes the name of its module; importing it here, once, settles which one is meant.
from pipeline.fit import FitResult, fit
from pipeline.head import Head, load_head, save_head
from pipeline.metrics import Metrics

__all__ = ["FitResult", "Head", "Metrics", "fit", "load_head", "save_head"]
