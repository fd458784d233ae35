"""Tables and facts on a terminal: they fit, and nothing of what fits a cell is lost."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pipeline.report.layout import (
    Look,
    facts_text,
    fitted,
    seen_on,
    table,
    table_with_texts,
    wrapped_text,
)

CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Mn"]), max_size=60)
ROWS = st.integers(1, 12).flatmap(
    lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=5)
)
COLUMNS = st.integers(40, 140)


def without_styles(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@given(ROWS, COLUMNS, st.booleans())
def test_tables_fit(rows, columns, colours):
    with seen_on(Look(columns, colours)):
        drawn = without_styles(table(rows))
    assert "\x1b" not in drawn
    assert max(map(cell_len, drawn.split("\n"))) <= columns


@given(st.integers(2, 30), st.integers(1, 5), COLUMNS)
def test_a_table_that_is_cut_has_every_cell_in_its_row(across, down, columns):
    rows = [[f"r{m}"] + [f"{m}.{n:04d}" for n in range(across)] for m in range(down)]
    with seen_on(Look(columns, False)):
        parts = table(rows).split("\n\n")
    for m, row in enumerate(rows):
        lines = [part.split("\n")[m].split() for part in parts]
        assert all(line[0] == row[0] for line in lines)
        assert [cell for line in lines for cell in line[1:]] == row[1:]


@given(st.dictionaries(st.text("abc ", min_size=1, max_size=20), st.text("xy z", max_size=300)))
def test_facts_and_prose_lose_no_word(facts):
    facts = {name.strip() or "a": f"v{value}" for name, value in facts.items()} or {"a": "b"}
    for lay_out in (facts_text, wrapped_text):
        plain = lay_out(facts)
        with seen_on(Look(80, True)):
            assert without_styles(fitted(lay_out(facts))).split() == plain.split()


def test_lines_go_on_below_their_beginning_and_long_words_stay():
    path = "/" + "p" * 90
    with seen_on(Look(40, False)):
        assert fitted("  one two three four five six seven eight nine") == (
            "  one two three four five six seven\n  eight nine"
        )
        assert fitted(f"measured on {path} (3 rows)") == f"measured on {path}\n(3 rows)"
        assert facts_text({"file": path}) == f"  file  {path}"
        assert facts_text({f"read {path}": "as CSV"}) == f"  read {path}\n    as CSV"


def test_columns_of_wide_characters_stand_below_each_other():
    with seen_on(Look(80, False)):
        lines = table([["class", "rows"], ["中文类别", "3"], ["neutral", "12"]]).split("\n")
    assert len({cell_len(line) for line in lines}) == 1


def test_texts_behind_a_table_take_what_is_left():
    rows = [["label", "p"], ["neutral", "0.9"]]
    texts = ["tweet", "word " * 40]
    with seen_on(Look(60, False)):
        lines = table_with_texts(rows, texts).split("\n")
    assert cell_len(lines[1]) <= 60 and lines[1].endswith("…")
    assert table_with_texts(rows, texts).split("\n")[1].endswith("word word")


@pytest.mark.parametrize(("text", "warns"), [("! look", True), ("WARNING: x", True), ("no", False)])
def test_warnings_have_a_colour_where_there_are_some(text, warns):
    with seen_on(Look(80, True)):
        assert (fitted(text) != text) == warns
        assert without_styles(fitted(text)) == text
    with seen_on(Look(80, False)):
        assert fitted(text) == text


def test_a_pipe_gets_lines_as_they_are():
    rows = [["n", *(f"column {n}" for n in range(40))]]
    assert "\n" not in table(rows)
    assert fitted("word " * 100) == "word " * 100
