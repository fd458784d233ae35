import threading
from contextlib import closing
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.base.read_ahead import live_windows, read_ahead

checked = settings(max_examples=300, deadline=None, derandomize=True)
lengths_of_texts = st.lists(st.integers(1, 512), max_size=120)
budgets = st.integers(1, 4096)


def test_read_ahead_gives_all_in_order():
    with closing(read_ahead(iter(range(50)), 2, finite=True)) as items:
        assert list(items) == list(range(50))


def test_read_ahead_raises_the_error_in_its_place():
    def broken():
        yield from (1, 2)
        raise OSError("the disk is gone")

    with closing(read_ahead(broken(), 2, finite=True)) as items:
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(OSError, match="the disk is gone"):
            next(items)


def test_read_ahead_ends_its_thread_when_it_is_left_early():
    before = threading.active_count()
    with closing(read_ahead(iter(range(10**9)), 2, finite=True)) as items:
        assert next(items) == 0
    assert threading.active_count() == before


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
