"""Stage one loses nothing, whatever it dies of: killed, failed or without power at every point."""

import errno
import random
import re
import signal
from collections import Counter
from pathlib import Path

import pytest
from crash_runner import lane_of
from crashes import SCENARIOS, Harness, disk_after, finals, journal_name, kept_in, rejects_name
from power import states

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="files are traced through /proc"
)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
SEED = random.SystemRandom().randrange(10**9)

every = pytest.mark.parametrize("name", SCENARIOS)


def sampled(count):
    """Every point in the slow run; in the ordinary one so many of each scenario."""
    every_one = pytest.param(None, id="all", marks=pytest.mark.slow)
    return pytest.mark.parametrize("count", [pytest.param(count, id="some"), every_one])


@pytest.fixture(scope="module")
def harness(tmp_path_factory, tiny_model):
    with Harness(tmp_path_factory.mktemp("crash"), tiny_model("bert")) as harness:
        yield harness


def points(trace, moments):
    """Give each operation with each of its moments: position, lane and number, and the moment."""
    counts, found = Counter(), []
    for position, operation in enumerate(trace):
        lane = lane_of(*operation)
        found += [
            (position, [lane, counts[lane]], moment)
            for moment in moments
            if (moment == "half") <= (operation[0] == "write")
        ]
        counts[lane] += 1
    return found


def some_of(items, count, name):
    """Sample points spread over all; each scenario begins at another of the last, at renames."""
    if count is None:
        return items
    return items[::-1][list(SCENARIOS).index(name) :: len(items) // count]


def test_the_runner_forks_from_a_single_thread(harness):
    assert harness.threads == 1


@every
def test_the_trace_is_what_happened(harness, name):
    reference = harness.reference(name)
    traced = disk_after(reference, len(reference.trace)).running()
    assert finals(name, traced) == finals(name, reference.after)
    assert journal_name(name) not in traced


@pytest.mark.parametrize("name", [name for name in SCENARIOS if "shards" not in name])
def test_the_journal_goes_last(harness, name):
    """The journal only grows until the file has its name; with shards, it starts again."""
    reference, most = harness.reference(name), 0
    for n in range(len(reference.trace) + 1):
        left = disk_after(reference, n).running()
        if reference.n_new(left) == 0:
            kept = kept_in(left.get(journal_name(name), b""))
            assert kept >= most, reference.trace[n - 1][:2]
            most = kept
    assert most > 0


@sampled(2)
@every
def test_killed_at_each_operation(harness, name, count):
    reference = harness.reference(name)
    moments = ("before", "half", "after")
    for position, at, moment in some_of(points(reference.trace, moments), count, name):
        harness.put(reference.before)
        answer = harness.run(SCENARIOS[name], plan={"at": at, "moment": moment})
        assert answer["ended"] == -9, answer
        left = disk_after(reference, position + (moment == "after")).running()
        kept = kept_in(left.get(journal_name(name), b"")) if at[0] == "rest" else None
        try:
            harness.check_seen(name)
            harness.check_continues(name, kept=kept)
        except AssertionError as error:
            raise AssertionError(
                f"killed {moment} {at}: {reference.trace[position][:2]}"
            ) from error


@sampled(2)
def test_killed_twice(harness, count):
    reference = harness.reference("new")
    rng = random.Random(3)
    every_one = [at for _, at, _ in points(reference.trace, ("before",))]
    for first in some_of(every_one, count, "new"):
        harness.put(reference.before)
        for at in (first, rng.choice(every_one)):
            harness.run(SCENARIOS["new"], plan={"at": at, "moment": "before"})
            harness.check_seen("new")
        harness.check_continues("new")


# ------------------------------------------------------------------------------------ errors


@sampled(2)
@every
def test_an_error_at_each_operation(harness, name, count):
    reference = harness.reference(name)
    cases = [
        (*point, error, lasting)
        for point in points(reference.trace, ("before", "half"))
        for error in ERRORS
        # A disk that is full stays so.
        for lasting in ((False, True) if error == errno.ENOSPC else (False,))
    ]
    for position, at, moment, error, lasting in some_of(cases, count, name):
        harness.put(reference.before)
        plan = {"at": at, "moment": moment, "error": error, "lasting": lasting}
        answer = harness.run(SCENARIOS[name], plan=plan)
        try:
            check_refused_or_done(harness, name, answer)
        except AssertionError as failure:
            raise AssertionError(f"{plan}: {reference.trace[position][:2]}, {answer}") from failure


@sampled(2)
@every
def test_a_limit_on_the_size_of_files(harness, name, count):
    """Scratch files meet it too."""
    reference = harness.reference(name)
    sizes = range(0, max(map(len, reference.after.values())) + 400, 200)
    for limit in some_of(sizes, count, name):
        harness.put(reference.before)
        answer = harness.run(SCENARIOS[name], limit=limit)
        try:
            check_refused_or_done(harness, name, answer)
        except AssertionError as failure:
            raise AssertionError(f"limit {limit}: {answer}") from failure


def check_refused_or_done(harness, name, answer):
    """One line and an untouched file, or all as it should be; then the same command continues."""
    assert answer["ended"] == 0
    if "error" not in answer:  # the error was at something that had no need to succeed
        harness.check_finished(name)
        return
    assert (answer["error"], answer["code"]) == ("CannotContinue", 4)
    check_said(harness, name, answer["message"], r"cannot be written: .*; .* is untouched")
    harness.check_continues(name)


def check_said(harness, name, message, unchanged):
    """What one line says of the output is true."""
    reference = harness.reference(name)
    assert "\n" not in message
    if "has its new content already" in message:
        assert reference.n_new(harness.files()) == len(reference.outputs)
        assert message.endswith("; run the same command to finish it")
    elif len(reference.outputs) == 1:  # of a folder it says nothing of the sort
        assert re.search(unchanged, message)
        assert finals(name, harness.files()) == finals(name, reference.before)


@sampled(2)
@every
def test_interrupted_at_each_operation(harness, name, count):
    reference = harness.reference(name)
    for position, at, moment in some_of(points(reference.trace, ("before", "after")), count, name):
        harness.put(reference.before)
        plan = {"at": at, "moment": moment, "signal": signal.SIGINT}
        answer = harness.run(SCENARIOS[name], plan=plan)
        try:
            assert answer["ended"] == 0
            if "interrupted" in answer:
                unchanged = r"^interrupted; (no output was changed|run .* vectors are kept)$"
                check_said(harness, name, answer["interrupted"], unchanged)
                harness.check_continues(name)
            else:
                harness.check_finished(name)
        except AssertionError as failure:
            raise AssertionError(f"{plan}: {reference.trace[position][:2]}, {answer}") from failure


# ------------------------------------------------------------------------------------ at any time


@pytest.mark.parametrize(
    "kills", [pytest.param(7, id="some"), pytest.param(1000, id="all", marks=pytest.mark.slow)]
)
def test_killed_at_random(harness, kills):
    rng = random.Random(SEED)
    for kill in range(kills):
        name = list(SCENARIOS)[kill % len(SCENARIOS)]
        reference = harness.reference(name)
        harness.put(reference.before)
        harness.run(SCENARIOS[name], delay=rng.random() * reference.seconds)
        try:
            harness.check_seen(name)
            harness.check_continues(name)
        except AssertionError as error:
            raise AssertionError(f"seed {SEED}, kill {kill}, {name}") from error


# ------------------------------------------------------------------------------------ no power


@every
def test_power_loss_breaks_no_file_and_loses_nothing_that_was_synced(harness, name):
    reference = harness.reference(name)
    journal, old = journal_name(name), finals(name, reference.before)
    for label, synced, state in states(reference.before, reference.trace, 600, SEED):
        for path, content in finals(name, state).items():
            assert content in (old.get(path), reference.after.get(path)), f"{label}: {path}"
        if reference.n_new(state) == len(reference.outputs):  # then the rejects are there as well
            rejects = rejects_name(name)
            assert state.get(rejects) == reference.after[rejects], label
        if reference.n_new(state) == 0:  # else they may be in a shard
            kept, least = (kept_in(files.get(journal, b"")) for files in (state, synced))
            assert kept >= least, label


@pytest.mark.parametrize(
    "n", [pytest.param(4, id="some"), pytest.param(200, id="all", marks=pytest.mark.slow)]
)
@every
def test_after_power_loss_it_continues(harness, name, n):
    reference = harness.reference(name)
    found = states(reference.before, reference.trace, n, SEED)
    assert len(found) == n
    for label, _, state in found:
        harness.put(state)
        try:
            harness.check_continues(name)
        except AssertionError as error:
            raise AssertionError(f"{label}: {sorted(state)}") from error


@pytest.mark.parametrize("left_out", ["sync", "sync_folder"])
def test_a_writer_that_does_not_sync_would_be_found(harness, left_out):
    """The states are hard enough: without syncs, some are broken for good."""
    reference = harness.reference("extended")
    output = SCENARIOS["extended"].output
    renamed = [kind for kind, *_ in reference.trace].index("rename")
    trace = [
        operation
        for position, operation in enumerate(reference.trace)
        if operation[0] != left_out or position < renamed - 1
    ]
    complete = (reference.before[output], reference.after[output])
    found = states(reference.before, trace, 400, seed=1)
    if left_out == "sync":
        assert any(state[output] not in complete for *_, state in found)
    else:  # the journal is gone and the file is not there
        lost = [
            s for *_, s in found if s[output] == complete[0] and journal_name("extended") not in s
        ]
        assert any(len(s) == len(reference.before) for s in lost)


# ------------------------------------------------------------------------------------ readers


@pytest.mark.parametrize(
    "opens, every",
    [
        pytest.param(25, 2, id="some"),
        pytest.param(10_000, 50, id="all", marks=pytest.mark.slow),
    ],
)
def test_readers_beside_a_writer(harness, opens, every):
    reference = harness.reference("new")
    harness.put(reference.before)
    answer = harness.read_beside(opens=opens, every=every)
    assert "writer" not in answer, answer
    assert len(answer["readers"]) == 4
    for reader in answer["readers"]:
        assert reader["ended"] == 0 and "mixed" not in reader, answer
        assert reader["opens"] >= opens
