"""Set what Ray finds around it: the variables of its processes and of our workers, its folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from features.engines.cores import thread_settings

_ROOT = Path(__file__).resolve().parents[2]
# What goes with the calls themselves: more than our tasks and sums take.
_INLINE_BYTES = str(2**30)
# Of every process of Ray: what is read as `RAY_` and a name is a setting of its core.
EVERYWHERE = {
    "RAY_max_direct_call_object_size": _INLINE_BYTES,
    "RAY_task_rpc_inlined_bytes_limit": _INLINE_BYTES,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray would print what its processes say to the standard output, which is our results'.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
}
# What would lead a cluster of our own to others, or have them meddle with it.
LEADING_AWAY = (
    "RAY_ADDRESS",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_CLIENT_MODE",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_NAMESPACE",
    "RAY_OVERRIDE_DASHBOARD_URL",
    "RAY_REDIS_ADDRESS",
    "RAY_RUNTIME_ENV_HOOK",
    "RAY_TMPDIR",
)


def environment(threads: int, gpus: float) -> dict[str, str]:
    """Give the variables of an actor: its threads, its settings of Ray, where our packages are."""
    paths = [os.environ.get("PYTHONPATH", "")]
    if _ROOT.name not in ("site-packages", "dist-packages"):  # it is not installed
        paths.insert(0, str(_ROOT))
    found = {**thread_settings(threads), **EVERYWHERE}
    found["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if not gpus:
        found["CUDA_VISIBLE_DEVICES"] = ""
    return found


@contextmanager
def variables(settings: Mapping[str, str], without: tuple[str, ...]) -> Iterator[None]:
    """Set variables of the environment, and take some away, until the end."""
    before = {name: os.environ.get(name) for name in (*settings, *without)}
    os.environ.update(settings)
    for name in without:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def silenced() -> Iterator[None]:
    """Let nothing come to the terminal meanwhile that Ray's core says of tries that fail."""
    try:
        before = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


@contextmanager
def folder_of_ray() -> Iterator[Path]:
    """Give a folder for Ray's files with a short path, as its sockets need one; it is removed.

    Those of drivers that were killed are removed too: a lock is held on each by its driver.
    """
    above = Path("/tmp") if os.access("/tmp", os.W_OK) else Path(tempfile.gettempdir())
    for left in above.glob("frostline-ray-*"):
        _remove_if_left(left)
    unlocked = Path(tempfile.mkdtemp(prefix=".frostline-ray-", dir=above))
    handle = os.open(unlocked / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    folder = unlocked.rename(above / unlocked.name.lstrip("."))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _remove_if_left(folder: Path) -> None:
    """Remove a folder of ours whose driver is gone."""
    with suppress(OSError):
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return
        handle = os.open(folder / "lock", os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)
