"""Frames of every kind that tests take: a new row of `KINDS` is tested by being there."""

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa


def arrow(columns, kind=pa.string):
    return pa.table({name: pa.array(cells, kind()) for name, cells in columns.items()})


def in_pieces(columns, frame):
    """An iterator of frames of two rows."""
    n = len(next(iter(columns.values())))
    return (frame({k: v[i : i + 2] for k, v in columns.items()}) for i in range(0, n, 2))


def in_duckdb(columns):
    frame = arrow(columns)
    return duckdb.connect().from_arrow(frame)


# By name, what makes a frame of columns of texts or None.
KINDS = {
    "pandas": lambda c: pd.DataFrame(c),
    "pandas, objects": lambda c: pd.DataFrame(c, dtype=object),
    "pandas, nullable": lambda c: pd.DataFrame(c, dtype="string[python]"),
    "pandas, of Arrow": lambda c: arrow(c).to_pandas(types_mapper=pd.ArrowDtype),
    "pandas, categories": lambda c: pd.DataFrame(c).astype("category"),
    "pandas, ids as index": lambda c: pd.DataFrame(c).set_index("id"),
    "pandas, one index": lambda c: pd.DataFrame(c, index=[7] * len(c["text"])),
    "polars": lambda c: pl.DataFrame(c, schema=dict.fromkeys(c, pl.String)),
    "polars, categories": lambda c: pl.DataFrame(c, schema=dict.fromkeys(c, pl.Categorical)),
    "polars, lazy": lambda c: pl.LazyFrame(c, schema=dict.fromkeys(c, pl.String)),
    "Arrow": arrow,
    "Arrow, large": lambda c: arrow(c, pa.large_string),
    "Arrow, views": lambda c: arrow(c, pa.string_view),
    "Arrow, bytes": lambda c: arrow(
        {k: [v if v is None else v.encode() for v in cells] for k, cells in c.items()}, pa.binary
    ),
    "Arrow, dictionaries": lambda c: pa.table(
        {k: pa.array(v, pa.string()).dictionary_encode() for k, v in c.items()}
    ),
    "Arrow, in chunks": lambda c: pa.concat_tables([arrow(c).slice(0, 1), arrow(c).slice(1)]),
    "Arrow, a stream": lambda c: arrow(c).to_reader(max_chunksize=2),
    "Arrow, a batch": lambda c: pa.record_batch(arrow(c).combine_chunks().to_batches()[0]),
    "DuckDB": in_duckdb,
    "frames of pandas": lambda c: in_pieces(c, pd.DataFrame),
    "frames of Arrow": lambda c: in_pieces(c, arrow),
}
