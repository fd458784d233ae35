"""A frozen encoder as a scikit-learn transformer: texts in, a matrix of features out.

Nothing is learned and nothing is cached: see `FrozenBert` for when to use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from features.encoder.encoder import FrozenEncoder
from features.encoder.engine import Matrix
from features.spec.checkpoint import DEFAULT_MODEL
from features.spec.pooling import DEFAULT_POOLING


class FrozenBert(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # no types for sklearn
    """A `FrozenEncoder` for pipelines; several views come out side by side.

    There is nothing to learn: `fit` loads the model, `transform` encodes. For data that is fitted
    more than once, cache the vectors instead (`features.extract`).

    Parameters
    ----------
    model, revision, pooling, max_length, normalize, prefix, prompt_name
        What vectors mean, see `FrozenEncoder`.
    dtype, device, max_batch_tokens, backend
        How they are made, see `FrozenEncoder`.

    Examples
    --------
    >>> from features import FrozenBert
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> classifier = make_pipeline(FrozenBert(pooling="mean"), LogisticRegression())
    >>> texts = ["what a lovely day", "best concert ever", "worst film ever", "so sad, so tired"]
    >>> classifier.fit(texts, ["good", "good", "bad", "bad"]).predict(["a lovely concert"]).tolist()
    ['good']
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        pooling: str | Sequence[str] = DEFAULT_POOLING,
        max_length: int | None = None,
        normalize: str = "tweeteval",
        prefix: str = "",
        prompt_name: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        max_batch_tokens: int | None = None,
        backend: str = "auto",
        revision: str | None = None,
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.max_length = max_length
        self.normalize = normalize
        self.prefix = prefix
        self.prompt_name = prompt_name
        self.dtype = dtype
        self.device = device
        self.max_batch_tokens = max_batch_tokens
        self.backend = backend
        self.revision = revision

    def fit(self, X: Any, y: object = None) -> FrozenBert:
        """Load the model. `X` and `y` are not looked at."""
        self.encoder_ = FrozenEncoder(**self.get_params())
        return self

    def transform(self, X: Any) -> Matrix:
        """Encode texts, the views in the order of `pooling`.

        Parameters
        ----------
        X : iterable of str, (N,)
            See `FrozenEncoder.encode`; or a frame of one column, as a `ColumnTransformer` gives.

        Returns
        -------
        float32 array (N, D)
            Or the frame that `set_output` asks for, with the index of pandas.
        """
        if not hasattr(self, "encoder_"):
            self.fit(X)  # it has nothing to learn from X
        vectors = self.encoder_.encode(_only_column(X))
        return np.hstack([vectors[view] for view in self.encoder_.views])

    def get_feature_names_out(self, input_features: object = None) -> Any:
        """Name the columns, `<view>[<number>]`."""
        if not hasattr(self, "encoder_"):
            self.fit(())
        views = self.encoder_.views
        return np.array(
            [f"{view}[{i}]" for view in views for i in range(views[view])], dtype=object
        )

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __getstate__(self) -> dict[str, Any]:
        # The model is found again by its name; a pickle need not carry its weights.
        state: dict[str, Any] = super().__getstate__()
        return {key: value for key, value in state.items() if key != "encoder_"}


def _only_column(X: Any) -> Any:
    """Give the column of a frame, or of an array of two dimensions, that has no other."""
    import narwhals.stable.v2 as nw

    if not hasattr(X, "columns"):
        return X[:, 0] if getattr(X, "ndim", 1) == 2 and X.shape[1] == 1 else X
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    is_one = isinstance(frame, nw.DataFrame) and len(frame.columns) == 1
    return nw.to_native(frame[:, 0]) if is_one else X
