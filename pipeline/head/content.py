"""Check what the file of a head says, whatever its format: names and values in, parts of it out.

Each format has a reader of its own, which trusts nothing and knows nothing of heads. What it gives
is checked here, once for all of them. The two differ in how they keep the weights: scikit-learn's
estimator has one row of them for two classes, arrays have them as they are.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import FileRefused, InputError
from features.spec.encoder_spec import EncoderSpec
from features.spec.pooling import parse_pooling
from features.spec.vector_spec import PRECISIONS, STORE_DTYPES, VectorSpec
from pipeline.head.held_out_figures import HeldOutFigures
from pipeline.head.novelty import Novelty
from pipeline.head.safe_pickle import ESTIMATOR, Instance
from pipeline.head.training_texts import TrainingTexts

FORMAT = "frostline-head"
VERSION = 1
MAX_BYTES = 2**28  # 8,000 classes of 4,096 columns

Weights = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
# Takes the content, the labels and the columns; gives coef (K, D) and intercept (K,).
WeightsOf = Callable[[Mapping[str, Any], Sequence[str], int], Weights]


def parts_of(content: Any, weights_of: WeightsOf) -> dict[str, Any]:
    """Check what a file says, and give the fields of a `Head`.

    Parameters
    ----------
    content : Any
        As the reader of the format gives it.
    weights_of : callable
        `of_estimator` or `of_arrays`.

    Raises
    ------
    FileRefused
        It is not a head, is one of a later version, or contradicts itself.
    """
    require(
        isinstance(content, dict) and _is(content.get("format"), FORMAT),
        "it is not a frostline head",
    )
    version = content.get("version")
    require(
        _is(version, VERSION),
        f"it has version {reprlib.repr(version)}; this frostline reads {VERSION}; update it",
    )
    labels, entries, metadata = (content.get(name) for name in ("labels", "sources", "metadata"))
    require(
        isinstance(labels, list) and len(labels) > 1 and all(isinstance(n, str) for n in labels),
        "its labels are not texts",
    )
    require(len(set(labels)) == len(labels), "one of its labels comes twice")
    require(isinstance(entries, list) and entries != [], "it names no source")
    _check_metadata(metadata, len(labels))
    sources = tuple(_source(entry) for entry in entries)
    width = sum(source.width for source in sources)
    coef, intercept = weights_of(content, labels, width)
    return {
        "labels": tuple(labels),
        "coef": coef,
        "intercept": intercept,
        "sources": sources,
        "metadata": metadata,
        "novelty": Novelty.from_dict(content.get("novelty"), len(labels), width),
        "texts": TrainingTexts.from_dict(content.get("texts")),
    }


def of_estimator(content: Mapping[str, Any], labels: Sequence[str], width: int) -> Weights:
    """Take the weights of a scikit-learn estimator."""
    estimator = content.get("estimator")
    require(isinstance(estimator, Instance) and estimator.of == ESTIMATOR, "it has no estimator")
    state = estimator.state  # type: ignore[union-attr]  # required above
    coef, intercept, classes = (state.get(name) for name in ("coef_", "intercept_", "classes_"))
    rows = 1 if len(labels) == 2 else len(labels)
    _check_array("coef_", coef, (rows, width))
    _check_array("intercept_", intercept, (rows,))
    require(
        isinstance(classes, np.ndarray) and classes.tolist() == labels,
        "its estimator has other classes than its labels",
    )
    if rows == 1:  # half of the difference to either side gives the same probabilities
        coef, intercept = (
            np.vstack([-coef / 2, coef / 2]),
            np.hstack([-intercept / 2, intercept / 2]),
        )
    return coef.astype(float), intercept.astype(float)


def of_arrays(content: Mapping[str, Any], labels: Sequence[str], width: int) -> Weights:
    """Take weights that are kept as they are."""
    coef, intercept = content.get("coef"), content.get("intercept")
    _check_array("coef", coef, (len(labels), width))
    _check_array("intercept", intercept, (len(labels),))
    return coef, intercept  # type: ignore[return-value]  # checked above


def _check_array(name: str, array: Any, shape: tuple[int, ...]) -> None:
    fits = isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.shape == shape
    require(fits, f"its {name} is not an array of shape {shape}")
    require(bool(np.isfinite(array).all()), f"its {name} has values that are not finite")


def entry_of(source: VectorSpec) -> dict[str, Any]:
    """Say, as JSON types, what a source is."""
    return {
        "spec": source.spec.to_dict(),
        "fingerprint": source.spec.fingerprint,
        "view": source.view,
        "width": source.width,
        "precision": source.precision,
        "store_dtype": source.store_dtype,
    }


def _source(entry: Any) -> VectorSpec:
    require(isinstance(entry, dict) and isinstance(entry.get("spec"), dict), "a source has no spec")
    spec = EncoderSpec.from_dict(entry["spec"])
    require(
        _is(entry.get("fingerprint"), spec.fingerprint),
        "a source's fingerprint is not that of its spec",
    )
    view, width = entry.get("view"), entry.get("width")
    precision, store_dtype = entry.get("precision"), entry.get("store_dtype")
    require(
        isinstance(view, str)
        and type(width) is int
        and width > 0
        and any(_is(precision, known) for known in PRECISIONS)
        and any(_is(store_dtype, known) for known in STORE_DTYPES),
        "a source is incomplete",
    )
    require(
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
    require(isinstance(metadata, dict), "it has no metadata")
    versions, metrics = metadata.get("versions", {}), metadata.get("metrics", {})
    require(
        isinstance(metadata.get("rows", 0), int)
        and isinstance(versions, dict)
        and isinstance(metrics, dict)
        and isinstance(metrics.get("macro_recall", 0.0), float),
        "its metadata are not those of a head",
    )
    for name, kind in (("prior", float), ("class_rows", int)):
        values = metadata.get(name)
        require(
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


def require(condition: bool, otherwise: str) -> None:
    """Refuse the file, in these words, unless something is true."""
    if not condition:
        raise FileRefused(otherwise)
