"""Divide the cores and GPUs of this machine among workers.

All workers get equally many cores, so that all compute in the same way. Where there are several
nodes of memory (NUMA), a worker stays within one, if there are at least as many workers as nodes;
and the two threads of a physical core go to the same worker as long as that is possible.
"""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

from features.base.machine import n_cores

_SYSTEM = Path("/sys/devices/system")
# What libraries that compute read when they are loaded.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def numbers(text: str) -> list[int]:
    """Read a list of numbers as the kernel writes it.

    Examples
    --------
    >>> numbers("0-2,8")
    [0, 1, 2, 8]
    """
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def nodes(system: Path = _SYSTEM) -> list[list[int]]:
    """Give the cores that this process may use, by node of memory, siblings side by side.

    Cores of no known node come last, as a node of their own; an empty list where the system does
    not tell.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    left = os.sched_getaffinity(0)
    found = []
    for node in sorted(system.glob("node/node[0-9]*"), key=lambda path: int(path.name[4:])):
        cores = left & set(numbers(_text(node / "cpulist")))
        left -= cores
        if cores:
            found.append(sorted(cores, key=lambda core: (_first_sibling(core, system), core)))
    return [*found, sorted(left)] if left else found


def _first_sibling(core: int, system: Path) -> int:
    """Give the first thread of the physical core that this one is a thread of."""
    siblings = numbers(_text(system / f"cpu/cpu{core}/topology/thread_siblings_list"))
    return min(siblings, default=core)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""


def divided(by_node: list[list[int]], workers: int) -> list[list[int]]:
    """Give each worker its cores: equally many, at least one.

    Examples
    --------
    >>> divided([[0, 4, 1, 5], [2, 6, 3, 7]], 4)
    [[0, 4], [2, 6], [1, 5], [3, 7]]
    >>> divided([[0, 1, 2]], 2), divided([[0], [1]], 1), divided([[0]], 2)
    ([[0], [1]], [[0, 1]], [[0], [0]])
    """
    if not by_node:
        return [[] for _ in range(workers)]
    n_nodes = len(by_node)
    if workers < n_nodes:
        shares = [list(chain(*by_node[worker::workers])) for worker in range(workers)]
    else:
        shares = []
        for worker in range(workers):
            cores, slot = by_node[worker % n_nodes], worker // n_nodes
            n_here = len(range(worker % n_nodes, workers, n_nodes))
            size = max(1, len(cores) // n_here)
            first = slot * size % len(cores)
            shares.append(cores[first : first + size])
    size = min(map(len, shares))
    return [share[:size] for share in shares]


def threads_of(workers: int) -> int:
    """Count the threads of each worker of this machine."""
    shares = divided(nodes(), workers)
    return len(shares[0]) or max(1, n_cores() // workers)


def thread_settings(threads: int) -> dict[str, str]:
    """Give the variables that hold libraries to so many threads, unless the user has set them."""
    return {name: os.environ.get(name, str(threads)) for name in _THREADS}


def gpus() -> list[str]:
    """Name the GPUs that this process may use, as CUDA_VISIBLE_DEVICES does. Without torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in (part.strip() for part in chosen.split(",")) if name]
    return [str(number) for number, _ in enumerate(sorted(Path("/dev").glob("nvidia[0-9]*")))]
