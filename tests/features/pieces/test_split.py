"""What pieces an input is split into, and that they hold what it holds."""

import gzip
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from features.errors import InputError
from features.pieces.piece import Piece, digest_of, reader_of
from features.pieces.split import split
from features.tweets.columns import Columns
from features.tweets.reader import Reject, Tweet, TweetReader
from features.tweets.table import InputFormat


def put(folder, name, rows, first=0):
    """Write a file of rows of 20 bytes each."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    body = "".join(f"text {n:08} x,label\n" for n in range(first, first + rows))
    path.write_bytes(b"text,label\n" + body.encode())
    return str(path)


def shape(pieces):
    """The names in each piece."""
    return [[span.path.rsplit("/", 1)[-1] for span in piece.spans] for piece in pieces]


def rows_of(reader):
    """What is read, without the ids."""
    return [
        (row.text, row.label, row.source, row.line)
        if isinstance(row, Tweet)
        else (row.reason, row.start, row.source, row.line)
        for row in reader
    ]


def read_piecewise(pieces, columns=Columns(), written=InputFormat()):  # noqa: B008
    return [row for piece in pieces for row in reader_of(piece, columns, written)]


def test_small_files_are_grouped_whole_and_in_order(tmp_path):
    files = [
        put(tmp_path, f"{name}.csv", rows) for name, rows in zip("cabd", (4, 5, 3, 8), strict=True)
    ]
    assert shape(split(files, shard_rows=12)) == [["c.csv", "a.csv"], ["b.csv", "d.csv"]]
    assert shape(split(files, shard_rows=1000)) == [["c.csv", "a.csv", "b.csv", "d.csv"]]
    assert [piece.number for piece in split(files, shard_rows=12)] == [0, 1]


def test_only_the_first_file_of_a_format_is_opened(tmp_path, monkeypatch):
    files = [put(tmp_path, f"{n}.csv", 5) for n in range(10)]
    pieces = split(files, shard_rows=20)
    for n in range(1, 10):
        with Path(files[n]).open("r+b") as file:  # other content of the same size
            file.write(b"\n" * 100)
    assert split(files, shard_rows=20) == pieces
    assert len(pieces) > 1


def test_pieces_hold_what_the_input_holds(tmp_path):
    files = [put(tmp_path, f"{n}.csv", 7, first=7 * n) for n in range(9)]
    whole = list(TweetReader(files))
    pieces = split(files, shard_rows=20)
    found = read_piecewise(pieces)
    assert rows_of(found) == rows_of(whole)
    assert [row.id for row in whole] == [str(n) for n in range(63)]
    ids = [f"{piece.number}:{n}" for piece in pieces for n in range(sum(7 for _ in piece.spans))]
    assert [row.id for row in found] == ids


def test_ids_of_the_input_stay(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text\n7,a\n,b\n9,c\n")
    assert [row.id for row in read_piecewise(split(path, shard_rows=10))] == ["7", "0:1", "9"]


def test_rejects_are_those_of_the_input(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,x\na,b,c\nd,y\n")
    found = read_piecewise(split([path, path], shard_rows=1))
    assert rows_of(found) == rows_of(TweetReader([path, path]))
    assert sum(isinstance(row, Reject) for row in found) == 2


def test_a_piece_is_json(tmp_path):
    for piece in split([put(tmp_path, f"{n}.csv", 5) for n in range(4)], shard_rows=10):
        assert Piece.from_json(json.loads(json.dumps(piece.to_json()))) == piece


def test_the_digest_is_that_of_the_same_files_elsewhere(tmp_path):
    found = set()
    for folder in (tmp_path / "a", tmp_path / "b"):
        files = [put(folder, f"{n}.csv", 5) for n in range(4)]
        found.add(digest_of(split(files, shard_rows=10)))
    assert len(found) == 1
    assert digest_of(split(files[::-1], shard_rows=10)) not in found
    assert digest_of(split(files, shard_rows=20)) not in found


def test_a_file_of_another_size_than_before_is_refused(tmp_path):
    path = put(tmp_path, "a.csv", 5)
    (piece,) = split(path, shard_rows=10)
    put(tmp_path, "a.csv", 6)
    with pytest.raises(InputError, match=r"a\.csv has 143 bytes, and had 121 when"):
        read_piecewise([piece])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("-", "standard input can be read once .*: write it to a file"),
        (pa.table({"text": ["a"]}), "no file that every job can open.*write it to a Parquet file"),
        ([], "no input was given"),
        ("nowhere.csv", "nowhere.csv: no such file"),
    ],
)
def test_what_jobs_cannot_open_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        split(given, shard_rows=10)


def test_a_piece_has_a_row_at_least(tmp_path):
    with pytest.raises(InputError, match="`shard_rows` must be 1 or more, is 0"):
        split(put(tmp_path, "a.csv", 5), shard_rows=0)


def pack_zip(path, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", content)


PACKED = {
    ".gz": lambda path, content: path.write_bytes(gzip.compress(content, mtime=0)),
    ".zip": pack_zip,
}


@pytest.mark.parametrize("packing", PACKED)
def test_rows_of_packed_files_are_estimated_by_what_they_unpack_to(tmp_path, packing):
    rows = 4000
    content = b"text,label\n" + b"".join(b"%08d,x\n" % n for n in range(rows))
    paths = [tmp_path / f"{n}.csv{packing}" for n in range(6)]
    for path in paths:
        PACKED[packing](path, content)
    assert [len(names) for names in shape(split(paths, shard_rows=2 * rows + 100))] == [2, 2, 2]


def test_rows_of_arrays_are_told_by_their_texts(tmp_path):
    rows = [{"text": f"row {n:05}", "more": list(range(20))} for n in range(1000)]
    paths = [tmp_path / f"{n}.json" for n in range(4)]
    for path in paths:
        path.write_text(json.dumps(rows, indent=1))  # 25 lines a row
    assert [len(names) for names in shape(split(paths, shard_rows=2100))] == [2, 2]


def test_a_mapping_is_not_judged_by_a_piece(tmp_path):
    mapping = tmp_path / "mapping.txt"
    mapping.write_text("1\tone\n")
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, label in zip(files, "12", strict=True):
        path.write_text(f"text,label\na,{label}\n")
    columns = Columns(mapping=mapping)
    pieces = split(files, shard_rows=1, columns=columns)
    assert len(pieces) == 2
    assert rows_of(read_piecewise(pieces, columns)) == rows_of(TweetReader(files, columns))


def test_how_much_of_a_piece_is_read_is_known(tmp_path):
    files = [put(tmp_path, f"{n}.csv", 5) for n in range(4)]
    (piece,) = split(files, shard_rows=100)
    reader = reader_of(piece, Columns(), InputFormat())
    seen = [reader.fraction_read() for _ in reader]
    assert seen == sorted(seen)
    assert reader.fraction_read() == 1.0
