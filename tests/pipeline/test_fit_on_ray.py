"""Heads by actors of Ray: the bytes of one process, and an object store that is left empty."""

import os
import signal

import pytest
from ray_drivers import Driver
from stores import blobs, write_store

from pipeline.fit import fit
from pipeline.head.head import save_head
from pipeline.solver.blocks import BLOCK_ROWS

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

FIT = """
from pipeline.fit import fit
from pipeline.head.head import save_head
import pipeline.solver.sums

pipeline.solver.sums.GROUP_BLOCKS = 1
passes = []

def told(done, of):
    passes.append(done)
    if len(passes) in (2, 6):
        say(passes=len(passes))
        input()

engine = RayEngine(workers={workers}, gpus_per_worker=0)
with engine.session():
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    head = fit({store!r}, engine=engine, progress=told).head
    here = ray.get_runtime_context().gcs_address
    stored = get_memory_info_reply(get_state_from_address(here)).store_stats
    say(created=stored.cumulative_created_bytes)
save_head(head, {head!r})
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    X, y = blobs(3 * BLOCK_ROWS + 500, 6, 3)
    y[::9] = -1
    return write_store(tmp_path_factory.mktemp("ray") / "store.h5", X, y, store_dtype="float16")


@pytest.fixture
def expected(store, monkeypatch, tmp_path):
    """The head of one process, which adds up in groups of a block as well."""
    monkeypatch.setattr("pipeline.solver.sums.GROUP_BLOCKS", 1)
    save_head(fit(store).head, tmp_path / "plain.joblib")
    return (tmp_path / "plain.joblib").read_bytes()


def actors(driver):
    """The processes of the actors."""
    return [one for one in driver.family() if one.name().startswith("ray::Actor")]


@pytest.mark.parametrize("kills", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_heads_by_actors_are_those_of_one_process(workers, kills, store, expected, tmp_path):
    head = tmp_path / "head.joblib"
    code = FIT.format(workers=workers, store=str(store), head=str(head))
    with Driver(code, OMP_NUM_THREADS="1") as driver:
        killed = []
        for passes in (2, 6):
            assert driver.hear() == {"passes": passes}
            if kills:
                one = next(one for one in actors(driver) if one.pid not in killed)
                os.kill(one.pid, signal.SIGKILL)
                killed.append(one.pid)
            driver.process.stdin.write("\n")
            driver.process.stdin.flush()
        stored = driver.hear()
        code, _, errors = driver.end()
    assert code == 0, errors
    assert head.read_bytes() == expected
    assert stored["created"] < 10_000  # nothing of the fit goes through the object store
    assert len(killed) == (2 if kills else 0)
