"""How cores and GPUs are divided among workers."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.engines.cores import divided, gpus, nodes, thread_settings

by_node = st.lists(st.integers(1, 9), min_size=1, max_size=5).map(
    lambda sizes: [[100 * node + core for core in range(n)] for node, n in enumerate(sizes)]
)


@given(by_node, st.integers(1, 40))
def test_all_workers_get_equally_many_cores(by_node, workers):
    shares = divided(by_node, workers)
    assert len(shares) == workers
    assert len({len(share) for share in shares}) == 1
    assert all(len(set(share)) == len(share) >= 1 for share in shares)
    if workers >= len(by_node):  # nobody has cores of two nodes
        assert all(len({core // 100 for core in share}) == 1 for share in shares)
    per_node = -(-workers // len(by_node))
    if per_node <= min(map(len, by_node)):  # nobody shares a core
        assert len({core for share in shares for core in share}) == sum(map(len, shares))


def test_cores_by_node_and_physical_core(tmp_path, monkeypatch):
    """Two nodes of two cores with two threads each, of which this process may not use one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 6, 7}, raising=False)
    for node, cores in enumerate(["0-1,4-5", "2-3,6-7"]):
        (tmp_path / f"node/node{node}").mkdir(parents=True)
        (tmp_path / f"node/node{node}/cpulist").write_text(f"{cores}\n")
    for core in range(8):
        (tmp_path / f"cpu/cpu{core}/topology").mkdir(parents=True)
        siblings = tmp_path / f"cpu/cpu{core}/topology/thread_siblings_list"
        siblings.write_text(f"{core % 4},{core % 4 + 4}\n")
    assert nodes(tmp_path) == [[0, 4, 1], [2, 6, 3, 7]]
    assert nodes(tmp_path / "nothing") == [[0, 1, 2, 3, 4, 6, 7]]


@pytest.mark.parametrize(
    ("setting", "found"),
    [("2, 3", ["2", "3"]), ("GPU-8932f937", ["GPU-8932f937"]), ("", [])],
)
def test_gpus_are_those_that_may_be_seen(monkeypatch, setting, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert gpus() == found


def test_threads_are_what_the_user_says(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    settings = thread_settings(3)
    assert (settings["OMP_NUM_THREADS"], settings["MKL_NUM_THREADS"]) == ("7", "3")
