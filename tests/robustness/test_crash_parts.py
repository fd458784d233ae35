"""Jobs that make parts of one store end in the same bytes, whenever and however often they die."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from crashes import Harness, write_tweets
from test_crash import SEED

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="files are traced through /proc"
)


@dataclass(frozen=True)
class Whole:
    """What one job makes that nobody disturbs: its files, the operations and seconds it takes."""

    inputs: list[Path]
    files: dict[str, bytes]
    operations: int
    duplicates: str

    def run(self, harness, parts, delays=None, plan=None):
        """Let jobs make parts of it at once, see `Harness.jobs`."""
        delays = delays or [None] * len(parts)
        return harness.jobs(self.inputs, parts, delays, plan, self.duplicates)


@pytest.fixture(scope="module")
def harness(tmp_path_factory, tiny_model):
    with Harness(tmp_path_factory.mktemp("parts"), tiny_model("bert")) as harness:
        yield harness


def undisturbed(harness, n_files, duplicates):
    """Files of some tweets each, one of which is rejected in the second and all in the last."""
    folder = harness.case.parent / f"inputs-{n_files}-{duplicates}"
    folder.mkdir()
    inputs = [write_tweets(folder / f"{n:02}.csv", 18 if n == 1 else 10) for n in range(n_files)]
    inputs[-1].write_text("id,text,label\n" + "x,too,many,cells\n" * 9)
    harness.put({})
    (answer,) = harness.jobs(inputs, ["1/1"], [None], duplicates=duplicates)
    assert answer["ended"] == 0 and answer["rejected"] == 10, answer
    return Whole(inputs, harness.files(), answer["operations"], duplicates)


@pytest.fixture(scope="module", params=["piece", "all"])
def small(harness, request):
    return undisturbed(harness, 4, request.param)


@pytest.fixture(scope="module", params=["piece", "all"])
def larger(harness, request):
    return undisturbed(harness, 25, request.param)


def check_same(harness, whole):
    found = harness.files()
    assert sorted(found) == sorted(whole.files)
    assert [name for name in found if found[name] != whole.files[name]] == []
    folders = {path.name for path in (harness.case / "store").iterdir() if path.is_dir()}
    assert not {name for name in folders if name.startswith(".")}, "scratch is left"


def finish(harness, whole, parts):
    """Run the same commands once more, and nothing happens to them."""
    answers = whole.run(harness, parts)
    assert [answer["ended"] for answer in answers] == [0] * len(parts), answers
    assert all("error" not in answer for answer in answers), answers
    check_same(harness, whole)


@pytest.mark.parametrize(
    "count", [pytest.param(4, id="some"), pytest.param(100, id="many", marks=pytest.mark.slow)]
)
def test_killed_at_each_operation(harness, small, count):
    rng = random.Random(SEED)
    points = [(n, moment) for n in range(small.operations) for moment in ("before", "after")]
    # One of the last of a job, which join the store: few of all, and the same in each run.
    chosen = [*rng.sample(points, min(count, len(points))), rng.choice(points[-24:])]
    for at, moment in chosen:
        harness.put({})
        plan = {"at": ["rest", at], "moment": moment}
        (answer,) = small.run(harness, ["1/1"], plan=plan)
        assert answer["ended"] in (-9, 0), answer  # writes of rejects are counted elsewhere
        try:
            finish(harness, small, ["1/1"])
        except AssertionError as error:
            raise AssertionError(f"killed {moment} operation {at}") from error


def killed_until_done(harness, whole, n_jobs, rounds, seed):
    """Start all jobs again and again, and kill each at some time, until none has anything to do."""
    rng, parts = random.Random(seed), [f"{n}/{n_jobs}" for n in range(1, n_jobs + 1)]
    harness.put({})
    killed = 0
    for _ in range(rounds):
        rng.shuffle(parts)
        delays = [rng.random() ** 2 * 1.5 for _ in parts]
        killed += sum(one["ended"] == -9 for one in whole.run(harness, parts, delays))
    assert killed, "nothing was tried"
    finish(harness, whole, parts)


@pytest.mark.parametrize(
    "rounds", [pytest.param(3, id="some"), pytest.param(60, id="all", marks=pytest.mark.slow)]
)
def test_three_jobs_killed_at_random(harness, small, rounds):
    killed_until_done(harness, small, 3, rounds, SEED)


@pytest.mark.slow
def test_ten_jobs_killed_at_random(harness, larger):
    for turn in range(2):
        killed_until_done(harness, larger, 10, 12, SEED + turn)


def test_a_part_that_two_processes_make_at_once(harness, small):
    """A scheduler that takes a job for dead starts it again beside itself."""
    harness.put({})
    answers = small.run(harness, ["1/2", "2/2", "1/2", "2/2"])
    assert [answer["ended"] for answer in answers] == [0] * 4, answers
    assert all("error" not in answer for answer in answers), answers
    check_same(harness, small)
    shutil.rmtree(harness.case)
