"""Parquet files that lie elsewhere: what is needed of them alone is fetched."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import FileRefused
from features.tweets.parquet import row_groups, rows_of

GROUPS, ROWS = 20, 400


class Elsewhere(io.BytesIO):
    """A stream without a file descriptor, which counts what is read of it."""

    fetched = 0

    def read(self, size=-1):
        some = super().read(size)
        self.fetched += len(some)
        return some


@pytest.fixture(scope="module")
def content():
    rng = np.random.default_rng(0)
    texts = [f"{n} {rng.bytes(300).hex()}" for n in range(GROUPS * ROWS)]
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), file, row_group_size=ROWS, use_dictionary=False)
    return file.getvalue(), texts


def read(stream, **options):
    names, *rows = rows_of(stream, "there.parquet", 2**20, **options)
    return names[0], [text for (text,) in rows]


def test_rows_between_two_are_read_of_their_row_groups_alone(content):
    data, texts = content
    stream = Elsewhere(data)
    first, stop = 3 * ROWS + 7, 5 * ROWS + 1
    assert read(stream, between=(first, stop)) == (["text"], texts[first:stop])
    assert 3 * len(data) / GROUPS < stream.fetched < 4 * len(data) / GROUPS + 2**17


def test_the_footer_says_what_row_groups_there_are(content):
    stream = Elsewhere(content[0])
    assert row_groups(stream, "there.parquet") == [ROWS] * GROUPS
    assert stream.fetched <= 2**16 + 10


def test_a_footer_of_any_size_and_a_whole_file(content):
    data, texts = content
    assert read(Elsewhere(data)) == (["text"], texts)
    file = io.BytesIO()
    many = {"text": ["a"], **{f"{'column' * 40} {n}": [n] for n in range(500)}}
    pq.write_table(pa.table(many), file)
    stream = Elsewhere(file.getvalue())
    assert row_groups(stream, "there.parquet") == [1]
    assert next(rows_of(stream, "there.parquet", 100))[0] == list(many)


def test_what_is_no_parquet_file_is_read_as_it_is():
    table, file = pa.table({"text": ["a", "b"]}), io.BytesIO()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    assert read(Elsewhere(file.getvalue())) == (["text"], ["a", "b"])
    assert row_groups(Elsewhere(file.getvalue()), "there.arrow") == []


@pytest.mark.parametrize(
    "damaged",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[:-8] + b"\xff\xff\xff\xff" + data[-4:],
        lambda data: data[:-8] + b"\0\0\0\0" + data[-4:],
        lambda data: data[: len(data) // 2] + data[-4:],
        lambda data: data[:4] + bytes(len(data) - 2**16) + data[-(2**16) + 4 :],
    ],
)
def test_damaged_files_are_refused(content, damaged):
    with pytest.raises(FileRefused, match=r"there\.parquet"):
        read(Elsewhere(damaged(content[0])), between=(0, 10))
