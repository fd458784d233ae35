"""Write columns of texts and numbers to a Parquet or an Arrow file, a group of rows at a time.

In come blocks of cells by column, in bounded memory; the file has its schema whether rows came or
not. Where the file lies and when it takes its name is said by `pipeline/scoring/output_files.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from features.errors import InputError
from pipeline.scoring.score_columns import Cells

ARROW_FORMATS = (".parquet", ".arrow", ".feather")
# Of a group; fewer where their texts are long.
_GROUP_ROWS, _GROUP_CHARACTERS = 2**16, 2**24


def check_pyarrow(output: str | Path) -> None:
    """Refuse to write such a file without its library.

    Raises
    ------
    InputError
    """
    try:
        import pyarrow  # noqa: F401 - whether it is there
    except ImportError as error:
        raise InputError(
            f"{output}: writing Parquet and Arrow needs pyarrow: pip install 'frostline[parquet]'"
        ) from error


@contextmanager
def arrow_writer(
    path: Path, names: Sequence[str], numbers: Collection[str]
) -> Iterator[Callable[[Cells], None]]:
    """Open a file for writing, and give what writes a block to it.

    Parameters
    ----------
    path : Path
        Its suffix, one of `ARROW_FORMATS`, says the format.
    names : sequence of str
        Of the columns.
    numbers : collection of str
        Those of float64; the others hold texts.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema([(name, pa.float64() if name in numbers else pa.string()) for name in names])
    held = _Group(schema, pa)
    parquet = path.suffix.lower() == ".parquet"
    with ParquetWriter(path, schema) if parquet else pa.ipc.new_file(str(path), schema) as file:

        def write(cells: Cells) -> None:
            held.add(cells)
            if held.is_full:
                file.write_table(held.table())

        yield write
        if held.rows:
            file.write_table(held.table())


class _Group:
    """The rows that are held until they are written together."""

    def __init__(self, schema: Any, pa: Any) -> None:
        self._schema, self._pa = schema, pa
        self._begin()

    def _begin(self) -> None:
        self._batches: list[Any] = []
        self.rows = self._characters = 0

    @property
    def is_full(self) -> bool:
        """Whether it is to be written."""
        return self.rows >= _GROUP_ROWS or self._characters >= _GROUP_CHARACTERS

    def add(self, cells: Cells) -> None:
        """Take a block."""
        arrays = [self._pa.array(cells[field.name], field.type) for field in self._schema]
        self._batches.append(self._pa.record_batch(arrays, schema=self._schema))
        self.rows += self._batches[-1].num_rows
        self._characters += sum(map(len, cells.get("text", ())))

    def table(self) -> Any:
        """Give all that is held, and forget it."""
        table = self._pa.Table.from_batches(self._batches, self._schema).combine_chunks()
        self._begin()
        return table
