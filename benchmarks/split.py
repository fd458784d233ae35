"""What it takes to split inputs into pieces: MB/s of a look at large files, seconds of many small.

    python benchmarks/split.py [--rows 2_000_000] [--files 100_000]

A look at a large file reads all of it, by the reader of tweets (`features/pieces/borders.py`); of
small files the size is asked for alone. Texts are of 100 bytes, as tweets are on average, in files
that are written here: a table that is one row a line, one with quoted cells, one of two lines a
row, lines of text, and lines of JSON that settle all columns in the first line, or never. Each look
runs in a process of its own, so that its peak of memory is its own. The last table is of reading
all pieces of a file one after the other, beside reading the file whole.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
from material import peak_mib

from features.pieces.file_index import IndexRequest, make_index
from features.pieces.piece import Piece, reader_of
from features.pieces.split import split
from features.tweets.columns import Columns
from features.tweets.reader import TweetReader
from features.tweets.table import InputFormat

_TEXT = (
    "the text of tweet number {0:09d}, with some more words so that it is as long as they are, 100"
)
_KINDS = {
    "rows.csv": "{0},%s,positive\n",
    "quoted.csv": '{0},"%s",positive\n',
    "lines.csv": '{0},"%s\nover two lines",positive\n',
    "lines.txt": "%s\n",
    "labelled.jsonl": '{{"id": {0}, "text": "%s", "label": "positive"}}\n',
    "unlabelled.jsonl": '{{"id": {0}, "text": "%s"}}\n',
}


@click.command()
@click.option("--rows", default=2_000_000, show_default=True, help="Rows of a large file.")
@click.option("--files", default=100_000, show_default=True, help="Small files.")
@click.option("--shard-rows", default=100_000, show_default=True)
def main(rows: int, files: int, shard_rows: int) -> None:
    """Measure looks at large files, the split of many small ones, and reading by pieces."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        print(f"{'a look at':<18} {'MB':>8} {'MB/s':>8} {'rows/s':>10} {'KB':>6} {'MiB':>5}")
        for name in _KINDS:
            path = _written(folder / name, rows)
            _alone(_look, path, rows, shard_rows)
            path.unlink()
        path = _written(folder / "rows.csv", rows)
        print(f"\n{'reading rows.csv':<18} {'seconds':>8} {'rows':>10}")
        _alone(_read_whole, path)
        _alone(_read_pieces, path, shard_rows)
        path.unlink()
        small = [folder / f"{n:06d}.csv" for n in range(files)]
        for path in small:
            _written(path, 10)
        started = time.perf_counter()
        pieces = split(small, shard_rows=shard_rows)
        seconds = time.perf_counter() - started
        print(f"\n{files:,} small files: {len(pieces):,} pieces in {seconds:.2f} s")


def _written(path: Path, rows: int) -> Path:
    line = (_KINDS.get(path.name) or _KINDS["rows.csv"]) % _TEXT
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write("id,text,label\n")
        file.writelines(line.format(number) for number in range(rows))
    return path


def _alone(work, *arguments) -> None:
    """Run in a process of its own, which prints."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        print(pool.submit(work, *arguments).result())


def _look(path: Path, rows: int, shard_rows: int) -> str:
    started = time.perf_counter()
    request = IndexRequest(str(path), path.suffix, Columns(), InputFormat(), shard_rows)
    index = make_index(request)
    seconds = time.perf_counter() - started
    size, kept = path.stat().st_size / 1e6, len(json.dumps(index.to_json())) / 1e3
    assert sum(part.rows for part in index.parts) == rows
    return (
        f"{path.name:<18} {size:>8,.0f} {size / seconds:>8,.0f} {rows / seconds:>10,.0f} "
        f"{kept:>6,.1f} {peak_mib(resource.getrusage(resource.RUSAGE_SELF)):>5,.0f}"
    )


def _read_whole(path: Path) -> str:
    started = time.perf_counter()
    rows = sum(1 for _ in TweetReader([path]))
    return f"{'whole':<18} {time.perf_counter() - started:>8.2f} {rows:>10,}"


def _read_pieces(path: Path, shard_rows: int) -> str:
    pieces: list[Piece] = split(path, shard_rows=shard_rows)
    started = time.perf_counter()
    rows = sum(1 for piece in pieces for _ in reader_of(piece, Columns(), InputFormat()))
    return f"{f'{len(pieces)} pieces':<18} {time.perf_counter() - started:>8.2f} {rows:>10,}"


if __name__ == "__main__":
    main()
