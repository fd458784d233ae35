"""Write scores to a CSV, TSV, JSON Lines, Parquet or Arrow file, or to standard output at once.

Where the scores come from is not known here (`pipeline/scoring/predict.py`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from features.base.atomic import replacing
from features.base.shown import printable
from features.errors import InputError
from pipeline.head.head import Head
from pipeline.scoring.arrow_files import ARROW_FORMATS, arrow_writer, check_pyarrow
from pipeline.scoring.evaluate import Scores
from pipeline.scoring.score_columns import Cells, ScoreColumns

# What a cell of a spreadsheet begins with where it is not taken as it stands.
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(frozen=True)
class Written:
    """What went to the output: rows by predicted label, and the first rows for a look."""

    counts: dict[str, int]
    first: list[dict[str, Any]]

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.counts.values())


def write_scores(
    head: Head,
    scores: Iterable[Scores],
    output: str | Path,
    *,
    with_text: bool = False,
    with_novelty: bool = False,
    excel_safe: bool = False,
    stdout: TextIO | None = None,
) -> Written:
    """Write scores as CSV, TSV, JSON Lines, Parquet or Arrow.

    Parameters
    ----------
    head : Head
        Names the columns, see `ScoreColumns.names`.
    scores : iterable of Scores
    output : path
        `.csv`, `.tsv`, `.jsonl`, or one of `ARROW_FORMATS`; it appears by rename when all is
        written. `-`: JSON Lines on `stdout`, brought out after each block.
    with_text : bool
        Whether the texts come along.
    with_novelty : bool
        Whether the distances to the training tweets do.
    excel_safe : bool
        Whether cells of `.csv` and `.tsv` that a spreadsheet would take for a formula get a `'`
        before them.

    Raises
    ------
    InputError
        There was nothing to write, in a format that could not say so: an empty Parquet or Arrow
        file has its columns and their types.
    """
    suffix = check_output(output, excel_safe=excel_safe, tables_alone=False)
    columns = ScoreColumns.of(head, with_text=with_text, with_novelty=with_novelty)
    counts = dict.fromkeys(head.labels, 0)
    first: list[dict[str, Any]] = []
    with _writer(output, suffix, columns, stdout) as write:
        for block in scores:
            if with_text and block.texts is None:
                raise InputError("`with_text`: cached vectors come without their texts")
            cells = columns.cells(block)
            write(_without_formulas(cells) if excel_safe else cells)
            first.extend(_rows({n: c[: 5 - len(first)] for n, c in cells.items()}))
            for label in cells["label"]:
                counts[label] += 1
        if not sum(counts.values()) and suffix not in ARROW_FORMATS:
            raise InputError("no usable tweet in the input; the output is as it was")
    return Written(counts, first)


def write_table(
    columns: Sequence[str],
    rows: Iterable[dict[str, Any]],
    output: str | Path,
    *,
    excel_safe: bool = False,
    stdout: TextIO | None = None,
) -> None:
    """Write rows of cells by column, as `write_scores` writes scores; no Parquet or Arrow."""
    suffix = check_output(output, excel_safe=excel_safe)
    with _opened(output, stdout) as file:
        write = _WRITERS[suffix](file, list(columns))
        write([_row_without_formulas(row) for row in rows] if excel_safe else list(rows))


def check_output(output: str | Path, *, excel_safe: bool = False, tables_alone: bool = True) -> str:
    """Give the format of an output by its name, or say why it can't be one.

    Parameters
    ----------
    output : path, or "-"
    excel_safe : bool
        Whether it is to be made safe for spreadsheets.
    tables_alone : bool
        Whether Parquet and Arrow are refused.
    """
    suffix = ".jsonl" if str(output) == "-" else Path(output).suffix.lower()
    known = [*_WRITERS, *([] if tables_alone else ARROW_FORMATS)]
    if suffix not in known:
        raise InputError(
            f"{output}: unknown format; the name must end in one of {', '.join(known)}, or be - "
            "for JSON Lines on standard output"
        )
    if excel_safe and suffix not in (".csv", ".tsv"):
        named = "JSON" if suffix == ".jsonl" else suffix
        raise InputError(
            f"`excel_safe` is for .csv and .tsv, not for {output}: {named} has no formulas"
        )
    if suffix in ARROW_FORMATS:
        check_pyarrow(output)
    if not Path(output).parent.is_dir():
        raise InputError(
            f"{output}: the folder {Path(output).parent} does not exist; make it first"
        )
    return suffix


def _without_formulas(cells: Cells) -> Cells:
    """Make texts of the cells that a spreadsheet would run, see `_safe`."""
    return {name: [_safe(cell) for cell in column] for name, column in cells.items()}


def _row_without_formulas(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _safe(cell) for name, cell in row.items()}


def _safe(cell: Any) -> Any:
    """Give a cell that is no formula: those of OWASP's list, and their full-width twins, are."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULAS) else cell


def _rows(cells: Cells) -> Iterator[dict[str, Any]]:
    for row in zip(*cells.values(), strict=True):
        yield dict(zip(cells, row, strict=True))


@contextmanager
def _writer(
    output: str | Path, suffix: str, columns: ScoreColumns, stdout: TextIO | None
) -> Iterator[Callable[[Cells], None]]:
    """Give what writes a block of cells to the output, in its format."""
    if suffix in ARROW_FORMATS:
        with (
            replacing(Path(output)) as aside,
            arrow_writer(aside, columns.names, columns.numbers) as write_group,
        ):
            yield write_group
        return
    with _opened(output, stdout) as file:
        write_rows = _WRITERS[suffix](file, columns.names)

        def write(cells: Cells) -> None:
            write_rows(list(_rows(cells)))
            file.flush()

        yield write


@contextmanager
def _opened(output: str | Path, stdout: TextIO | None) -> Iterator[TextIO]:
    """Open standard output, or a file beside `output` that takes its name at the end."""
    if str(output) == "-":
        if stdout is None:
            raise InputError("standard output is closed; give `output` the name of a file")
        yield stdout
        return
    with (
        replacing(Path(output)) as aside,
        aside.open("w", encoding="utf-8", newline="") as file,
    ):
        yield file


_Writer = Callable[[list[dict[str, Any]]], None]


def _csv_writer(file: TextIO, columns: list[str], delimiter: str = ",") -> _Writer:
    def writer(quoting: Literal[0, 1]) -> csv.DictWriter[str]:
        return csv.DictWriter(
            file, columns, delimiter=delimiter, lineterminator="\n", quoting=quoting
        )

    plain, quoted = writer(csv.QUOTE_MINIMAL), writer(csv.QUOTE_ALL)
    plain.writeheader()

    def write(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            # Before Python 3.13 a carriage return alone was not reason enough for quotes.
            odd = any("\r" in cell for cell in row.values() if isinstance(cell, str))
            (quoted if odd else plain).writerow(row)

    return write


def _tsv_writer(file: TextIO, columns: list[str]) -> _Writer:
    return _csv_writer(file, columns, "\t")


def _jsonl_writer(file: TextIO, columns: list[str]) -> _Writer:
    def write(rows: list[dict[str, Any]]) -> None:
        # On a terminal raw control characters would run; inside JSON their escapes mean the same.
        file.writelines(printable(json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)

    return write


_WRITERS = {".csv": _csv_writer, ".tsv": _tsv_writer, ".jsonl": _jsonl_writer}
