"""Streams: several calls at a time, each on one core, whatever other threads do meanwhile."""

import threading

import pytest
import torch

from features.backends.streams import one_core, streams


@pytest.mark.parametrize("n", [2, 3])
def test_each_stream_keeps_to_one_core_when_another_thread_sets_more(n: int) -> None:
    before = torch.get_num_threads()
    begun, changed = threading.Barrier(n + 1), threading.Event()

    def threads_of_a_product(_: int) -> int:
        begun.wait(60)
        assert changed.wait(60)
        torch.ones(8, 8) @ torch.ones(8, 8)
        return torch.get_num_threads()

    def change() -> None:
        begun.wait(60)
        torch.set_num_threads(4)  # as the end of another use of streams does
        changed.set()

    other = threading.Thread(target=change)
    other.start()
    with streams(n) as run_all:
        found = list(run_all(threads_of_a_product, range(n)))
    other.join()
    torch.set_num_threads(before)
    assert found == [1] * n


def test_one_stream_is_a_plain_map_in_order() -> None:
    with streams(1) as run_all:
        assert list(run_all(lambda n: n * n, [3, 1, 2])) == [9, 1, 4]


def test_one_stream_keeps_to_one_core_where_that_is_asked_for() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with streams(1, one_core=True) as run_all:
            assert list(run_all(lambda _: torch.get_num_threads(), [1])) == [1]
        with one_core():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
