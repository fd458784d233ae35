"""Numbers as people write them, and what is no number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import InputError
from pipeline.plan.quantities import (
    MOST_ROWS,
    Stragglers,
    at_least_zero,
    positive,
    rows_of,
    stragglers_of,
)

ROWS = {
    "1": 1,
    "10e9": 10**10,
    "1e+3": 1000,
    "10_000_000_000": 10**10,
    "10,000,000,000": 10**10,
    "10B": 10**10,
    "10b": 10**10,
    "2.5M": 2_500_000,
    "250k": 250_000,
    " 7 ": 7,
    "1e15": MOST_ROWS,
    "1T": 10**12,
    ".5M": 500_000,
}
NO_ROWS = [
    *(
        "",
        " ",
        "0",
        "-5",
        "1.5",
        "nan",
        "inf",
        "1e16",
        "1e999",
        "ten",
        "10 billion",
        "1,00",
        "0x10",
    ),
    *("1__0", "_1", "1e", "e9", "k", ".", "1 000", "10BB", "1.2.3", "١٢", "0.0001k", "1e-3"),
]


@pytest.mark.parametrize("text", ROWS)
def test_rows_are_read(text):
    assert rows_of(text) == ROWS[text]


@pytest.mark.parametrize("text", NO_ROWS)
def test_what_is_no_number_of_rows_is_refused(text):
    with pytest.raises(InputError, match=r"give a whole number from 1 to 1e15, e\.g\. 2500000"):
        rows_of(text)


@given(st.integers(1, MOST_ROWS))
def test_every_number_is_read_as_python_writes_it(n):
    assert rows_of(n) == rows_of(f"{n:,}") == rows_of(f"{n:_}") == n


@pytest.mark.parametrize("text", ["0", "nan", "-1", "free", "inf", "1e999"])
def test_a_rate_is_above_zero(text):
    with pytest.raises(
        InputError,
        match=r"`rate` is .*; give a number above 0, e\.g\. 2\.50 .from 1e-06 to 1e\+15.",
    ):
        positive(text, "rate", "2.50")


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_what_may_be_zero_is_not_less(value):
    with pytest.raises(InputError, match=r"`back` is .*; give a number from 0 to 1e\+15"):
        at_least_zero(value, "back")


def test_stragglers_are_a_share_and_a_factor():
    assert stragglers_of("0:1") == Stragglers(0.0, 1.0)
    assert stragglers_of("2 % : 4") == stragglers_of("0.02:4") == Stragglers(0.02, 4.0)


@pytest.mark.parametrize("text", ["", "0.01", "0.01:0.5", "2:3", "101%:3", "x:3", "0.1:y", "1:2:3"])
def test_other_stragglers_are_refused(text):
    with pytest.raises(InputError, match=r"`stragglers` is .*e.g. 0.01:3 or 2%:4"):
        stragglers_of(text)
