"""How a table is found to be written, and that a look at it holds no more than a reader may."""

import csv
import io
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError
from features.tweets import source, table
from features.tweets.reader import Reject, Tweet, TweetReader
from features.tweets.table import InputFormat

LIMIT = 5_000


def read(path, written=InputFormat()):  # noqa: B008 - it is frozen
    reader = TweetReader([path], written=written)
    return list(reader), reader.findings


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def peak_of(work):
    """Bytes that are held at most, the second time: what is imported and kept is not counted."""
    work()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def drain(path, written=InputFormat()):  # noqa: B008
    """Read with a small limit, so that a file of megabytes is what one of gigabytes is else."""
    for _ in TweetReader([path], written=written, max_line_bytes=LIMIT):
        pass


BODY = "".join(f"{n},text number {n},x\n" for n in range(15_000))
TEXTS = "".join(f'{n},"first {n}\nsecond",x\n' for n in range(15_000))


@pytest.mark.parametrize("quoting", ["auto", "minimal"])
def test_a_quote_that_is_never_closed_is_answered_in_bounded_memory(tmp_path, quoting):
    path = put(tmp_path, "a.csv", 'id,text,label\n0,"open,x\n' + BODY.replace("x\n", "x,y\n"))

    def work():
        with pytest.raises(InputError, match=r"is a quote opened and never closed\?"):
            drain(path, InputFormat(quoting=quoting))

    assert 2 * peak_of(work) < path.stat().st_size


def test_one_in_the_header_too(tmp_path):
    path = put(tmp_path, "a.csv", 'id,"text,label\n' + BODY.replace("x\n", "x,y\n"))

    def work():
        with pytest.raises(InputError, match="line 1: its row goes on for more than"):
            drain(path)

    assert 2 * peak_of(work) < path.stat().st_size


def test_rows_of_several_lines_are_not_all_held(tmp_path):
    path = put(tmp_path, "a.csv", "id,text,label\n" + TEXTS)
    assert 2 * peak_of(lambda: drain(path)) < path.stat().st_size
    assert read(path)[1].labels == {"x": 15_000}


def test_what_rows_swallow_is_found_behind_the_limit_too(tmp_path):
    """Balanced quotes over two rows, behind more rows of several lines than are held."""
    quoted = "".join(f'{n}\tx\t"first {n}\n"\n' for n in range(3_000))
    path = put(
        tmp_path,
        "a.tsv",
        "id\tlabel\ttext\n"
        + "".join(f"{n}\tx\ta\n" for n in range(50))
        + quoted
        + '7\tx\t"open\n8\tx\tclose"\n',
    )
    fit = table._fit(
        source.Source(str(path), path, None, max_line_bytes=LIMIT),
        table.Dialect("\t", "minimal", header=True),
    )
    assert fit.swallowing == 1


def test_columns_of_long_or_many_values_are_not_held(tmp_path):
    wide = ",".join(f"c{n}" for n in range(400))
    row = ",".join(["y" * 2_000] * 400)
    path = put(tmp_path, "a.csv", f"text,{wide}\n" + f'"a\nb",{row}\n' + f"a,{row}\n" * 3)
    rows, _ = read(path)
    assert [row.text for row in rows] == ["a\nb", "a", "a", "a"]
    values = table._Values(",", LIMIT)
    for n in range(5_000):
        values.add([f"{n}" + "z" * 5_000, "same"])
    assert peak_of(lambda: values.add(["z" * 5_000, "same"])) < 10_000
    assert sum(map(len, values._seen[0])) < 200_000


# ------------------------------------------------------------------------------ other delimiters


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_delimiter_is_found_beside_texts_over_lines(tmp_path, suffix, delimiter, quoting):
    rows = [(str(n), f"text {n}, and\n{'; | ' * (n % 3)}more", "xy"[n % 2]) for n in range(30)]
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=quoting).writerows(
        [("id", "text", "label"), *rows]
    )
    assert read(put(tmp_path, f"a{suffix}", file.getvalue()))[0] == [Tweet(*row) for row in rows]


def test_the_header_tells_the_delimiter_where_rows_differ(tmp_path):
    path = put(tmp_path, "a.csv", "id;text;label\n1;a; b;x\n2;c;y\n")
    first, second = read(path)[0]
    assert isinstance(first, Reject)
    assert second == Tweet("2", "c", "y")


def test_commas_in_a_header_of_tabs(tmp_path):
    path = put(tmp_path, "a.csv", "id\ttext, whole\tlabel\ttext\n1\ta, b\tx\tc\n2\td\ty\te\n")
    assert read(path)[0] == [Tweet("1", "c", "x"), Tweet("2", "e", "y")]


def test_one_cell_with_commas_does_not_change_the_delimiter(tmp_path):
    path = put(tmp_path, "a.csv", "id,text;label\n1,a\n2,b,c\n")
    with pytest.raises(InputError, match="none of the columns text"):
        read(path)


# ------------------------------------------------------------------------------ the quick way


PLAIN = {
    "no quotes": "id,text,label\n1,a,x\n2,b,y\n",
    "no quotes, of other widths": "id,text,label\n1,a,x\n2,b\n\n3,c,y,z\n",
    "quotes": 'id,text,label\n1,"a, ""b""",x\n"2",b,y\n',
    "line ends": 'id,text,label\r1,"a",x\r\n\n2,b,y\n\r3,c,z',
    "NUL and marks": "\ufeffid,text,label\n1,a\0b,x\n2,\ufeffb,\ufeffy\n",
    "a header again": "id,text,label\n1,a,x\nid,text,label\n2,b,y\n",
    "a long cell": "id,text,label\n1," + "a b" * 100_000 + ",x\n2,c,y\n",
    "separators": "id,text,label\n1,a\u2028b\x0b\x0c\x1c\x85,x\n",
    "one column": "text\na\n\nb\n",
}


@pytest.mark.parametrize("kind", PLAIN)
def test_the_quick_way_reads_the_same(tmp_path, kind):
    path = put(tmp_path, "a.csv", PLAIN[kind])
    assert outcome(path, InputFormat(quoting="minimal")) == outcome(path, InputFormat())


CELL = st.text(st.sampled_from('ab ,"\n\r\0\ufeff\u2028é;\t\\'), max_size=6)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=6), st.booleans(), st.booleans())
def test_the_quick_way_reads_any_table_as_the_other_does(tmp_path_factory, rows, quoted, damaged):
    content = "id,text,label\n"
    if quoted:
        file = io.StringIO(newline="")
        csv.writer(file).writerows(rows)
        content += file.getvalue()
    else:
        content += "".join(",".join(row) + "\n" for row in rows)
    data = content.encode() + (b"\xff\n" if damaged else b"")
    path = put(tmp_path_factory.mktemp("plain"), "a.csv", data)
    auto = outcome(path, InputFormat(encoding="utf-8"))
    # What is said by hand is not looked for, so that nothing is known that makes it quick.
    by_hand = outcome(path, InputFormat(encoding="utf-8", quoting="minimal"))
    if isinstance(auto, str) or "quoted cells" in auto[1]:
        assert auto == by_hand


def outcome(path, written):
    """The rows with their lines, how they were read, and their labels; or the error."""
    try:
        rows, findings = read(path, written)
    except InputError as error:
        return str(error)
    (file,) = findings.files.values()
    return [(row.line, row) for row in rows], str(file), findings.labels
