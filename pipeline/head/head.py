"""Keep a fitted classifier with what it fits, in a joblib file: the head.

``joblib.load("head.joblib")`` gives a plain dict::

    format        "frostline-head"
    version       1
    estimator     a stock fitted sklearn.linear_model.LogisticRegression, on raw vectors: the
                  standardisation, temperature and prior are folded into coef_ and intercept_
    labels        list of the K class names
    sources       list of {spec, fingerprint, view, width, precision, store_dtype}: the estimator
                  takes the views of these encoders side by side, in this order
    metadata      how it was fitted, the class prior that it answers for, and its metrics
    novelty       arrays by which it knows the kind of its training rows; not in every head
    texts         digests by which it knows a sample of its training texts; not in every head

so that the file is useful with scikit-learn alone. `load_head` never unpickles it: it takes the
arrays and the texts out (`pipeline/head/safe_pickle.py`), validates them and builds a `Head`.
Loading does not need scikit-learn. A file that somebody compressed later is read as well.

To change the format, raise `VERSION`, keep reading the versions before it, and add a file of the
old version to the tests.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.atomic import replacing
from features.base.paths import check_input
from features.errors import FileRefused, InputError, system_reason
from features.spec.encoder_spec import EncoderSpec, listed_differences
from features.spec.pooling import parse_pooling
from features.spec.vector_spec import PRECISIONS, STORE_DTYPES, VectorSpec
from features.store.reader import FeatureStore
from pipeline.head.compressed import unpacked
from pipeline.head.held_out_figures import HeldOutFigures
from pipeline.head.novelty import Novelty
from pipeline.head.priors import parse_prior, shift
from pipeline.head.safe_pickle import ESTIMATOR, Instance, UnpickleError, read_pickle
from pipeline.head.training_texts import TrainingTexts
from pipeline.solver.solve import softmax

FORMAT = "frostline-head"
VERSION = 1
MAX_BYTES = 2**28  # 8,000 classes of 4,096 columns


@dataclass(frozen=True)
class Head:
    """A fitted multinomial logistic regression on raw vectors.

    Attributes
    ----------
    labels : tuple of str, (K,)
    coef : float64 array (K, D)
    intercept : float64 array (K,)
    sources : tuple of VectorSpec
        Whose widths add up to D.
    metadata : mapping
        JSON types: how it was fitted, and its metrics.
    novelty : Novelty, optional
        Tells how far vectors lie from those that it was fitted on.
    texts : TrainingTexts, optional
        Tells which texts it was fitted on, of a sample.
    """

    labels: tuple[str, ...]
    coef: npt.NDArray[np.float64]
    intercept: npt.NDArray[np.float64]
    sources: tuple[VectorSpec, ...]
    metadata: Mapping[str, Any]
    novelty: Novelty | None = None
    texts: TrainingTexts | None = None

    @property
    def prior(self) -> npt.NDArray[np.float64] | None:
        """The shares of the classes, (K,), that the probabilities answer for; None if unknown."""
        stated = self.metadata.get("prior")
        return None if stated is None else np.array(stated, np.float64)

    @property
    def held_out(self) -> HeldOutFigures | None:
        """Figures of held-out rows; None in heads of before, or of very many classes."""
        return HeldOutFigures.from_dict(self.metadata.get("held_out"), len(self.labels))

    @property
    def encoders(self) -> list[list[VectorSpec]]:
        """The sources of each encoder, in the order of its first one."""
        found: dict[str, list[VectorSpec]] = {}
        for source in self.sources:
            found.setdefault(source.spec.fingerprint, []).append(source)
        return list(found.values())

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from features.base.notebook import facts_html
        from features.base.shown import listed

        meta = self.metadata
        figure = (meta.get("metrics") or {}).get("macro_recall")
        facts = {
            "labels": listed(self.labels),
            "takes": " + ".join(f"{one.view} ({one.width:,})" for one in self.sources),
            "encoders": ", ".join(
                f"{first.spec.model} ({first.spec.fingerprint[:12]})" for first, *_ in self.encoders
            ),
            "fitted on": f"{meta.get('rows', 0):,} rows, C = {meta.get('C')}",
        }
        if isinstance(figure, float):
            facts["macro recall"] = f"{figure:.4f} on {meta.get('measured_on')}"
        return facts_html("A fitted head", facts)

    def with_prior(self, prior: str | Mapping[str, float]) -> Head:
        """Give a head of the same evidence for another prior: see `pipeline/head/priors.py`.

        Parameters
        ----------
        prior : str or mapping
            `uniform`, `training`, or a share for each class; see `parse_prior`.
        """
        class_rows = self.metadata.get("class_rows")
        if self.prior is None or class_rows is None:
            raise InputError(
                "the head does not say which prior it answers for, so that it can't be moved to "
                "another; fit it again"
            )
        new = parse_prior(prior, self.labels, class_rows)
        return dataclasses.replace(
            self,
            intercept=self.intercept + shift(self.prior, new),
            metadata={**self.metadata, "prior": new.tolist()},
        )

    def predict_proba(self, X: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Give the probabilities of the classes, (N, K), for raw vectors (N, D)."""
        if X.ndim != 2 or X.shape[1] != self.coef.shape[1]:
            raise InputError(
                f"vectors have shape {X.shape}; this head takes (N, {self.coef.shape[1]}): "
                + ", ".join(f"{source.view} ({source.width})" for source in self.sources)
            )
        return softmax(X @ self.coef.T + self.intercept)

    def predict(self, X: npt.NDArray[np.floating[Any]]) -> list[str]:
        """Give the most probable class of each of N raw vectors (N, D)."""
        return [self.labels[k] for k in self.predict_proba(X).argmax(axis=1)]

    def to_sklearn(self) -> Any:
        """Give a stock fitted `sklearn.linear_model.LogisticRegression` on raw vectors."""
        from sklearn.linear_model import LogisticRegression

        estimator = LogisticRegression(C=float(self.metadata.get("C", 1.0)))
        # With two classes scikit-learn keeps one row, the difference of the two.
        binary = len(self.labels) == 2
        estimator.coef_ = self.coef[1:] - self.coef[:1] if binary else self.coef.copy()
        estimator.intercept_ = (
            self.intercept[1:] - self.intercept[:1] if binary else self.intercept.copy()
        )
        estimator.classes_ = np.array(self.labels)
        estimator.n_features_in_ = self.coef.shape[1]
        estimator.n_iter_ = np.array([int(self.metadata.get("iterations", 0))], dtype=np.int32)
        return estimator


def views_for(sources: Sequence[VectorSpec], store: FeatureStore) -> list[str]:
    """Give the views to read from a store, if its vectors are those that `sources` describe.

    Raises
    ------
    FileRefused
        The store is of another encoder; both fingerprints are named.
    InputError
        It lacks a view.
    """
    for source in sources:
        if source.spec.fingerprint != store.fingerprint:
            differing = listed_differences(store.spec.differences(source.spec))
            raise FileRefused(
                f"{store} holds vectors of encoder {store.fingerprint[:12]}, the head was fitted "
                f"on those of encoder {source.spec.fingerprint[:12]} ({differing}): extract the "
                "tweets with the head's encoder"
            )
    return store.choose_views([source.view for source in sources])


def save_head(head: Head, path: str | Path) -> None:
    """Write the joblib file; it appears by rename, or not at all."""
    import joblib

    path = Path(path)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "estimator": head.to_sklearn(),
        "labels": list(head.labels),
        "sources": [
            {
                "spec": source.spec.to_dict(),
                "fingerprint": source.spec.fingerprint,
                "view": source.view,
                "width": source.width,
                "precision": source.precision,
                "store_dtype": source.store_dtype,
            }
            for source in head.sources
        ],
        "metadata": dict(head.metadata),
    }
    if head.novelty is not None:
        content["novelty"] = head.novelty.to_dict()
    if head.texts is not None:
        content["texts"] = head.texts.to_dict()
    with replacing(path) as aside:
        joblib.dump(content, aside, protocol=4)


def load_head(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Head:
    """Read a head's file; safe on files from strangers.

    Parameters
    ----------
    path : path
    max_bytes : int
        Of the file, and of what it unpacks to.

    Raises
    ------
    InputError
        There is no such file.
    FileRefused
        It is not a head, or more than a head.

    Examples
    --------
    >>> from features import FeatureStore, extract
    >>> from pipeline import fit, load_head, save_head
    >>> summary = extract("examples/tweets.csv", "tweets.h5")
    >>> save_head(fit("tweets.h5", C=0.01).head, "head.joblib")
    >>> with FeatureStore("tweets.h5") as store:
    ...     load_head("head.joblib").predict_proba(store.read("mean@last4+concat")).shape
    (956, 3)
    """
    path = Path(path)
    check_input(path)
    try:
        if path.stat().st_size > max_bytes:
            raise FileRefused(
                f"{path} has {path.stat().st_size} bytes; a head has at most {max_bytes}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {system_reason(error)}") from error
    try:
        return _validated(read_pickle(unpacked(data, max_bytes)))
    except UnpickleError as error:
        raise FileRefused(f"{path} is not a frostline head: {error}") from error
    except FileRefused as error:
        raise FileRefused(f"{path}: {error}") from error


def _validated(content: Any) -> Head:
    """Build a head from what a file says, or refuse it."""
    _require(
        isinstance(content, dict) and _is(content.get("format"), FORMAT),
        "it is not a frostline head",
    )
    version = content.get("version")
    _require(
        _is(version, VERSION),
        f"it has version {reprlib.repr(version)}; this frostline reads {VERSION}; update it",
    )
    labels, entries, metadata = (content.get(name) for name in ("labels", "sources", "metadata"))
    _require(
        isinstance(labels, list) and len(labels) > 1 and all(isinstance(n, str) for n in labels),
        "its labels are not texts",
    )
    _require(isinstance(entries, list) and entries != [], "it names no source")
    _check_metadata(metadata, len(labels))
    estimator = content.get("estimator")
    _require(isinstance(estimator, Instance) and estimator.of == ESTIMATOR, "it has no estimator")
    sources = tuple(_source(entry) for entry in entries)
    coef, intercept, classes = (
        estimator.state.get(name) for name in ("coef_", "intercept_", "classes_")
    )
    width = sum(source.width for source in sources)
    rows = 1 if len(labels) == 2 else len(labels)
    for name, array, shape in (("coef_", coef, (rows, width)), ("intercept_", intercept, (rows,))):
        fits = isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.shape == shape
        _require(fits, f"its {name} is not an array of shape {shape}")
        _require(bool(np.isfinite(array).all()), f"its {name} has values that are not finite")
    _require(
        isinstance(classes, np.ndarray) and classes.tolist() == labels,
        "its estimator has other classes than its labels",
    )
    if rows == 1:  # half of the difference to either side gives the same probabilities
        coef, intercept = (
            np.vstack([-coef / 2, coef / 2]),
            np.hstack([-intercept / 2, intercept / 2]),
        )
    return Head(
        tuple(labels),
        coef.astype(float),
        intercept.astype(float),
        sources,
        metadata,
        Novelty.from_dict(content.get("novelty"), len(labels), width),
        TrainingTexts.from_dict(content.get("texts")),
    )


def _source(entry: Any) -> VectorSpec:
    _require(
        isinstance(entry, dict) and isinstance(entry.get("spec"), dict), "a source has no spec"
    )
    spec = EncoderSpec.from_dict(entry["spec"])
    _require(
        _is(entry.get("fingerprint"), spec.fingerprint),
        "a source's fingerprint is not that of its spec",
    )
    view, width = entry.get("view"), entry.get("width")
    precision, store_dtype = entry.get("precision"), entry.get("store_dtype")
    _require(
        isinstance(view, str)
        and type(width) is int
        and width > 0
        and any(_is(precision, known) for known in PRECISIONS)
        and any(_is(store_dtype, known) for known in STORE_DTYPES),
        "a source is incomplete",
    )
    _require(
        (precision == "int8") == (spec.quantization != "none"),
        f"a source says precision {precision} and quantization {spec.quantization}",
    )
    try:
        parse_pooling(view)
    except InputError as error:
        raise FileRefused(f"a source has an unknown view: {error}") from error
    return VectorSpec(spec, {view: width}, str(precision), str(store_dtype))


def _check_metadata(metadata: Any, n_classes: int) -> None:
    """Refuse metadata that could not be shown; what else is in it is the writer's."""
    _require(isinstance(metadata, dict), "it has no metadata")
    versions, metrics = metadata.get("versions", {}), metadata.get("metrics", {})
    _require(
        isinstance(metadata.get("rows", 0), int)
        and isinstance(versions, dict)
        and isinstance(metrics, dict)
        and isinstance(metrics.get("macro_recall", 0.0), float),
        "its metadata are not those of a head",
    )
    for name, kind in (("prior", float), ("class_rows", int)):
        values = metadata.get(name)
        _require(
            values is None
            or (
                isinstance(values, list)
                and len(values) == n_classes
                and all(type(value) is kind and 0 < value < 2**63 for value in values)
            ),
            f"its {name} is not one number above 0 for each class",
        )
    HeldOutFigures.from_dict(metadata.get("held_out"), n_classes)


def _is(value: Any, expected: str | int) -> bool:
    """Tell whether a value from a file is this very one; an array is not."""
    return type(value) is type(expected) and value == expected


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise FileRefused(otherwise)
