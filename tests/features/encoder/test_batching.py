from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.encoder.batching import token_batches

checked = settings(max_examples=300, deadline=None, derandomize=True)
lengths_of_texts = st.lists(st.integers(1, 512), max_size=120)
budgets = st.integers(1, 4096)


def cost(batch, lengths):
    return len(batch) * max(lengths[i] for i in batch)


@checked
@given(lengths_of_texts, budgets)
def test_batches_hold_each_text_once(lengths, budget):
    batches = token_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) for batch in batches)


@checked
@given(lengths_of_texts, budgets)
def test_batches_keep_the_budget_unless_single(lengths, budget):
    for batch in token_batches(lengths, budget):
        assert len(batch) == 1 or cost(batch, lengths) <= budget


@checked
@given(lengths_of_texts, budgets)
def test_batches_run_from_short_to_long(lengths, budget):
    order = [i for batch in token_batches(lengths, budget) for i in batch]
    # Texts of the same length stay in the order of the input.
    assert order == sorted(range(len(lengths)), key=lambda i: lengths[i])


@checked
@given(lengths_of_texts, budgets)
def test_batches_are_full(lengths, budget):
    batches = token_batches(lengths, budget)
    for batch, following in pairwise(batches):
        assert cost([*batch, following[0]], lengths) > budget


@checked
@given(lengths_of_texts, budgets)
def test_the_same_lengths_make_the_same_batches(lengths, budget):
    before = list(lengths)
    first, second = (token_batches(lengths, budget) for _ in range(2))
    assert lengths == before
    assert [b.tolist() for b in first] == [b.tolist() for b in second]
    as_array = token_batches(np.array(lengths, dtype=np.int64), budget)
    assert [b.tolist() for b in first] == [b.tolist() for b in as_array]


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [
        ([], 10, []),
        ([3], 1, [[0]]),
        ([9, 2, 3, 2, 8], 9, [[1, 3, 2], [4], [0]]),
        ([4, 4, 4, 4], 8, [[0, 1], [2, 3]]),
        ([4, 4, 4, 4], 7, [[0], [1], [2], [3]]),
        ([1, 100], 100, [[0], [1]]),
        ([1, 50], 100, [[0, 1]]),
    ],
)
def test_batches_by_hand(lengths, budget, expected):
    assert [batch.tolist() for batch in token_batches(lengths, budget)] == expected
