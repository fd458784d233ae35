"""Name the facts of a report: records that are filled by `gather`, and become JSON by `to_dict`.

`Facts` holds what `report.json` holds, under the same names. `Points` holds what a map of all rows
needs beside it, as arrays. Nothing is computed here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.facts.figures import (
    Choice,
    Confusion,
    LearningCurve,
    PrecisionRecall,
    Reliability,
)
from pipeline.fitting.changes import Changes

FORMAT, VERSION = "frostline report", 1
GOOD, WARNING, PROBLEM, SKIPPED = STATUSES = ("good", "warning", "problem", "skipped")


@dataclass(frozen=True)
class HeadFacts:
    """What the head is.

    Attributes
    ----------
    file : str
    labels : tuple of str, (K,)
    views : tuple of str
        With their widths; with the number of the encoder where there are several.
    encoders : tuple of str
        The model of each, and the start of its fingerprint.
    C : float, optional
        None where the head does not say.
    prior : tuple of float, (K,), optional
        Shares of the classes that the probabilities answer for.
    calibration : str, optional
        The method: `temperature`, `bias-corrected` or `none`.
    rows : int
        That it was fitted on.
    """

    file: str
    labels: tuple[str, ...]
    views: tuple[str, ...]
    encoders: tuple[str, ...]
    C: float | None
    prior: tuple[float, ...] | None
    calibration: str | None
    rows: int


@dataclass(frozen=True)
class ClassRows:
    """How many labelled rows are of a class, and which share of all labelled rows that is."""

    name: str
    rows: int
    share: float


@dataclass(frozen=True)
class Lengths:
    """Tokens per tweet, as a histogram.

    Attributes
    ----------
    edges : tuple of int, (B + 1,)
        Of the bins: `counts[i]` rows have at least `edges[i]` and fewer than `edges[i + 1]` tokens.
    counts : tuple of int, (B,)
    truncated : int
        Rows that were longer than the encoder reads.
    """

    edges: tuple[int, ...]
    counts: tuple[int, ...]
    truncated: int


@dataclass(frozen=True)
class Duplicates:
    """Texts that come more than once.

    Attributes
    ----------
    texts, rows : int
        Texts that have several rows, and these rows.
    conflicting : int
        Texts whose labelled rows have several labels.
    """

    texts: int
    rows: int
    conflicting: int


@dataclass(frozen=True)
class Script:
    """Rows whose letters are mostly of one script, such as Latin."""

    name: str
    rows: int


@dataclass(frozen=True)
class DataFacts:
    """What the rows are.

    Attributes
    ----------
    files : tuple of str
    rows, labelled : int
    classes : tuple of ClassRows, (K,)
    lengths : Lengths
    duplicates : Duplicates
    scripts : tuple of Script, optional
        The most frequent first; None without texts.
    """

    files: tuple[str, ...]
    rows: int
    labelled: int
    classes: tuple[ClassRows, ...]
    lengths: Lengths
    duplicates: Duplicates
    scripts: tuple[Script, ...] | None


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    id : str
        One of those of `checks`.
    status : str
        One of `STATUSES`.
    title : str
    finding : str
        What was found, with its figures.
    cure : str
        What to do about it; empty where all is good.
    """

    id: str
    status: str
    title: str
    finding: str
    cure: str


@dataclass(frozen=True)
class Listed:
    """One row to look at.

    Attributes
    ----------
    row : int
        In the store, from 0; in the first one where several are joined.
    id, label, predicted : str
        The label is empty where the row has none.
    probability : float
        Of the predicted class.
    text : str, optional
    """

    row: int
    id: str
    label: str
    predicted: str
    probability: float
    text: str | None


@dataclass(frozen=True)
class Suspect(Listed):
    """A row whose label is doubtful.

    Attributes
    ----------
    score : float
        From 0 to 1, the most doubtful; see `pipeline/labelling/label_noise.py`.
    suggested : str
        The most probable class other than the label.
    loss : float
        -ln of the probability of the label, in nats.
    """

    score: float
    suggested: str
    loss: float


@dataclass(frozen=True)
class Facts:
    """All that a report says.

    Attributes
    ----------
    verdict : str
        One sentence.
    metrics : dict
        JSON types, as `frostline evaluate --json` has them, and `measured_on`: which rows, by whom.
    mistakes, uncertain : tuples of Listed
        The most confident mistakes, and the rows that were least sure; the worst first.
    suspects : tuple of Suspect
    provenance : dict
        JSON types: `versions`, `head`, `map`, and `commands` by which it is made again.
    left_out : tuple of str
        What is not of all rows, or not there, and why.
    """

    verdict: str
    head: HeadFacts
    data: DataFacts
    checks: tuple[Check, ...]
    choice: Choice | None
    metrics: dict[str, Any]
    confusion: Confusion
    precision_recall: tuple[PrecisionRecall, ...]
    reliability: Reliability
    learning_curve: LearningCurve | None
    mistakes: tuple[Listed, ...]
    uncertain: tuple[Listed, ...]
    suspects: tuple[Suspect, ...]
    changes: Changes | None
    provenance: dict[str, Any]
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give the content of `report.json`; tuples become lists there."""
        return {"format": FORMAT, "version": VERSION} | dataclasses.asdict(self)


@dataclass(frozen=True)
class Points:
    """All rows of the store, on a plane.

    Attributes
    ----------
    xy : float32 array (N, 2)
        As `provenance` says under `map`; see `plane`.
    label, predicted : int16 arrays (N,)
        Codes into the head's labels; -1 where the row has no label.
    probability : float32 array (N,)
        Of the predicted class.
    rows : int64 array (N,)
        Numbers of the rows in the store, as in `Listed.row`.
    ids : list of str, (N,)
    texts : list of str, (N,), optional
    """

    xy: npt.NDArray[np.float32]
    label: npt.NDArray[np.int16]
    predicted: npt.NDArray[np.int16]
    probability: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    ids: list[str]
    texts: list[str] | None
