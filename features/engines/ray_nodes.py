"""Know the nodes of a Ray cluster: what they have for workers, and whether they still answer.

In come the module of Ray, which is connected, and numbers of workers and GPUs; out come cores and
workers, or what is wrong. No cluster is started or joined here.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from features.engines.ray_address import answers
from features.errors import CannotContinue, FrostlineError, InputError

_ENDED = "Ray has ended on this machine"
# Seconds between looks at the head of a cluster, and those after which its silence is its end.
_LOOK, _SILENCE = 2.0, 10.0


@dataclass(frozen=True)
class Node:
    """A node that is alive: its id, and what it has for workers."""

    id: str
    cpus: float
    gpus: float


class Cluster:
    """A cluster that this process is connected to.

    Parameters
    ----------
    ray : module
    server : str, optional
        The `HOST:PORT` of the server of clients through which it is reached; None on its nodes.
    """

    def __init__(self, ray: Any, server: str | None = None) -> None:
        self.ray, self.server = ray, server
        self.nodes = self._alive()
        self._heard = self._looked = time.monotonic()
        context = ray.get_runtime_context()
        self._own = context.get_node_id()  # through a server: the node that this is on
        host, _, port = (server or context.gcs_address).rpartition(":")
        self._head = host.strip("[]"), int(port)

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Say in one line that the connection through a server is lost, whatever Ray says of it.

        Raises
        ------
        CannotContinue
        """
        if self.server is None:
            yield
            return
        try:
            if not self.ray.is_initialized():  # Ray would start a cluster here, and go on there
                raise ConnectionError
            yield
        except FrostlineError:
            raise
        except Exception as error:
            raise CannotContinue(
                f"the connection to the cluster through ray://{self.server} is lost "
                f"({type(error).__name__}); what is finished is kept: run the same command again"
            ) from error

    def _alive(self) -> list[Node]:
        return [
            Node(
                node["NodeID"],
                node["Resources"].get("CPU", 0.0),
                node["Resources"].get("GPU", 0.0),
            )
            for node in self.ray.nodes()
            if node["Alive"]
        ]

    def check_alive(self) -> None:
        """Look whether workers can be started at all.

        Raises
        ------
        CannotContinue
            The node of this process has ended, or all have.
        """
        alive = {node.id for node in self._alive()}
        if not alive or (self._own in {node.id for node in self.nodes} - alive):
            raise CannotContinue(
                f"{_ENDED} (its raylet is dead or cut off); what is finished is kept, and the "
                "same command goes on there"
            )

    def check_head(self) -> None:
        """Look now and then whether the head of the cluster answers.

        Without it Ray would end this process itself, after a while.

        Raises
        ------
        CannotContinue
            It has not answered for some seconds.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        if answers(*self._head):
            self._heard = now
        elif now - self._heard > _SILENCE:
            raise CannotContinue(
                f"{_ENDED} (its head does not answer any more); what is finished is kept, and the "
                "same command goes on there"
            )

    @property
    def most_gpus(self) -> float:
        """GPUs of the node that has most of them."""
        return max((node.gpus for node in self.nodes), default=0.0)

    def default_workers(self, gpus_per_worker: float | None) -> int:
        """Count the workers that fill the GPUs, or one for each node where there are none."""
        gpus = sum(node.gpus for node in self.nodes)
        share = 1.0 if gpus_per_worker is None else gpus_per_worker
        if gpus and share:
            return max(1, int(gpus / share))
        return max(1, len(self.nodes))

    def check_gpus(self, gpus_per_worker: float, *, may_grow: bool) -> None:
        """Look whether a node has the GPUs that a worker asks for; warn where one may still come.

        Raises
        ------
        InputError
            None has, and none will.
        """
        most = self.most_gpus
        if gpus_per_worker <= most:
            return
        if not may_grow:
            raise InputError(
                f"`gpus_per_worker` is {gpus_per_worker:g}, and this machine has {most:g} GPUs"
            )
        warnings.warn(
            f"`gpus_per_worker` is {gpus_per_worker:g}, and no node of the cluster has more than "
            f"{most:g} GPUs now: workers start when a node that has as many joins it",
            stacklevel=2,
        )

    def cores_of(self, workers: int, gpus_per_worker: float) -> float:
        """Give the cores of each worker, so that all of them find a place; below 1 they share one.

        With GPUs, those of a node go with its GPUs.
        """
        if gpus_per_worker:
            shares = [n.cpus * gpus_per_worker / n.gpus for n in self.nodes if n.gpus]
        else:
            with_cores = [n.cpus for n in self.nodes if n.cpus]
            per_node = -(-workers // max(1, len(with_cores)))
            shares = [cpus / per_node for cpus in with_cores]
        share = min(shares, default=1.0)
        return float(int(share)) if share >= 1 else share
