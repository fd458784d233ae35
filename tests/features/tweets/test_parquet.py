"""Parquet files from strangers: read by a limited child, whatever they unpack to."""

import datetime
import gc
import sys

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.base.child import code
from features.errors import CannotContinue, FileRefused, InputError
from features.tweets import parquet
from features.tweets.reader import Reject, Tweet, TweetReader
from features.tweets.source import MAX_LINE_BYTES

LIMIT = 768 * 2**20


def write(folder, columns, **options):
    path = folder / "a.parquet"
    pq.write_table(pa.table(columns), path, **{"compression": "zstd"} | options)
    return path


def read(path):
    return list(TweetReader([path]))


def refusal(kind, path, **options):
    """What is said where the child has less memory than it has, or runs something else."""
    with path.open("rb") as file, pytest.raises(kind) as caught:
        list(parquet.rows_of(file, str(path), MAX_LINE_BYTES, **options))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_text_in_every_row_by_a_dictionary(tmp_path):
    """Two kilobytes that unpack to 30 GB."""
    text = pa.array(["y" * 30_000_000])
    path = write(
        tmp_path, {"text": pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), text)}
    )
    assert path.stat().st_size < 10_000
    said = refusal(FileRefused, path, memory_bytes=LIMIT)
    assert "could not be read within 768 MiB" in said
    assert "Memory" in said


@pytest.mark.slow
def test_a_page_of_half_a_gigabyte(tmp_path):
    path = write(tmp_path, {"text": ["z" * (LIMIT // 2)]}, use_dictionary=False)
    assert path.stat().st_size < 100_000
    said = refusal(FileRefused, path, memory_bytes=LIMIT)
    assert "could not be read within 768 MiB" in said


def test_tweets_of_a_megabyte_are_tweets(tmp_path):
    texts = ["x" * 1_000_000 + str(i) for i in range(40)]
    assert [tweet.text for tweet in read(write(tmp_path, {"text": texts}))] == texts


def test_a_text_that_is_too_long_is_a_reject(tmp_path):
    path = write(tmp_path, {"text": ["good", "x" * (MAX_LINE_BYTES + 1), None, "good too"]})
    first, long, missing, last = read(path)
    assert (first.text, last.text) == ("good", "good too")
    assert isinstance(long, Reject)
    assert f"longer than {MAX_LINE_BYTES} bytes" in long.reason
    assert (long.line, len(long.start)) == (2, 62)
    assert "missing or null" in missing.reason


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([datetime.date(2026, 1, 2)], "'text' is not a text"),
        ([1.5], "'text' is a number"),
        ([float("nan")], "'text' is a number"),
        ([True], "'text' is true or false"),
    ],
)
def test_what_is_no_text_is_a_reject(tmp_path, values, outcome):
    (row,) = read(write(tmp_path, {"text": values}))
    assert outcome in row.reason


def test_bytes_are_text(tmp_path):
    first, second = read(write(tmp_path, {"text": ["é".encode(), b"\xff"]}))
    assert first == Tweet("0", "é")
    assert second == Tweet("1", "\ufffd", None, True)


def test_ids_and_labels_of_other_types(tmp_path):
    path = write(tmp_path, {"id": [2**60, None], "text": ["a", "b"], "label": [1.0, float("nan")]})
    assert read(path) == [
        Tweet(str(2**60), "a", "1"),
        Tweet("1", "b", None),
    ]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("import os; os.abort()", "signal 6"),
        ("import ctypes; ctypes.string_at(0)", "signal 11"),
        ("raise MemoryError", "code 1 (MemoryError)"),
        ('import sys; sys.stdout.write(\'[["text"],[]]\\n["half\'); os.abort()', "code 1"),
    ],
)
def test_a_child_that_dies_refuses_the_file(tmp_path, fault, said):
    path = write(tmp_path, {"text": ["a"]})
    assert said in refusal(FileRefused, path, program=fault)


def test_without_the_library_it_says_what_to_install(tmp_path):
    path = write(tmp_path, {"text": ["a"]})
    hidden = "import sys; sys.modules['pyarrow'] = None; " + code(parquet.__name__)
    said = refusal(InputError, path, program=hidden)
    assert "needs pyarrow: pip install 'frostline[parquet]'" in said


def test_without_processes_it_cannot_go_on(tmp_path, monkeypatch):
    path = write(tmp_path, {"text": ["a"]})
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(CannotContinue, match="no process could be started to read it"):
        read(path)


def test_a_reader_that_stops_leaves_no_process(tmp_path):
    before = set(psutil.Process().children())  # of other tests
    rows = iter(TweetReader([write(tmp_path, {"text": [f"text {i}" for i in range(100_000)]})]))
    assert next(rows).text == "text 0"
    rows.close()
    del rows
    gc.collect()
    assert set(psutil.Process().children()) <= before
