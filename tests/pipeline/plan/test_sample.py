"""The first rows of an input: what they are like, and whether several workers can share it."""

import gzip
import json

import pytest

from features.pieces.split import split
from features.tweets.columns import Columns
from features.tweets.table import InputFormat
from pipeline.plan.sample import read_sample

ROWS = [{"id": f"tweet-{n}", "text": f"number {n % 40}", "label": "ab"[n % 2]} for n in range(50)]


def csv_of(rows):
    return "id,text,label\n" + "".join(f'{r["id"]},"{r["text"]}",{r["label"]}\n' for r in rows)


def lines_of(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def sampled(*inputs):
    return read_sample(list(map(str, inputs)), Columns(), InputFormat(), str.strip, 1000)


@pytest.fixture
def written(tmp_path):
    """The same rows in each format."""
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    for name, data in {
        "some.csv": csv_of(ROWS).encode(),
        "wide.csv": csv_of(ROWS).encode("utf-16"),
        "some.jsonl": lines_of(ROWS).encode(),
        "some.json": json.dumps(ROWS).encode(),
        "some.jsonl.gz": gzip.compress(lines_of(ROWS).encode()),
    }.items():
        (tmp_path / name).write_bytes(data)
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "some.parquet")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "searched", "why_whole"),
    [
        ("some.csv", True, ""),
        ("wide.csv", True, ""),
        ("some.jsonl", True, ""),
        ("some.parquet", False, ""),
        ("some.jsonl.gz", False, "it is packed"),
        ("some.json", False, "over lines"),
    ],
)
def test_rows_are_the_same_in_every_format(name, searched, why_whole, written):
    """And a file that would not be cut is known to be one, for the reason that `extract` gives."""
    path = written / name
    found = sampled(path)
    assert (found.rows, found.labelled, found.classes, len(found.texts)) == (50, 50, 2, 40)
    assert (found.id_bytes, found.input_rows) == (len("tweet-10"), 50)
    assert found.input_bytes == pytest.approx(path.stat().st_size / 50)
    assert (found.rows_searched is not None) == searched
    assert why_whole in found.why_whole and bool(found.why_whole) == bool(why_whole)
    lines = []
    pieces = split([str(path)], shard_rows=10, say=lines.append)
    assert (len(pieces) > 1) == (not found.why_whole)
    assert all(found.why_whole in line for line in lines)


def test_several_files_are_one_input(written):
    found = sampled(written / "some.csv", written / "some.jsonl")
    assert (found.rows, len(found.texts), found.input_rows) == (100, 40, 100)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_of_a_large_file_the_beginning_is_searched(encoding, tmp_path, monkeypatch):
    """Cut off between rows, or within a quoted cell, it is a file that would be cut."""
    monkeypatch.setattr("pipeline.plan.sample._SEARCHED_BYTES", 1001)
    path = tmp_path / "large.csv"
    path.write_text("id,text\n" + '1,"a line\nand another one"\n' * 200, encoding=encoding)
    found = sampled(path)
    assert found.rows_searched
    assert found.why_whole == ""


def test_ids_that_are_made_have_no_size(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("one\n\ntwo\nthree\n")
    assert sampled(path).id_bytes == 0
    path = tmp_path / "some.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two", "id": "abc"}\n{"text": "three"}\n')
    assert sampled(path).id_bytes == len("abc")
