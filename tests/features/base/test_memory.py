"""Sizes of memory as users write them, and how much of it there is."""

import pytest

from features.base.machine import bytes_of, default_memory, parse_memory
from features.errors import InputError


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), (17, 17), ("512MiB", 2**29), ("1.5 GB", 3 * 2**29), ("2k", 2048), ("1t", 2**40)],
)
def test_sizes(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1X", "1 2", "MiB", "nan", -5])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="not a size"):
        parse_memory(text)


def test_default_memory_is_less_than_there_is():
    assert 2**20 < default_memory() < 2**50


def test_what_is_asked_for_counts_or_else_a_share_of_what_is_free():
    assert bytes_of("2k") == 2048
    assert 2**20 < bytes_of(None) < 2**50
    with pytest.raises(InputError, match=r"'much' is not a size; give bytes, or e\.g\. 512MiB"):
        bytes_of("much")
