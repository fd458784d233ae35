"""Large files are cut between rows: the parts, one after the other, are the whole file.

What is held against what: all that `TweetReader` gives of a whole file, and of each of its parts.
Only the ids of rows without one differ.
"""

import csv
import gzip
import io
import itertools
import json
import re
from collections import Counter

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError
from features.pieces.file_index import FileIndex, IndexRequest, make_index
from features.pieces.piece import Piece, reader_of
from features.pieces.split import split
from features.tweets.columns import Columns
from features.tweets.formats import BINARY, FORMATS, format_of
from features.tweets.reader import Tweet, TweetReader
from features.tweets.table import InputFormat

PLAIN, ANY = Columns(), InputFormat()


def request_of(path, part_rows, columns=PLAIN, written=ANY):
    suffix = format_of(str(path), written.format)
    return IndexRequest(str(path), suffix, columns, written, part_rows)


def parts_of(path, part_rows, columns=PLAIN, written=ANY):
    """Cut a file, however small, and send index and pieces through JSON."""
    index = make_index(request_of(path, part_rows, columns, written))
    index = FileIndex.from_json(json.loads(json.dumps(index.to_json())))
    pieces = [Piece(n, (span,)) for n, span in enumerate(index.spans(str(path)))]
    return [Piece.from_json(json.loads(json.dumps(piece.to_json()))) for piece in pieces]


def seen(reader):
    """All that a reader gives of rows but ids, and where it stops."""
    rows = []
    try:
        for row in reader:
            if isinstance(row, Tweet):
                rows.append((row.text, row.label, row.group, row.repaired, row.source, row.line))
            else:
                rows.append((row.reason, row.start, row.source, row.line))
    except InputError as error:
        rows.append(str(error))
    return rows


def placeless(message):
    """A message without the place in a buffer where a decoder failed."""
    return re.sub(r"in position .*?:", "", message)


def check(path, part_rows, columns=PLAIN, written=ANY, *, is_cut=None):
    """Read a file whole and in parts; give the parts."""
    whole = TweetReader([path], columns, written=written)
    expected = seen(whole)
    try:
        pieces = parts_of(path, part_rows, columns, written)
    except InputError as error:
        # What is refused in the middle, as a quote that is never closed, is refused at once.
        assert placeless(expected[-1]) == placeless(str(error))
        return []
    readers = [reader_of(piece, columns, written) for piece in pieces]
    assert [row for reader in readers for row in seen(reader)] == expected
    labels = [reader.findings.labels for reader in readers]
    assert sum(labels, Counter()) == whole.findings.labels
    parts = [piece.spans[0].part for piece in pieces]
    if is_cut is not None:
        assert (parts[0] is not None) == is_cut
    if parts[0] is None:
        return pieces
    assert all(a.stop == b.start for a, b in itertools.pairwise(parts))
    for reader, part in zip(readers, parts, strict=True):
        assert part.rows <= part_rows
        assert reader.rows_read == part.rows
        assert reader.fraction_read() == 1.0
    return pieces


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ------------------------------------------------------------------------------------ the formats

ROWS = [
    {"id": str(7 * n), "text": f'{n}: "quoted", über\nand\t{"x" * (n % 7)}', "label": "ab"[n % 2]}
    for n in range(23)
]


def to_table(rows, delimiter):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter).writerows([rows[0], *(row.values() for row in rows)])
    return file.getvalue().encode()


def to_parquet(rows):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=5)
    return file.getvalue()


def to_feather(rows):
    file = io.BytesIO()
    feather.write_feather(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def to_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


# A new format is tested by a row here: rows in, the bytes of a file out; and whether it is cut.
FILES = {
    ".csv": (lambda rows: to_table(rows, ","), True),
    ".tsv": (lambda rows: to_table(rows, "\t"), True),
    ".tab": (lambda rows: to_table(rows, "\t"), True),
    ".jsonl": (to_lines, True),
    ".ndjson": (to_lines, True),
    ".json": (to_lines, True),
    "tweets.js": (lambda rows: b"window.YTD.tweets.part0 = " + json.dumps(rows).encode(), False),
    ".txt": (lambda rows: "\n".join(row["text"] for row in rows).encode(), True),
    ".parquet": (to_parquet, True),
    ".arrow": (to_feather, False),
    ".feather": (to_feather, False),
}


def test_every_format_is_here():
    assert FILES.keys() == FORMATS.keys()


# Binary files are read in a process of its own each time.
SIZES = [(suffix, rows) for suffix in FILES for rows in ((8,) if suffix in BINARY else (1, 5, 23))]


@pytest.mark.parametrize(("suffix", "part_rows"), SIZES)
def test_the_parts_of_a_file_are_the_file(tmp_path, suffix, part_rows):
    write, is_cut = FILES[suffix]
    pieces = check(put(tmp_path, "a" + suffix, write(ROWS)), part_rows, is_cut=is_cut)
    if is_cut and suffix != ".txt":
        assert len(pieces) >= -(-len(ROWS) // part_rows)


def test_arrays_of_json_are_whole(tmp_path):
    for name, content in (("a.json", ROWS), ("a.jsonl", ROWS)):
        check(put(tmp_path, name, json.dumps(content, indent=1)), 2, is_cut=False)


def test_a_packed_file_is_whole_however_large(tmp_path):
    content = gzip.compress(to_table(ROWS, ","))
    path = put(tmp_path, "a.csv.gz", content)
    (piece,) = split(path, shard_rows=1)
    assert piece.spans[0].part is None
    assert seen(reader_of(piece, PLAIN, ANY)) == seen(TweetReader([path]))


# ------------------------------------------------------------------------------------ hostile text

CELL = st.text(
    st.sampled_from('",;\t|\n\r\\ ab\u00e9\u20ac\U0001f600\u2028\x85\x00\ufeff\udc81'), max_size=8
)


@st.composite
def tables(draw):
    """Tables as they come: well written, by an odd writer, or damaged; and how they are read."""
    rows = draw(st.lists(st.lists(CELL, min_size=2, max_size=3), max_size=12))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    delimiter = draw(st.sampled_from([",", ";", "\t"]))
    header = [draw(st.sampled_from(["text", "\ufefftext", 'te"xt'])), "label", "more"]
    header = header[: draw(st.integers(2, 3))]
    if draw(st.booleans()):  # by a writer
        file = io.StringIO(newline="")
        quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end)
        writer.writerows([header, *rows])
        text = file.getvalue()
    else:  # cell by cell as they are
        text = end.join(delimiter.join(row) for row in [header, *rows])
    written = InputFormat(
        encoding=draw(st.sampled_from([None, None, "utf-8", "cp1252", "utf-16-be"])),
        quoting=draw(st.sampled_from(["auto", "auto", "minimal", "none", "backslash"])),
        header=draw(st.integers(0, 3)) > 0,
    )
    encoding = written.encoding or draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    content = text.encode(encoding, errors)
    for _ in range(draw(st.sampled_from([0, 0, 0, 2]))):  # damaged
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=3)) + content[at + 1 :]
    return content, written


@settings(max_examples=400, deadline=None, derandomize=True)
@given(tables(), st.integers(1, 4))
def test_parts_of_any_table(tmp_path_factory, table, part_rows):
    content, written = table
    path = put(tmp_path_factory.mktemp("t"), "a.csv", content)
    check(path, part_rows, Columns(text="0"), written)
