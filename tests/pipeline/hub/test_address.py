"""Names of repositories: what is one, and what leads elsewhere."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import InputError
from pipeline.hub.address import Address, parse_address

GOOD = {
    "hf:jane/tweets": ("jane/tweets", None),
    "hf:jane/tweets@v1.0": ("jane/tweets", "v1.0"),
    "hf:jane/tweets@refs/pr/1": ("jane/tweets", "refs/pr/1"),
    "hf:jane/tweets@" + "a" * 40: ("jane/tweets", "a" * 40),
    "hf:tweets": ("tweets", None),
    "hf:Jane-1/My.Head_2": ("Jane-1/My.Head_2", None),
}
BAD = [
    "hf:",
    "hf:@v1",
    "hf:/etc/passwd",
    "hf:../x",
    "hf:jane/../x",
    "hf:jane/tweets@",
    "hf:jane/tweets@../../x",
    "hf:jane/tweets@/x",
    "hf:jane/tweets@-x",
    "hf:jane/tweets@a b",
    "hf:jane/tweets@v1@v2",
    "hf:jane/a--b",
    "hf:jane/tweets/x",
    "hf: jane/tweets",
    "hf:jane/twe\nets",
    "hf:jane/twéets",
    "hf:jane/tweets?x=1",
    "hf:jane/" + "x" * 97,
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_an_address(text):
    found = parse_address(text)
    assert (found.repo_id, found.revision) == GOOD[text]
    assert str(found) == text
    assert parse_address(Path(text)) == found


@pytest.mark.parametrize("text", BAD)
def test_what_leads_elsewhere_is_refused(text):
    with pytest.raises(InputError, match=r"no name of a repository|give a branch") as error:
        parse_address(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["head.joblib", "jane/tweets", "./hf:x", "HF:jane/tweets", ""])
def test_what_is_no_address(text):
    assert parse_address(text) is None


@given(st.text(max_size=40), st.none() | st.text(max_size=40))
def test_any_text_is_refused_or_stays_where_it_is(repo_id, revision):
    """No part of an address can go up in a path of the hub or of its cache."""
    try:
        found = Address(repo_id, revision)
    except InputError:
        return
    for part in [*found.repo_id.split("/"), *(found.revision or "x").split("/")]:
        assert part not in (".", "..")
    assert str(found).isprintable()
    assert str(found).isascii()
    assert parse_address(str(found)) == found
