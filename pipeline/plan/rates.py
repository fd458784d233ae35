"""Work out how long a row takes a worker, part by part, and what holds the workers up.

In go measured `Figures` and what is said of the machines; out come seconds a row. Rows are read in
one thread, tokenised in others, and encoded in one more: beside a GPU the slowest of the three
counts, while on a CPU they share the cores, and their times add up. A file is written, read back
and sealed when its last row is there, with nothing beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.plan.figures import Figures
from pipeline.plan.quantities import Stragglers

# A byte of vectors goes to the journal and to the file, and comes back to be compared.
DISK_TIMES = 3


@dataclass(frozen=True)
class Machines:
    """The machines that a plan is for.

    Attributes
    ----------
    gpus : int
        Workers, each with a device of its own.
    cores_per_gpu : int, optional
        Cores that a worker has; default: those where the figures were measured, over its GPUs.
    tokens_per_second : float, optional
        Of a device, instead of the measured one; it is then taken for a GPU.
    disk_mb_per_second : float, optional
        Of the storage that all workers share; None: it is no limit.
    network_mb_per_second : float, optional
        Of each worker, between it and the storage; None: there is no network in between.
    price_per_gpu_hour : float, optional
    failures_per_hour : float
        Of a worker.
    stragglers : Stragglers
    restart_seconds : float
        From the death of a worker until another one starts to load the model.
    """

    gpus: int = 1
    cores_per_gpu: int | None = None
    tokens_per_second: float | None = None
    disk_mb_per_second: float | None = None
    network_mb_per_second: float | None = None
    price_per_gpu_hour: float | None = None
    failures_per_hour: float = 0.01
    stragglers: Stragglers = field(default_factory=lambda: Stragglers(0.01, 3.0))
    restart_seconds: float = 60.0

    def cores(self, figures: Figures) -> int:
        """Give the cores of a worker."""
        if self.cores_per_gpu is not None:
            return self.cores_per_gpu
        return max(1, figures.cores // max(1, figures.gpus))


@dataclass(frozen=True)
class RowSeconds:
    """What a row takes a worker.

    Attributes
    ----------
    parts : dict of str to float
        Seconds of `reading`, `tokenising`, `device`, `writing`, `network`, each for itself, and of
        the shared `disk`, with the share of it that a worker has.
    total : float
        With what goes on at the same time.
    binds : str
        The part that most of `total` is spent in: a faster one would help most.
    """

    parts: dict[str, float]
    total: float
    binds: str


def row_seconds(figures: Figures, machines: Machines, row_bytes: float) -> RowSeconds:
    """Work out what a row takes a worker.

    Parameters
    ----------
    figures : Figures
    machines : Machines
    row_bytes : float
        Of a row in the store, with all its views.
    """
    distinct = figures.distinct_share
    cores = figures.cores / machines.cores(figures)
    on_cpu = figures.on_cpu and machines.tokens_per_second is None
    tokens_encoded = machines.tokens_per_second or figures.tokens_encoded
    parts = {
        "reading": 1 / figures.rows_read,
        "tokenising": distinct / figures.texts_tokenised * cores,
        "device": distinct * figures.tokens / tokens_encoded * (cores if on_cpu else 1),
        "writing": row_bytes / figures.bytes_written,
        "network": _over(figures.input_bytes + row_bytes, machines.network_mb_per_second),
    }
    side_by_side = ["reading", "tokenising", "device"]
    behind = parts["writing"] + parts["network"]
    if on_cpu:
        own = behind + sum(parts[name] for name in side_by_side)
    else:
        own = behind + max(parts[name] for name in side_by_side)
    binds = max(parts, key=parts.__getitem__)
    traffic = (figures.input_bytes + DISK_TIMES * row_bytes) * machines.gpus
    parts["disk"] = _over(traffic, machines.disk_mb_per_second)
    if parts["disk"] > own:
        return RowSeconds(parts, parts["disk"], "disk")
    return RowSeconds(parts, own, binds)


def _over(n_bytes: float, mb_per_second: float | None) -> float:
    return 0.0 if mb_per_second is None else n_bytes / (mb_per_second * 1e6)
