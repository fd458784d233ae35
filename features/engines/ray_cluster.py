"""Start a Ray cluster on this machine, or join one, and know its nodes.

A cluster of our own listens on the loopback address alone, has no dashboard, asks for a token that
is made anew, counts no usage, and leaves nothing behind. One that is joined is used as it is. Ray
before `OLDEST` has holes that are known, and is refused.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from features.base.child import last_line
from features.base.machine import n_cores
from features.engines.ray_address import address_of, is_loopback_alone
from features.engines.ray_nodes import Cluster
from features.engines.ray_surroundings import (
    EVERYWHERE,
    LEADING_AWAY,
    folder_of_ray,
    silenced,
    variables,
)
from features.errors import CannotContinue, InputError, first_line

# The first version without CVE-2025-62593 (2.52), CVE-2026-27482 (2.54), CVE-2026-41486 (2.55) and
# CVE-2026-57516 (2.56): code of strangers, by the dashboard and by files that Ray reads.
OLDEST = (2, 56)
# Ray's least; nothing of ours goes through it.
_STORE_BYTES = 78_643_200
# Ray's name for it: off, nodes have the loopback address, on Linux too.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Who is refused by a cluster is told so soon.
_JOINING = {"RAY_NUM_REDIS_GET_RETRIES": "5"}
# One token for each process, as Ray remembers the first that it reads.
_TOKEN = secrets.token_hex(32)


@contextmanager
def own_cluster(gpus: int) -> Iterator[Cluster]:
    """Start Ray on the cores and GPUs of this machine, for this process alone."""
    settings = {
        **EVERYWHERE,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _TOKEN,
        **_LOOPBACK,
        # Where one of its processes is dead, the others end sooner than after minutes.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    with variables(settings, LEADING_AWAY), folder_of_ray() as folder:
        options = {
            "address": "local",
            "num_cpus": n_cores(),
            "num_gpus": gpus,
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
            "_temp_dir": str(folder),
        }
        with _as_set(_import_ray(), loopback=True), _session(options) as cluster:
            _check_is_private(cluster.ray)
            yield cluster


@contextmanager
def _as_set(ray: Any, *, loopback: bool) -> Iterator[None]:
    """Let Ray look at the environment again, which it does when it is imported alone."""
    constants = ray._private.ray_constants
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = before and not loopback
    ray._raylet.Config.initialize("")
    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _check_is_private(ray: Any) -> None:
    """Look whether a cluster of our own can be reached by nobody else.

    Raises
    ------
    CannotContinue
        This version of Ray does not listen where it is told to, or asks for no token.
    """
    places = {node["NodeManagerAddress"] for node in ray.nodes()}
    mode = ray._raylet.get_authentication_mode()
    if places - {"127.0.0.1", "::1"} or mode != ray._raylet.AuthenticationMode.TOKEN:
        raise CannotContinue(
            f"Ray {ray.__version__} would be open to others at {', '.join(sorted(places))}; start "
            "it by hand, with a token, and give its `ray_address`"
        )


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Join a cluster that is there.

    Raises
    ------
    InputError
        Nothing answers there, or not to this process.
    """
    ray = _import_ray()
    found = address_of(address, ray._private.services)
    alone = is_loopback_alone(found, address)
    defaults = {**EVERYWHERE, **_JOINING, **(_LOOPBACK if alone else {})}
    settings = {name: os.environ.get(name, value) for name, value in defaults.items()}
    with (
        variables(settings, ()),
        _as_set(ray, loopback=alone),
        _session({"address": found}) as cluster,
    ):
        yield cluster


@contextmanager
def _session(options: Mapping[str, Any]) -> Iterator[Cluster]:
    """Connect to Ray, and leave signals and the connection as they were."""
    ray = _import_ray()
    if ray.is_initialized():
        raise InputError(
            "this process is connected to Ray already: call `ray.shutdown()` first, and give the "
            "address of that cluster as `ray_address` to use it"
        )
    on_end = signal.getsignal(signal.SIGTERM)
    try:
        joins = options["address"] != "local"
        with warnings.catch_warnings(action="ignore"), silenced() if joins else nullcontext():
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
        raise _not_connected(str(options["address"]), error) from error
    except ray.exceptions.RayError as error:
        raise _not_connected(str(options["address"]), error) from error
    with suppress(ValueError):  # in a thread Ray has not changed it
        signal.signal(signal.SIGTERM, on_end)
    server = str(options["address"]).removeprefix("ray://")
    try:
        yield Cluster(ray, server if server != options["address"] else None)
    finally:
        ray.shutdown()


def _not_connected(address: str, error: Exception) -> InputError | CannotContinue:
    """Say why Ray could not be started or joined."""
    reason = first_line(error)
    if reason.endswith(":"):  # what follows is what a server says
        reason = f"{reason} {last_line(str(error))}"
    if address == "local":
        return CannotContinue(f"Ray can't be started on this machine: {reason}")
    cure = (
        "look at `ray status` on it; where it asks for a token, give that by RAY_AUTH_MODE=token "
        "and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
    )
    if isinstance(error, ImportError):
        cure = "pip install 'frostline[ray]'"
    return InputError(f"`ray_address` is {address!r}, and can't be joined: {reason}; {cure}")


def _import_ray() -> Any:
    """Import Ray, if it is there and not too old."""
    try:
        import ray
    except ImportError as error:
        raise InputError("the engine `ray` needs Ray: pip install 'frostline[ray]'") from error
    if version_of(ray.__version__) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise InputError(
            f"Ray {ray.__version__} lets strangers run code (CVE-2025-62593, CVE-2026-41486, "
            f"CVE-2026-57516): pip install -U 'ray[client]>={oldest}', on all nodes of a cluster"
        )
    return ray


def version_of(text: str) -> tuple[int, ...]:
    """Read the first two numbers of a version.

    Examples
    --------
    >>> version_of("2.56.0rc1"), version_of("3.0.0.dev0")
    ((2, 56), (3, 0))
    """
    return tuple(int(part) for part in text.split(".")[:2])
