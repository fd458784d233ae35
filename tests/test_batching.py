import threading
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.batching import live_windows, token_batches

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


def many_live(items, size):
    return list(live_windows(items, size, patience=60))


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [
        (0, 3, []),
        (1, 3, [[0]]),
        (3, 3, [[0, 1, 2]]),
        (7, 3, [[0, 1, 2], [3, 4, 5], [6]]),
        (2, 1, [[0], [1]]),
    ],
)
def test_live_windows(n, size, expected):
    assert many_live(iter(range(n)), size) == expected


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1, 2, 3, 4], [[1, 2, 3, 4]]),
        ([5, 6, 7], [[5, 6], [7]]),
        ([10, 99, 1, 1, 1], [[10], [99], [1, 1, 1]]),
        ([1, 1, 1, 1, 1, 1], [[1, 1, 1, 1], [1, 1]]),
    ],
)
def test_live_windows_are_bounded_by_weight(weights, expected):
    def weight(item):
        return item

    assert list(live_windows(weights, 4, 60, weight, 10)) == expected


def test_live_windows_read_ahead_by_a_bounded_weight():
    taken = []
    reached = threading.Event()

    def source():
        for number in count():
            taken.append(number)
            if number == 4:
                reached.set()
            yield number

    cut = live_windows(source(), 1000, 60, lambda item: 5, 10)
    assert next(cut) == [0, 1]
    assert reached.wait(60), "it does not read ahead"
    # Two items out, two in the queue, and one in the thread's hand.
    assert max(taken) == 4
    assert next(cut) == [2, 3]


def test_live_windows_keep_falsy_items():
    assert many_live([None, 0, "", False], 3) == [[None, 0, ""], [False]]


@checked
@given(st.lists(st.integers(), max_size=50), st.integers(1, 9))
def test_live_windows_keep_the_order(items, size):
    cut = many_live(items, size)
    assert [item for window in cut for item in window] == items
    assert all(len(window) == size for window in cut[:-1])


def test_live_windows_do_not_wait_for_a_source_that_pauses():
    go_on = threading.Event()

    def source():
        yield from "ab"
        # Only the consumer, once it has the first window, lets this go on.
        assert go_on.wait(60), "nothing came out while the source paused"
        yield from "cd"

    cut = live_windows(source(), size=100, patience=0.2)
    early = next(cut)
    while early != list("ab"):  # a slow machine may hand them out one by one
        early += next(cut)
    go_on.set()
    assert [item for window in cut for item in window] == list("cd")


@pytest.mark.parametrize("error", [ValueError("line 3"), OSError("gone"), KeyboardInterrupt()])
@pytest.mark.parametrize("n", [0, 3, 4, 5])
def test_live_windows_pass_an_error_on_behind_what_came_before_it(error, n):
    def source():
        yield from range(n)
        raise error

    seen = []
    with pytest.raises(type(error)) as caught:
        for window in live_windows(source(), size=4, patience=60):
            seen += window
    assert caught.value is error
    assert seen == list(range(n))


@pytest.mark.parametrize("size", [1, 5])
def test_live_windows_read_ahead_by_a_bounded_number(size):
    taken = []
    reached = threading.Event()

    def source():
        for number in count():
            taken.append(number)
            if number == 2 * size:
                reached.set()
            yield number

    cut = live_windows(source(), size=size, patience=60)
    assert next(cut) == list(range(size))
    assert reached.wait(60), "it does not read ahead"
    # One window out, one in the queue, and one item in the thread's hand.
    assert max(taken) <= 2 * size
