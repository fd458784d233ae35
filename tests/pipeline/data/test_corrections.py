import csv
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import LABELS, OTHER_SPEC, write_store

from features.errors import InputError
from pipeline.data.corrections import Corrections, correct
from pipeline.data.join import open_joined

CODES = [0, 1, 2, -1, 2, 0]


def table(path, rows, columns=("id", "row", "label")):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def store(path, codes=None, **more):
    codes = CODES if codes is None else codes
    return write_store(path, np.ones((len(codes), 2), np.float32), codes, **more)


@pytest.fixture
def six(tmp_path):
    return store(tmp_path / "six.h5")


def corrected(features, *files):
    """Labels of all rows, "" where there is none, and what was found."""
    with open_joined(features) as stores:
        after, found = correct(stores, files)
    return [after.label_names[code] if code >= 0 else "" for code in after.codes], found


def refusal(features, *files):
    with pytest.raises(InputError) as refused:
        corrected(features, *files)
    return str(refused.value)


def test_labels_are_changed_given_and_left_by_id(six, tmp_path):
    file = table(
        tmp_path / "c.csv",
        [
            ("row-0", "", "positive"),
            ("row-3", "", "neutral"),
            ("row-4", "", "positive"),
            ("row-5", "", ""),
            ("gone", "", "neutral"),
            ("row-2", "2", "positive"),
            ("row-0", "0", "positive"),
        ],
    )
    labels, found = corrected(six, file)
    assert labels == ["positive", "neutral", "positive", "neutral", "positive", "negative"]
    assert found.changed == {("negative", "positive"): 1}
    assert (found.labelled, found.same, found.unknown, found.rows) == (1, 2, ("gone",), 2)
    assert found.counts() == {
        "changed": 1,
        "labelled": 1,
        "same": 2,
        "unknown": 1,
        "files": [
            {
                "name": "c.csv",
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "lines": 6,
            }
        ],
    }
    assert json.loads(json.dumps(found.counts())) == found.counts()


def test_without_files_nothing_is_looked_at(six):
    with open_joined(six) as stores:
        assert correct(stores, None) == (stores, Corrections())


def test_a_row_number_tells_rows_of_one_id_apart(tmp_path):
    twice = store(tmp_path / "twice.h5", ids=["a", "b", "a", "c", "a", "d"])
    labels, _ = corrected(twice, table(tmp_path / "c.csv", [("a", 2, "negative")]))
    assert labels == ["negative", "neutral", "negative", "", "positive", "negative"]
    said = refusal(twice, table(tmp_path / "c.csv", [("b", "", "neutral"), ("a", "", "negative")]))
    assert "line 3: 3 rows have id" in said
    assert "column row" in said


@pytest.mark.parametrize("row", [1, 6, 10**17])
def test_an_id_and_a_row_that_disagree(row, six, tmp_path):
    said = refusal(six, table(tmp_path / "c.csv", [("row-0", 0, "positive"), ("row-2", row, "x")]))
    assert 'label "x" is none' in said
    lines = [("row-0", 0, "positive"), ("row-2", row, "neutral")]
    said = refusal(six, table(tmp_path / "c.csv", lines))
    assert f'line 3: row {row} does not have id "row-2", which is that of row 2' in said
    # Its cure works: without the column, ids do.
    cured = table(tmp_path / "c.csv", [(a, c) for a, _, c in lines], ("id", "label"))
    assert corrected(six, cured)[0][2] == "neutral"


def test_rows_that_were_counted_in_the_second_of_two_files(tmp_path):
    first = store(tmp_path / "train.h5")
    pool = store(tmp_path / "pool.h5", [-1] * 4, ids=["a", "b", "c", "d"])
    file = table(tmp_path / "next.csv", [("b", 1, "neutral"), ("d", 3, "positive")])
    for features, at in (([first, pool], 6), ([pool, first], 0)):
        labels, found = corrected(features, file)
        assert labels[at : at + 4] == ["", "neutral", "", "positive"]
        assert (found.labelled, found.rows) == (2, 2)
    through = table(tmp_path / "through.csv", [("b", 7, "neutral"), ("row-0", 0, "positive")])
    assert corrected([first, pool], through)[0][7] == "neutral"
    mixed = table(tmp_path / "mixed.csv", [("row-1", 1, "positive"), ("b", 1, "neutral")])
    assert "does not have id" in refusal([first, pool], mixed)


def test_rows_that_can_be_of_two_files(tmp_path):
    first = store(tmp_path / "train.h5")
    pool = store(tmp_path / "pool.h5", [-1] * 4)
    file = table(tmp_path / "next.csv", [("row-1", 1, "neutral")])
    assert "can be of rows of several of the files" in refusal([first, pool], file)
    assert "`id_column`" in refusal([first, pool], file)
    only_there = table(tmp_path / "next.csv", [("row-5", 5, "neutral")])
    assert corrected([first, pool], only_there)[0][5] == "neutral"


def test_two_labels_for_one_row_are_refused_wherever_they_stand(six, tmp_path):
    one = table(tmp_path / "one.csv", [("row-0", "", "positive"), ("row-0", 0, "neutral")])
    said = refusal(six, one)
    assert "line 3" in said
    assert "line 2" in said
    one = table(tmp_path / "one.csv", [("row-0", "", "positive")])
    other = table(tmp_path / "other.csv", [("row-0", "", "negative")])
    assert "other.csv, line 2" in refusal(six, one, other)
    same = table(tmp_path / "same.csv", [("row-0", "", "positive"), ("row-1", "", "positive")])
    labels, found = corrected(six, one, same)
    assert labels[:2] == ["positive", "positive"]
    assert found.rows == 2


@pytest.mark.parametrize("label", ["postive", "Positive", "1", "=positive"])
def test_a_label_that_is_new_is_refused_with_a_cure(label, six, tmp_path):
    said = refusal(six, table(tmp_path / "c.csv", [("row-0", "", label)]))
    assert 'line 2: label "' in said
    assert '"negative", "neutral", "positive"' in said
    assert ('is "positive" meant?' in said) == (label == "Positive")
    assert "extract the tweets again" in said


def test_where_no_row_has_a_label_the_corrections_name_the_classes(tmp_path):
    bare = store(tmp_path / "bare.h5", [-1] * 6, labels=[])
    file = table(tmp_path / "c.csv", [("row-0", 0, "no"), ("row-1", 1, "10"), ("row-5", 5, "9")])
    labels, found = corrected(bare, file)
    assert labels == ["no", "10", "", "", "", "9"]
    assert found.labelled == 3
    with open_joined(bare) as stores:
        assert correct(stores, file)[0].label_names == ["9", "10", "no"]


def test_texts_with_other_labels_are_told(tmp_path):
    texts = ["same", "same", "other", "same", "fourth", "same"]
    twins = store(tmp_path / "twins.h5", texts=texts)
    _, found = corrected(twins, table(tmp_path / "c.csv", [("row-0", 0, "positive")]))
    assert (found.twins.corrected, found.twins.others) == (1, 2)  # neutral, none and negative
    assert found.twins.examples == (("row-0", "row-1"),)
    every = [(f"row-{n}", n, "positive") for n in (0, 1, 3, 5)]
    _, found = corrected(twins, table(tmp_path / "c.csv", every))
    assert (found.twins.corrected, found.twins.others) == (0, 0)
    _, found = corrected(twins, table(tmp_path / "c.csv", [("row-0", 0, "negative")]))
    assert found.twins.corrected == 0  # it is as it was


@pytest.mark.parametrize(
    ("columns", "row", "said"),
    [
        (("id", "row"), ("row-0", "0"), "no column 'label'"),
        (("row", "label"), ("0", "positive"), "no column 'id'"),
        (("id", "label", "label"), ("row-0", "positive", "neutral"), "more than once"),
        (("id", "row", "label"), ("row-0", "0", ""), "no line with a label"),
        (("id", "row", "label"), ("", "0", "positive"), "a label and no id"),
        (("id", "row", "label"), ("row-0", "-1", "positive"), 'row is "-1"'),
        (("id", "row", "label"), ("row-0", "²", "positive"), "row is"),
        (("id", "row", "label"), ("row-0", "1.5", "positive"), 'row is "1.5"'),
        (("id", "row", "label"), ("row-0", "positive"), "2 cells under 3 columns"),
        (("id", "row", "label"), ("zero", "0", "positive"), "no row of"),
    ],
)
def test_files_that_are_refused(columns, row, said, six, tmp_path):
    assert said in refusal(six, table(tmp_path / "c.csv", [row], columns))


def test_files_that_are_none(six, tmp_path):
    assert "no such file" in refusal(six, tmp_path / "c.csv")
    assert "standard input" in refusal(six, "-")
    (tmp_path / "c.csv").write_text("")
    assert "is empty" in refusal(six, tmp_path / "c.csv")
    (tmp_path / "c.csv").write_text("id,row,label\n")
    assert "no line with a label" in refusal(six, tmp_path / "c.csv")
    (tmp_path / "c.xlsx").write_bytes(b"PK\x03\x04")
    assert "unknown format" in refusal(six, tmp_path / "c.xlsx")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.csv", "\ufeffID;Row;Label\r\nrow-0;0.0; positive \r\n"),
        ("c.tsv", 'rank\tid\trow\ttext\tlabel\n1\trow-0\t0\t"two\nlines"\tpositive\n'),
        (
            "c.jsonl",
            '{"id": "row-0", "row": 0, "label": "positive"}\n{"id": "row-1", "label": ""}\n',
        ),
        ("c.csv", "id,row,label\n'row-0,0,'positive\nrow-1,,NaN\n"),
    ],
)
def test_tables_as_spreadsheets_write_them(name, content, six, tmp_path):
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    labels, found = corrected(six, tmp_path / name)
    assert labels == ["positive", *["neutral", "positive", "", "positive", "negative"]]
    assert found.rows == 1


def test_labels_that_look_missing_or_like_formulas_and_numbers(tmp_path):
    names = ["-1", "1", "NA"]
    odd = store(tmp_path / "odd.h5", [0, 1, 2], labels=names, ids=["-7", "'=x", "3"])
    lines = [("'-7", 0, "1.0"), ("'=x", 1, "NA"), ("3.0", 2, "'-1")]
    labels, _ = corrected(odd, table(tmp_path / "c.csv", lines))
    assert labels == ["1", "NA", "-1"]


def test_hostile_texts_are_quoted(six, tmp_path):
    said = refusal(six, table(tmp_path / "c.csv", [("row-0", 0, "\x1b[2J\u202e<script>")]))
    assert said.isprintable()
    assert "\\u001b[2J" in said


def test_stores_of_two_encoders_count_rows_in_the_first(tmp_path):
    ids = ["a", "b", "c", "d"]
    first = store(tmp_path / "1.h5", [0, 1, 2, 0], ids=ids)
    second = store(
        tmp_path / "2.h5",
        [1, 2, 0],
        ids=ids[1:],
        texts=["text 1", "text 2", "text 3"],
        spec=OTHER_SPEC,
    )
    file = table(tmp_path / "c.csv", [("c", 2, "negative"), ("a", 0, "neutral")])
    labels, found = corrected([first, second], file)
    assert labels == ["neutral", "negative", "negative"]
    assert found.unknown == ("a",)  # which only one of the encoders has seen


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_corrections_give_the_labels_that_they_say(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    n = data.draw(st.integers(1, 12))
    codes = data.draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n))
    ids = data.draw(st.lists(st.sampled_from(["a", "b", "c", "-d", "é"]), min_size=n, max_size=n))
    path = store(folder / "s.h5", codes, ids=ids)
    new = data.draw(st.dictionaries(st.integers(0, n - 1), st.sampled_from(LABELS), min_size=1))
    order = data.draw(st.permutations(list(new)))
    labels, found = corrected(path, table(folder / "c.csv", [(ids[r], r, new[r]) for r in order]))
    before = [LABELS[code] if code >= 0 else "" for code in codes]
    assert labels == [new.get(row, before[row]) for row in range(n)]
    moved = [row for row in new if before[row] != new[row]]
    assert found.rows == len(moved)
    assert found.labelled == sum(before[row] == "" for row in moved)
    assert found.same == len(new) - len(moved)
