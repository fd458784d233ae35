"""Read what a head says of itself: the content of `config.json` in, checked facts for a card out.

A head may come from a stranger. What is not of the kind that it should be counts as not said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.spec.checkpoint import DEFAULT_HUB_ID, DEFAULT_MODEL
from features.spec.encoder_spec import EncoderSpec

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)
# A data set of the hub as an input, with the commit that it was taken at: a folder has none.
_DATASET = re.compile(r"hf:([A-Za-z0-9][\w.-]*(?:/[\w.-]+)?)[^@]*@[0-9a-f]{40}", re.ASCII)


@dataclass(frozen=True)
class ClassFacts:
    """A class: the rows that it was fitted on, and how well it is found; None is unknown."""

    label: str
    fitted: int | None
    share: float | None
    recall: float | None
    precision: float | None
    f1: float | None
    judged: int | None


@dataclass(frozen=True)
class DataFile:
    """Vectors of a fit: the inputs that they were made from, and by what."""

    inputs: tuple[str, ...]
    digests: tuple[str, ...]
    rows: int | None
    made_on: str


@dataclass(frozen=True)
class Record:
    """What a card tells.

    Attributes
    ----------
    place : str
        What the commands are given.
    labels : tuple of str
    classes : tuple of ClassFacts
    encoders : tuple of EncoderSpec
    views : tuple of (str, int)
        With their columns.
    figures : dict of str to float
        Finite ones alone, by their names in a head's metrics.
    interval : (float, float), optional
        95 %, of macro recall.
    judged_on : str
        Which rows, by whom.
    judged, fitted, unlabelled : int, optional
        Rows.
    data : tuple of DataFile
    said : mapping
        All of the metadata.
    tells_novelty : bool
        Whether the head knows the kind of its training tweets.
    digests : int
        Of training texts that are in the files.
    """

    place: str
    labels: tuple[str, ...]
    classes: tuple[ClassFacts, ...]
    encoders: tuple[EncoderSpec, ...]
    views: tuple[tuple[str, int], ...]
    figures: Mapping[str, float]
    interval: tuple[float, float] | None
    judged_on: str
    judged: int | None
    fitted: int | None
    unlabelled: int | None
    data: tuple[DataFile, ...]
    said: Mapping[str, Any]
    tells_novelty: bool
    digests: int

    @classmethod
    def of(cls, content: Mapping[str, Any], place: str) -> Record:
        """Read it from what `config.json` and the arrays say, which was checked as a head."""
        said = content["metadata"]
        metrics = mapping(said.get("metrics"))
        specs = [EncoderSpec.from_dict(entry["spec"]) for entry in content["sources"]]
        return cls(
            place,
            tuple(content["labels"]),
            _classes(content["labels"], said, metrics),
            tuple({spec.fingerprint: spec for spec in specs}.values()),
            tuple((entry["view"], entry["width"]) for entry in content["sources"]),
            {name: found for name in metrics if (found := number(metrics[name])) is not None},
            _interval(metrics.get("macro_recall_interval")),
            text(said.get("measured_on")) or "held-out rows",
            count(metrics.get("rows")),
            count(said.get("rows")),
            count(said.get("unlabelled")),
            _data(said.get("data")),
            said,
            content.get("novelty") is not None,
            len(mapping(content.get("texts")).get("digests", ())),
        )

    @property
    def title(self) -> str:
        """The name of the repository, or of the file."""
        name = self.place.removeprefix("hf:").replace("\\", "/").rstrip("/").split("/")[-1]
        return name.partition("@")[0].removesuffix(".joblib") or "head"

    @property
    def base_models(self) -> list[str]:
        """The encoders that the hub has, by their ids."""
        found = [hub_id(spec) for spec in self.encoders]
        return list(dict.fromkeys(one for one in found if one is not None))

    @property
    def datasets(self) -> list[str]:
        """The data sets of the hub that the vectors were made from."""
        names = [dataset_of(name) for one in self.data for name in one.inputs]
        return list(dict.fromkeys(name for name in names if name is not None))


def hub_id(spec: EncoderSpec) -> str | None:
    """Give the id of an encoder on the hub; None for a local folder."""
    if spec.model in (DEFAULT_MODEL, DEFAULT_HUB_ID):
        return DEFAULT_HUB_ID
    return spec.model if spec.revision and _ID.fullmatch(spec.model) else None


def dataset_of(name: str) -> str | None:
    """Give the id of a data set of the hub from the name of an input; None for all others."""
    found = _DATASET.fullmatch(name)
    return None if found is None else found[1]


def number(value: Any) -> float | None:
    """Give a number that is finite."""
    return float(value) if isinstance(value, float) and math.isfinite(value) else None


def count(value: Any) -> int | None:
    """Give a number of rows."""
    return value if type(value) is int and 0 <= value < 2**63 else None


def text(value: Any) -> str | None:
    """Give a text that says something."""
    return value if isinstance(value, str) and value.strip() else None


def mapping(value: Any) -> Mapping[str, Any]:
    """Give a mapping, empty where there is none."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> Sequence[Any]:
    """Give a list, empty where there is none."""
    return value if isinstance(value, list) else []


def _interval(value: Any) -> tuple[float, float] | None:
    """Read two numbers, which are a tuple in memory and a list in a file."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = map(number, value)
    return None if low is None or high is None else (low, high)


def _classes(
    labels: Sequence[str], said: Mapping[str, Any], metrics: Mapping[str, Any]
) -> tuple[ClassFacts, ...]:
    rows, shares = sequence(said.get("class_rows")), sequence(said.get("prior"))
    measured = {
        str(one.get("label")): one for one in map(mapping, _listed(metrics.get("classes"))) if one
    }
    facts = []
    for k, label in enumerate(labels):
        one = measured.get(label, {})
        facts.append(
            ClassFacts(
                label,
                count(rows[k]) if len(rows) == len(labels) else None,
                number(shares[k]) if len(shares) == len(labels) else None,
                number(one.get("recall")),
                number(one.get("precision")),
                number(one.get("f1")),
                count(one.get("rows")),
            )
        )
    return tuple(facts)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else []


def _data(value: Any) -> tuple[DataFile, ...]:
    found = []
    for one in map(mapping, sequence(value)):
        by = [text(one.get(name)) for name in ("backend", "dtype", "device")]
        found.append(
            DataFile(
                tuple(filter(None, map(text, sequence(one.get("inputs"))))),
                tuple(filter(None, map(text, sequence(one.get("input_digests"))))),
                count(one.get("rows")),
                ", ".join(filter(None, by)),
            )
        )
    return tuple(found)
