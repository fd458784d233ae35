"""Read Parquet and Arrow files in a child process with a limit of memory.

A page of a few KB can say that it unpacks to gigabytes, a dictionary can put one long text into
every row, and the library that unpacks them is a large one in C++. So it runs in a child, which
writes a line of JSON for each row; what ends badly there is the file's fault and nobody else's. The
file goes to the child as its standard input, so that how far it was read can be seen from here too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from itertools import accumulate
from typing import Any, BinaryIO

from features.base import child as children
from features.errors import CannotContinue, FileRefused, InputError, system_reason
from features.tweets.parquet_copy import add_ranges, footer_copy, is_file
from features.tweets.rows.arrow import BATCH_ROWS, cells_of, class_names, columns_of
from features.tweets.values import Odd

# Tweets need a tenth of it, most of that for the library itself.
MEMORY_BYTES = 2**31

# Bytes that old writers do not count in the size of a column: Arrow reads as many more.
_LEFT_OUT = 100

# Other allocators take gigabytes of addresses beforehand; threads take stacks.
_ENVIRONMENT = children.ONE_THREAD | {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "ARROW_IO_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}


def rows_of(
    stream: BinaryIO,
    name: str,
    max_text_bytes: int,
    *,
    between: tuple[int, int] | None = None,
    memory_bytes: int = MEMORY_BYTES,
    program: str = "",
) -> Generator[list[Any]]:
    """Read the columns, then row by row what is in them.

    The first list has a list of the columns that are read, one of those that are not, as they hold
    lists or objects, and one of the row groups of a Parquet file: how many rows each has, and the
    bytes where it begins and ends. Numbers of a Hugging Face ClassLabel come as the names that they
    stand for.

    Parameters
    ----------
    stream : binary file
        One that is no file of this machine is copied to it, as far as is needed.
    name : str
        For messages.
    max_text_bytes : int
        A longer text is `Odd`.
    between : tuple of (int, int), optional
        Of a Parquet file, the first row that is read, and the one behind the last; default: all.
    memory_bytes : int
        Of the child.
    program : str
        What the child runs; by default `child`.

    Yields
    ------
    list
        Texts, numbers, truth values, None; all else is `Odd`.

    Raises
    ------
    FileRefused
        It is no Parquet or Arrow file, or could not be read within the limit.
    InputError
        The library is not there.
    CannotContinue
        No process could be started.
    """
    if not is_file(stream):
        with _copied(stream, name, between) as copy:
            yield from rows_of(copy, name, max_text_bytes, between=between)
        return
    limits = [str(memory_bytes), str(max_text_bytes), *map(str, between or ())]
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                children.command(program or children.code(__name__), *limits),
                stdin=stream,
                stdout=subprocess.PIPE,
                stderr=said,
                env=os.environ | _ENVIRONMENT,
            )
        except OSError as error:
            raise CannotContinue(
                f"{name}: no process could be started to read it: {system_reason(error)}"
            ) from error
        with process:
            try:
                assert process.stdout is not None, "it is a pipe"
                for line in process.stdout:
                    if not line.endswith(b"\n"):
                        break  # it died in the middle of it
                    yield json.loads(line, object_hook=lambda fields: Odd(**fields))
                code = process.wait()
            finally:
                process.kill()
        if code:
            said.seek(0)
            errors = said.read(10_000).decode("utf-8", "replace")
            raise _failure(code, errors, name, memory_bytes)


def row_groups(stream: BinaryIO, name: str) -> list[int]:
    """Give how many rows each row group of a Parquet file has; none of an Arrow file.

    Raises
    ------
    FileRefused, InputError, CannotContinue
        See `rows_of`.
    """
    if is_file(stream):
        return [rows for rows, _, _ in _groups_of(stream, name)]
    with footer_copy(stream) as copy:
        return [rows for rows, _, _ in _groups_of(copy, name)]


def _groups_of(stream: BinaryIO, name: str) -> list[tuple[int, int, int]]:
    with closing(rows_of(stream, name, 1)) as rows:
        _, _, groups = next(rows, ([], [], []))
    return [(rows, start, stop) for rows, start, stop in groups]


@contextmanager
def _copied(stream: BinaryIO, name: str, between: tuple[int, int] | None) -> Iterator[BinaryIO]:
    """Copy a file to this machine: its footer, and the row groups that have the rows."""
    with footer_copy(stream) as copy:
        groups = _groups_of(copy, name)
        first, stop = between or (0, sum(rows for rows, _, _ in groups))
        wanted = _overlapping([rows for rows, _, _ in groups], first, stop)
        add_ranges(stream, copy, (groups[n][1:] for n in wanted))
        yield copy


def _overlapping(groups: list[int], first: int, stop: int) -> list[int]:
    """Give the numbers of the groups that have some of the rows.

    Examples
    --------
    >>> _overlapping([3, 0, 4, 2], 3, 8)
    [2, 3]
    """
    ends = list(accumulate(groups))
    return [n for n, end in enumerate(ends) if end - groups[n] < stop and first < end]


def _failure(code: int, errors: str, name: str, memory_bytes: int) -> Exception:
    if code == InputError.exit_code:
        return InputError(
            f"{name}: reading Parquet and Arrow needs pyarrow: pip install 'frostline[parquet]'"
        )
    if code == FileRefused.exit_code:
        return FileRefused(f"{name} is not a readable Parquet or Arrow file: {errors.strip()}")
    return FileRefused(
        f"{name} could not be read within {memory_bytes >> 20} MiB: the process that tried it "
        f"ended with {children.ending(code, errors)}"
    )


def child() -> None:
    """Run in the child: the file is standard input, the rows go to standard output."""
    memory, max_text_bytes, *between = (int(argument) for argument in sys.argv[2:])
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        sys.exit(InputError.exit_code)
    children.set_limits(memory_bytes=memory)
    try:
        schema, batches, groups = _opened(pa, pq, between)
        wanted, nested = columns_of(schema)
        sys.stdout.write(json.dumps([wanted, nested, groups]) + "\n")
        names = class_names(schema)
        for batch in batches(wanted):
            for cells in cells_of(batch, wanted, names, max_text_bytes):
                sys.stdout.write(json.dumps(cells, default=vars) + "\n")
        sys.stdout.flush()
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:  # all for a damaged file
        sys.stderr.write("\n" + (" ".join(str(error).split())[:200] or type(error).__name__))
        sys.exit(FileRefused.exit_code)


def _opened(
    pa: Any, pq: Any, between: list[int]
) -> tuple[Any, Callable[[list[str]], Iterator[Any]], list[tuple[int, int, int]]]:
    """Give the schema of standard input, what reads columns of it in batches, and its row groups.

    Those are rows and borders in bytes, of a Parquet file alone.
    """
    # Not buffered: where it stands is where the parent sees it.
    raw = open(0, "rb", buffering=0)  # noqa: SIM115 - it lives as long as the process
    start = os.pread(0, 6, 0)
    if start == b"ARROW1":
        file = pa.ipc.open_file(raw)
        count = range(file.num_record_batches)
        return file.schema, lambda names: (file.get_batch(n).select(names) for n in count), []
    if start.startswith(b"PAR1"):
        table = pq.ParquetFile(raw, buffer_size=2**20)
        about = table.metadata
        groups = [_group(about.row_group(n)) for n in range(about.num_row_groups)]
        rows = [group[0] for group in groups]
        return table.schema_arrow, lambda names: _between(table, names, rows, between), groups
    stream = pa.ipc.open_stream(raw)
    return stream.schema, lambda names: (batch.select(names) for batch in stream), []


def _group(about: Any) -> tuple[int, int, int]:
    """Give the rows of a row group, and where its bytes begin and end."""
    columns = [about.column(n) for n in range(about.num_columns)]
    starts = [
        min(one.data_page_offset, one.dictionary_page_offset or one.data_page_offset)
        for one in columns
    ]
    sizes = [one.total_compressed_size + _LEFT_OUT for one in columns]
    stops = map(sum, zip(starts, sizes, strict=True))
    return about.num_rows, min(starts, default=0), max(stops, default=0)


def _between(table: Any, names: list[str], groups: list[int], between: list[int]) -> Iterator[Any]:
    """Read rows of a Parquet file in batches: all of them, or those between two."""
    if not between:
        yield from table.iter_batches(BATCH_ROWS, columns=names, use_threads=False)
        return
    first, stop = between
    wanted = _overlapping(groups, first, stop)
    before = sum(groups[: wanted[0]]) if wanted else 0
    skip, left = first - before, stop - first
    for batch in table.iter_batches(
        BATCH_ROWS, row_groups=wanted, columns=names, use_threads=False
    ):
        rows = batch.slice(skip, left)
        skip = max(0, skip - batch.num_rows)
        left -= rows.num_rows
        yield rows
        if not left:
            break
