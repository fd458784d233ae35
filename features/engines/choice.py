"""Choose an engine by its name, as commands do: what was asked for in, an engine out.

Ray is imported by nobody who has not asked for it.
"""

from __future__ import annotations

from features.engines.engine import Engine
from features.engines.local import LocalEngine
from features.errors import InputError

ENGINES = ("local", "ray")


def chosen_engine(
    name: str | None,
    *,
    workers: int | None = None,
    ray_address: str | None = None,
    gpus_per_worker: float | None = None,
) -> Engine | None:
    """Give the engine of a name; None without one.

    Parameters
    ----------
    name : str, optional
        One of `ENGINES`.
    workers : int, optional
        See the engines.
    ray_address : str, optional
        Of a cluster that is there, see `RayEngine`.
    gpus_per_worker : float, optional
        Of Ray.

    Raises
    ------
    InputError
        There is no such engine, or something is given that it does not take.
    """
    if name is not None and name not in ENGINES:
        raise InputError(f"unknown engine {name!r}: choose {' or '.join(ENGINES)}")
    if name is None and workers is not None:
        raise InputError("`workers` are those of an engine: give `engine=local` as well")
    if name != "ray" and ray_address is not None:
        raise InputError(f"`ray_address` is {ray_address!r}: give `engine=ray` as well")
    if name != "ray" and gpus_per_worker:
        raise InputError(f"`gpus_per_worker` is {gpus_per_worker:g}: give `engine=ray` as well")
    if name is None:
        return None
    if name == "local":
        return LocalEngine(workers)
    from features.engines.ray_engine import RayEngine

    return RayEngine(ray_address, workers, gpus_per_worker)


def check_device(device: str) -> None:
    """Refuse a device that only one worker could have.

    Raises
    ------
    InputError
    """
    if not device.isalpha():
        raise InputError(
            f"`device` is {device!r}: with an engine each worker has a device of its own; give "
            "auto, cpu or cuda"
        )
