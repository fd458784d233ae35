"""Record what a short measured run found: the rates of a worker, and what the rows are like.

Figures turn into JSON and back, so that a plan for GPUs can be made where there are none. Nothing
is measured here (`pipeline/plan/measure.py`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.base.remote.copies import here
from features.base.shown import listed
from features.errors import FileRefused, InputError, first_line, system_reason
from features.spec.vector_spec import STORE_DTYPES

_MOST_BYTES = 2**20
# What any figure is within, so that what is computed with it is finite.
_LEAST, _MOST = 1e-9, 1e18


@dataclass(frozen=True)
class Figures:
    """What was measured on the first rows of an input, with one worker on one machine.

    Attributes
    ----------
    model, device, dtype, machine : str
        The encoder, where its forward pass ran, in which precision, and the processor or GPU.
    cores, gpus : int
        Of the machine: all of the cores, which the worker had, and its GPUs, of which it had one.
    views : dict of str to int
        By name, the width D.
    store_dtype : str
        Of the vectors on disk.
    rows, labelled, classes, distinct, encoded : int
        Usable rows that were read, those with a label, different labels, the distinct texts among
        the rows, and those of these that the model read within its time.
    tokens : float
        Of a distinct text, on average, as the model reads it.
    input_bytes, id_bytes : float, int
        Of a row of the input on its disk, on average; of the longest id, or 0 where rows have none
        and get `PIECE:ROW`.
    load_seconds : float
        From nothing to a loaded model, without choosing what runs it.
    rows_read, texts_tokenised, tokens_encoded, bytes_written : float
        A second: rows read, normalised and hashed on one core; texts tokenised on all cores; tokens
        through the model and its poolings; bytes of a feature file, with its journal, synced, read
        back and sealed.
    flops : float
        Operations a second of the passes of a fit, of the products in them, on all cores.
    input_rows : int or None
        Rows of the whole input, about; None where that is unknown.
    rows_searched : float or None
        Rows a second in which one process finds where rows end, to cut a large file for workers;
        None where that is not needed, or not known.
    why_whole : str
        Why large files of this kind are not cut, and what can be done; "" where they are.
    """

    model: str
    device: str
    dtype: str
    machine: str
    cores: int
    gpus: int
    views: Mapping[str, int]
    store_dtype: str
    rows: int
    labelled: int
    classes: int
    distinct: int
    encoded: int
    tokens: float
    input_bytes: float
    id_bytes: int
    load_seconds: float
    rows_read: float
    texts_tokenised: float
    tokens_encoded: float
    bytes_written: float
    flops: float
    input_rows: int | None = None
    rows_searched: float | None = None
    why_whole: str = ""

    @property
    def distinct_share(self) -> float:
        """Distinct texts, over rows."""
        return self.distinct / self.rows

    @property
    def on_cpu(self) -> bool:
        """Whether the model shares its cores with reading and tokenising."""
        return self.device.startswith("cpu")

    def to_dict(self) -> dict[str, Any]:
        """Give them as JSON types."""
        return dataclasses.asdict(self) | {"views": dict(self.views)}


_MAY_BE_ZERO = {"gpus", "labelled", "classes", "id_bytes", "load_seconds"}
_MAY_BE_UNKNOWN = {"input_rows", "rows_searched"}


def read_figures(path: str | Path) -> Figures:
    """Read the figures that `frostline plan` wrote as JSON.

    Raises
    ------
    InputError
        There is no such file.
    FileRefused
        It is something else, or a figure is not what it must be.
    """
    try:
        with here(path).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {system_reason(error)}") from error
    try:
        content = json.loads(data) if len(data) <= _MOST_BYTES else None
    except (ValueError, RecursionError) as error:
        raise FileRefused(f"{path} is not JSON: {first_line(error)}; {_CURE}") from error
    figures = content.get("figures") if isinstance(content, dict) else None
    if not isinstance(figures, dict):
        raise FileRefused(f"{path} has no `figures` of a measured run; {_CURE}")
    fields = dataclasses.fields(Figures)
    missing = [field.name for field in fields if field.name not in figures]
    if missing:
        raise FileRefused(
            f"{path}: its figures have no {listed(missing)}: another version of frostline measured "
            "them; measure again with this one"
        )
    given = {field.name: figures[field.name] for field in fields}
    for field in fields:
        if not _is_right(field.name, str(field.type), given[field.name]):
            raise FileRefused(f"{path}: {field.name} is {given[field.name]!r}; {_CURE}")
    found = Figures(**given)
    if not found.encoded <= found.distinct <= found.rows >= found.labelled >= found.classes:
        raise FileRefused(f"{path}: more labels, classes or distinct texts than rows; {_CURE}")
    return found


_CURE = "figures are what `frostline plan` writes to its `json_file`"


def _is_right(name: str, kind: str, value: object) -> bool:
    """Tell whether a value is one that a figure may have."""
    if name == "views":
        return (
            isinstance(value, dict)
            and bool(value)
            and all(type(width) is int and 0 < width < 10**6 for width in value.values())
        )
    if name == "store_dtype":
        return value in STORE_DTYPES
    if kind == "str":
        return isinstance(value, str)
    if value is None:
        return name in _MAY_BE_UNKNOWN
    if isinstance(value, bool) or not isinstance(value, int if "int" in kind else (int, float)):
        return False
    return (value == 0 and name in _MAY_BE_ZERO) or _LEAST <= value <= _MOST
