"""Run workers as actors of Ray: on a cluster that is there, or on one of this machine alone.

Of Ray its core is used: actors, and what waits for them. Tasks and answers travel with the calls
and not through Ray's object store. Ray is imported where a session begins, so it is asked for only
by who uses it (`features/engines/ray_cluster.py`).
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from features.engines.cores import divided, gpus, nodes
from features.engines.engine import Answer, Died, Engine, Failed, Ready, Work, Worker
from features.engines.host import Host
from features.engines.ray_cluster import connected, own_cluster
from features.engines.ray_nodes import Cluster
from features.engines.ray_surroundings import environment
from features.errors import CannotContinue, InputError, first_line
from features.version import __version__

# Seconds in which idle actors close their work.
_GRACE = 10.0


class RayEngine(Engine):
    """Actors of Ray.

    Parameters
    ----------
    address : str, optional
        A cluster that is there: `auto`, `host:port` or `ray://host:port`; it goes on afterwards.
        None starts one on this machine, on its loopback address alone, which ends with the session.
    workers : int, optional
        One for each GPU, or for each share of one, if there are any; else one for each node.
    gpus_per_worker : float, optional
        1 where there are GPUs, else 0. A part of 1, such as 0.5, lets workers share a GPU.

    Raises
    ------
    InputError
        A number is out of its range; inside `session`: there is no such cluster, or no Ray.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        gpus_per_worker: float | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise InputError(f"`workers` is {workers}: give 1 or more")
        if gpus_per_worker is not None and not is_share(gpus_per_worker):
            raise InputError(
                f"`gpus_per_worker` is {gpus_per_worker}: give a whole number, or a part of 1 such "
                "as 0.5"
            )
        self._address, self._wanted, self._gpus_wanted = address, workers, gpus_per_worker
        self._cluster: Cluster | None = None
        self._share = _Share(1.0, 0.0, [])
        self._closing: list[Any] = []

    @contextmanager
    def session(self) -> Iterator[None]:
        """Start Ray on this machine, or join a cluster; entered again inside, it is the same."""
        if self._cluster is not None:
            yield
            return
        wanted = self._wanted or len(gpus()) or len(nodes()) or 1
        own = self._address is None
        begun = own_cluster(len(gpus())) if self._address is None else connected(self._address)
        with begun as cluster:
            self.workers = self._wanted or (
                wanted if own else cluster.default_workers(self._gpus_wanted)
            )
            self._share = self._divide(cluster)
            self._cluster = cluster
            try:
                yield
                if self._closing:
                    cluster.ray.wait(self._closing, num_returns=len(self._closing), timeout=_GRACE)
            finally:
                self._cluster = None
                self._closing.clear()

    def _divide(self, cluster: Cluster) -> _Share:
        """Say what each worker gets."""
        share = (
            (1.0 if cluster.most_gpus else 0.0) if self._gpus_wanted is None else self._gpus_wanted
        )
        cluster.check_gpus(share, may_grow=self._address is not None)
        cores = divided(nodes(), self.workers) if self._address is None else []
        return _Share(cluster.cores_of(self.workers, share), share, cores)

    def start(self, number: int, work: Work) -> Worker:
        """Start an actor; where there is no place for it yet, it is ready when there is."""
        cluster = self._the_cluster()
        options = {
            "num_cpus": self._share.cpus,
            "num_gpus": self._share.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
            "runtime_env": {"env_vars": environment(self._share.threads, self._share.gpus)},
        }
        cores = self._share.cores[number] if self._share.cores else []
        with cluster.reached():
            actor = cluster.ray.remote(ActorHost).options(**options).remote(work)
            return _Actor(actor, actor.begin.remote(__version__, cores), self)

    def wait(self, workers: Sequence[Worker], seconds: float) -> Sequence[tuple[Worker, Answer]]:
        """Wait for the calls of the actors."""
        cluster = self._the_cluster()
        cluster.check_head()
        by_call = {one.call: one for one in workers if isinstance(one, _Actor) and one.call}
        if not by_call:
            time.sleep(seconds)
            return []
        with cluster.reached():
            ready, _ = cluster.ray.wait(list(by_call), num_returns=1, timeout=seconds)
            if ready:  # and all others that are by now
                ready, _ = cluster.ray.wait(list(by_call), num_returns=len(by_call), timeout=0)
            return [(by_call[call], self._answer(by_call[call])) for call in ready]

    def _answer(self, actor: _Actor) -> Answer:
        """Take the answer to a call, and let go of what holds it."""
        cluster = self._the_cluster()
        call, actor.call = actor.call, None
        try:
            answer: Answer = cluster.ray.get(call)
        except (
            cluster.ray.exceptions.RayActorError,
            cluster.ray.exceptions.OutOfMemoryError,
        ) as error:
            cluster.check_alive()
            return _death(error)
        except cluster.ray.exceptions.RayTaskError as error:
            return Failed(CannotContinue(f"an answer can't be sent back: {_how(error)}"))
        except cluster.ray.exceptions.RayError as error:
            cluster.check_alive()
            raise CannotContinue(f"Ray can't go on: {_how(error)}") from error
        return answer

    def begin(self, handle: Any, arguments: Sequence[Any]) -> Any:
        """Begin a call of an actor."""
        with self._the_cluster().reached():
            return handle.answer.remote(*arguments)

    def _the_cluster(self) -> Cluster:
        if self._cluster is None:
            raise RuntimeError("workers of Ray live inside of `session`")
        return self._cluster

    def close(self, actor: _Actor) -> None:
        """End an actor: an idle one closes its work first, one that is in a call is killed."""
        cluster = self._the_cluster()
        with suppress(CannotContinue), cluster.reached():  # if it is lost, its actors end with it
            if actor.call is None:
                self._closing.append(actor.handle.close.remote())
                actor.handle.__ray_terminate__.remote()
            else:
                cluster.ray.kill(actor.handle, no_restart=True)


@dataclass(frozen=True)
class _Share:
    """What a worker gets of a cluster; the cores by number where they are known."""

    cpus: float
    gpus: float
    cores: list[list[int]]

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))


class ActorHost(Host):
    """A host in an actor, on cores of its own where they are known."""

    def begin(self, version: str, cores: Sequence[int]) -> Answer:
        """Say that the actor has started; one of another version than the driver refuses."""
        if cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        if version == __version__:
            return Ready()
        return Failed(
            InputError(
                f"{platform.node()} has frostline {__version__}, and here it is {version}: install "
                "the same on all nodes of the cluster"
            )
        )


class _Actor:
    """An actor, and the call that it is in."""

    def __init__(self, handle: Any, call: Any, engine: RayEngine) -> None:
        self.handle, self.call = handle, call
        self._engine = engine

    def send(self, *arguments: Any) -> None:
        """Begin a call."""
        self.call = self._engine.begin(self.handle, arguments)

    def stop(self) -> None:
        """End the actor."""
        self._engine.close(self)


def is_share(gpus: float) -> bool:
    """Tell whether a worker can have so many GPUs: a whole number of them, or a part of one."""
    return 0 <= gpus <= 1 or (gpus > 0 and float(gpus).is_integer())


def _death(error: Exception) -> Died:
    """Give the end of an actor, unless it can't begin anywhere.

    Raises
    ------
    InputError
        The cluster has no frostline.
    """
    how = _how(error)
    if "No module named 'features" in how:
        raise InputError(
            f"the workers of the cluster have no frostline ({how}): install frostline "
            f"{__version__} on all its nodes"
        )
    said = str(error)
    if found := re.search(r"was (\S+ used / \S+ limit)", said):
        return Died(f"Ray, as its node has no memory left ({found[1]})")
    if found := re.search(r"Worker exit detail: (.*?)\.?(?: Some common causes|\n|$)", said):
        return Died(f"the end of its process ({found[1]})")
    return Died(how)


def _how(error: BaseException) -> str:
    """Give the last thing that Ray says about an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else first_line(error)
