"""Say where in a table the text, the label and the id are, and what its labels mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Columns:
    """What was said about the columns of the input; None where the usual names will do.

    Attributes
    ----------
    text, label, id : str, optional
        Names of columns; default: the first of `TEXT_COLUMNS`, `LABEL_COLUMNS`, `ID_COLUMNS` of
        `features/tweets/reader.py` that is there. A text column must be there; rows without an id
        get their number in the input, from 0.
    labels : path, optional
        For one `.txt` input: a file with one label a line.
    mapping : path, optional
        Lines of `value<TAB>name` that turn labels as they are in the file into names.
    """

    text: str | None = None
    label: str | None = None
    id: str | None = None
    labels: str | Path | None = None
    mapping: str | Path | None = None

    @property
    def files(self) -> tuple[str | Path | None, str | Path | None]:
        """The files that are read besides the input."""
        return self.labels, self.mapping
