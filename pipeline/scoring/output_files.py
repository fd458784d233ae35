"""Write scores to a CSV, TSV or JSON Lines file, or to standard output as they come.

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
from pipeline.scoring.evaluate import Scores

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
    """Write scores as CSV, TSV or JSON Lines.

    Parameters
    ----------
    head : Head
        Names the columns: `id`, `text` if asked for, `label`, `p_<label>` for each
        class, and `flags`, see `Scores`.
    scores : iterable of Scores
    output : path
        `.csv`, `.tsv` or `.jsonl`; it appears by rename when all is written. `-`: JSON Lines on
        `stdout`, brought out after each block.
    with_text : bool
        Whether the texts come along.
    excel_safe : bool
        Whether cells of `.csv` and `.tsv` that a spreadsheet would take for a formula get a `'`
        before them.
    """
    suffix = check_output(output, excel_safe=excel_safe)
    columns = ["id", *(["text"] if with_text else []), "label", *(f"p_{n}" for n in head.labels)]
    columns += [*(["novelty"] if with_novelty else []), "flags"]
    counts = dict.fromkeys(head.labels, 0)
    first: list[dict[str, Any]] = []
    with _opened(output, stdout) as file:
        write = _WRITERS[suffix](file, columns)
        for block in scores:
            if with_text and block.texts is None:
                raise InputError("`with_text`: cached vectors come without their texts")
            rows = list(_rows(head, block, with_text, with_novelty))
            write([_without_formulas(row) for row in rows] if excel_safe else rows)
            file.flush()
            first.extend(rows[: 5 - len(first)])
            for row in rows:
                counts[row["label"]] += 1
        if not sum(counts.values()):
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
    """Write rows of cells by column, as `write_scores` writes scores."""
    suffix = check_output(output, excel_safe=excel_safe)
    with _opened(output, stdout) as file:
        write = _WRITERS[suffix](file, list(columns))
        write([_without_formulas(row) for row in rows] if excel_safe else list(rows))


def check_output(output: str | Path, *, excel_safe: bool = False) -> str:
    """Give the format of an output by its name, or say why it can't be one."""
    suffix = ".jsonl" if str(output) == "-" else Path(output).suffix.lower()
    if suffix not in _WRITERS:
        raise InputError(
            f"{output}: unknown format; the name must end in one of {', '.join(_WRITERS)}, or be - "
            "for JSON Lines on standard output"
        )
    if excel_safe and suffix == ".jsonl":
        raise InputError(
            f"`excel_safe` is for .csv and .tsv, not for {output}: JSON has no formulas"
        )
    if not Path(output).parent.is_dir():
        raise InputError(
            f"{output}: the folder {Path(output).parent} does not exist; make it first"
        )
    return suffix


def _without_formulas(row: dict[str, Any]) -> dict[str, Any]:
    """Make texts of the cells that a spreadsheet would run.

    They are those of OWASP's list, and their full-width twins.
    """
    return {
        name: f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULAS) else cell
        for name, cell in row.items()
    }


def _rows(
    head: Head, block: Scores, with_text: bool, with_novelty: bool
) -> Iterator[dict[str, Any]]:
    texts: Sequence[str] = block.texts or [""] * len(block.ids)
    novelty = [] if block.novelty is None else block.novelty.round(3).tolist()
    # Six digits: more than half precision carries. The label is the argmax of what is printed.
    proba = block.proba.round(6)
    for n, (identity, text, winner, row, flags) in enumerate(
        zip(block.ids, texts, proba.argmax(axis=1), proba.tolist(), block.flags, strict=True)
    ):
        cells = {"id": identity} | ({"text": text} if with_text else {})
        cells["label"] = head.labels[winner]
        cells |= {f"p_{name}": p for name, p in zip(head.labels, row, strict=True)}
        if with_novelty:
            cells["novelty"] = novelty[n]
        yield cells | {"flags": flags}


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
