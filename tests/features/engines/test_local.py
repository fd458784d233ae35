"""Worker processes: where they run, and that none outlives the process that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_works import Facts

from features.engines.cores import divided, nodes
from features.engines.local import LocalEngine
from features.engines.verbs import map_shards
from features.errors import InputError

ROOT = Path(__file__).parents[3]
DRIVER = """
import sys
sys.path[:0] = {paths!r}
from engine_works import Facts
from features.engines.local import LocalEngine
from features.engines.verbs import map_shards
for number, (pid, *_) in map_shards(LocalEngine(2), Facts({seconds}), range(100)):
    print(pid, flush=True)
"""


def facts(workers, tasks):
    return [found for _, found in map_shards(LocalEngine(workers), Facts(0.1), range(tasks))]


def test_workers_share_out_the_cores(monkeypatch):
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    found = {tuple(cores): settings for _, cores, settings in facts(2, 6)}
    assert set(found) <= {tuple(sorted(cores)) for cores in divided(nodes(), 2)}
    for cores, settings in found.items():
        assert settings["OMP_NUM_THREADS"] == str(len(cores))


def test_each_worker_has_a_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert LocalEngine().workers == 2
    found = {settings["CUDA_VISIBLE_DEVICES"] for _, _, settings in facts(None, 6)}
    assert found == {"4", "7"}


def test_fewer_than_one_worker():
    with pytest.raises(InputError, match="`workers` is 0: give 1 or more"):
        LocalEngine(0)


def test_no_process_is_left():
    for pid in {pid for pid, _, _ in facts(2, 4)}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def ended(pid):
    """Whether a process is gone, or a zombie that nobody has buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_driver_that_is_killed(with_signal):
    code = DRIVER.format(paths=[str(ROOT), str(ROOT / "tests")], seconds=0.05)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as one:
        pids = {int(one.stdout.readline()) for _ in range(12)}
        one.send_signal(with_signal)
    assert pids
    deadline = time.monotonic() + 30
    while not all(map(ended, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_main_program_needs_no_guard(tmp_path):
    """Nothing imports the program of the driver again, as multiprocessing's workers would."""
    script = tmp_path / "script.py"
    script.write_text(DRIVER.format(paths=[str(ROOT), str(ROOT / "tests")], seconds=0))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert (done.stderr, len(done.stdout.splitlines())) == ("", 100)
