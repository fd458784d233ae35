"""Stage one: tweets in, frozen contextual embeddings in HDF5 out.

>>> from features import FrozenEncoder, FeatureStore, extract
"""

from typing import TYPE_CHECKING

# The function takes the name of its module; importing it here, once, settles which one is meant.
from features.extract import extract
from features.extraction.summary import ExtractSummary
from features.pieces.part import PartSummary
from features.store.reader import FeatureStore
from features.store.verify import Verification, verify
from features.version import __version__

if TYPE_CHECKING:
    from features.encoder.encoder import FrozenEncoder
    from features.encoder.transformer import FrozenBert

__all__ = [
    "ExtractSummary",
    "FeatureStore",
    "FrozenBert",
    "FrozenEncoder",
    "PartSummary",
    "Verification",
    "__version__",
    "extract",
    "verify",
]


def __getattr__(name: str) -> object:
    # These two load torch and transformers, which commands on cached vectors do without.
    if name == "FrozenEncoder":
        from features.encoder.encoder import FrozenEncoder

        return FrozenEncoder
    if name == "FrozenBert":
        from features.encoder.transformer import FrozenBert

        return FrozenBert
    raise AttributeError(f"module 'features' has no attribute {name!r}")
