"""Plan a run over many rows: measured figures and machines in, a `Plan` out.

The rates of one worker are in `pipeline/plan/rates.py`, the bytes in `pipeline/plan/store_size.py`,
the choice of the shards in `pipeline/plan/shards.py`, the simulation in
`pipeline/plan/simulate.py`. Nothing is measured here, and nothing is printed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.errors import InputError
from features.spec.vector_spec import STORE_DTYPES
from features.version import __version__
from pipeline.plan.figures import Figures
from pipeline.plan.fit_cost import FitCost, fit_cost
from pipeline.plan.rates import Machines, RowSeconds, row_seconds
from pipeline.plan.runs import SIMULATED_SHARDS, Simulated, simulated_runs
from pipeline.plan.shards import MOST_SHARDS, SHARD_SECONDS, Shards, choose_shards
from pipeline.plan.store_size import column_bytes, store_bytes, view_bytes

MOST_GPUS = 10_000
# GPUs of the table that shows how a run scales.
SCALES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Bytes:
    """Bytes of a store.

    Attributes
    ----------
    views : dict of str to int
        By view.
    columns : int
        Ids, labels, digests, tokens and flags.
    total : int
        With what HDF5 and the seals add.
    row : float
        `total`, by row.
    by_dtype : dict of str to int
        `total` for each precision of the vectors.
    journals : int
        More, while it is made: the vectors of the shards at work.
    """

    views: dict[str, int]
    columns: int
    total: int
    row: float
    by_dtype: dict[str, int]
    journals: int


@dataclass(frozen=True)
class Scale:
    """The same rows on so many GPUs: hours without and with what may happen, cost, what binds."""

    gpus: int
    shards: Shards
    ideal_hours: float
    simulated: Simulated
    gpu_hours: float
    cost: float | None
    binds: str


@dataclass(frozen=True)
class Plan:
    """What a run over many rows takes.

    Attributes
    ----------
    rows : int
    distinct : int
        Texts that the model reads, if all of the input repeats itself as the sample does.
    tokens : int
        That it reads for them.
    figures : Figures
    machines : Machines
    seconds : RowSeconds
        What a row takes a worker.
    rows_per_second : float
        Of all workers that have a shard.
    work_hours, ideal_hours : float
        Of all workers together; and until the end, if nothing happens and all that have a shard
        end at once.
    shards : Shards
    simulated : Simulated
    search_hours : float or None
        That one process needs before them, to find where rows end, if the input is large files; 0
        where none is needed, None where it is not known.
    bytes : Bytes
    fit : FitCost or None
        None where no row is labelled.
    cost : float or None
        Of all GPUs until the median end; None without a price.
    """

    rows: int
    distinct: int
    tokens: int
    figures: Figures
    machines: Machines
    seconds: RowSeconds
    rows_per_second: float
    work_hours: float
    ideal_hours: float
    shards: Shards
    simulated: Simulated
    search_hours: float | None
    bytes: Bytes
    fit: FitCost | None
    cost: float | None

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON types."""
        content = dataclasses.asdict(self) | {"figures": self.figures.to_dict()}
        return {"frostline": __version__} | content


def plan(
    figures: Figures,
    machines: Machines,
    *,
    rows: int | None = None,
    shard_rows: int | None = None,
    labelled_rows: int | None = None,
    seed: int = 0,
) -> Plan:
    """Plan a run.

    Parameters
    ----------
    figures : Figures
        Of a measured run, see `measure` and `read_figures`.
    machines : Machines
    rows : int, optional
        Default: those of the input that was measured.
    shard_rows : int, optional
        Default: see `choose_shards`.
    labelled_rows : int, optional
        That a head is to be fitted on; default: the share that the sample has.
    seed : int
        Of the first simulated run.

    Raises
    ------
    InputError
        A number is not one that is allowed.
    """
    rows = figures.input_rows if rows is None else rows
    if rows is None:
        raise InputError("how many rows the input has is not known: give `rows`, e.g. 10e9")
    _check(machines, rows, shard_rows, labelled_rows)
    seconds, shards = _shards(figures, machines, rows, shard_rows)
    simulated = simulated_runs(
        rows, shards, seconds.total, machines, load_seconds=figures.load_seconds, seed=seed
    )
    work, busy = rows * seconds.total + shards.count * SHARD_SECONDS, _busy(machines, shards)
    distinct = max(1, round(rows * figures.distinct_share))
    return Plan(
        rows=rows,
        distinct=distinct,
        tokens=round(distinct * figures.tokens),
        figures=figures,
        machines=machines,
        seconds=seconds,
        rows_per_second=busy / seconds.total,
        work_hours=work / 3600,
        ideal_hours=work / busy / 3600,
        shards=shards,
        simulated=simulated,
        search_hours=figures.rows_searched and rows / figures.rows_searched / 3600,
        bytes=_bytes(rows, shards, machines, figures),
        fit=_fit(rows, labelled_rows, figures, machines),
        cost=_cost(simulated, machines),
    )


def scaled(
    figures: Figures,
    machines: Machines,
    rows: int,
    *,
    shard_rows: int | None = None,
    scales: Sequence[int] = SCALES,
    seed: int = 0,
) -> list[Scale]:
    """Plan the same run on other numbers of GPUs, with shards of their own choice if none is given.

    For the parameters see `plan`; `scales` are the numbers of GPUs.
    """
    found = []
    for gpus in scales:
        on = dataclasses.replace(machines, gpus=gpus)
        _check(on, rows, shard_rows, None)
        seconds, shards = _shards(figures, on, rows, shard_rows)
        simulated = simulated_runs(
            rows,
            shards,
            seconds.total,
            on,
            load_seconds=figures.load_seconds,
            seed=seed,
            most_shards=SIMULATED_SHARDS // 6,
        )
        work = rows * seconds.total + shards.count * SHARD_SECONDS
        hours = simulated.wall_hours["median"] * gpus
        found.append(
            Scale(
                gpus,
                shards,
                work / _busy(on, shards) / 3600,
                simulated,
                hours,
                _cost(simulated, on),
                seconds.binds,
            )
        )
    return found


def _check(
    machines: Machines, rows: int, shard_rows: int | None, labelled_rows: int | None
) -> None:
    if not 1 <= machines.gpus <= MOST_GPUS:
        raise InputError(f"`gpus` is {machines.gpus:,}; give 1 to {MOST_GPUS:,}")
    if machines.cores_per_gpu is not None and machines.cores_per_gpu < 1:
        raise InputError(f"`cores_per_gpu` is {machines.cores_per_gpu}; give 1 or more")
    if shard_rows is not None and not -(-rows // MOST_SHARDS) <= shard_rows:
        raise InputError(
            f"`shard_rows` is {shard_rows:,}, which makes more than {MOST_SHARDS:,} shards of "
            f"{rows:,} rows; give {-(-rows // MOST_SHARDS):,} or more"
        )
    if labelled_rows is not None and labelled_rows > rows:
        raise InputError(
            f"`labelled_rows` is {labelled_rows:,}, of {rows:,} rows; give as many at most"
        )


def _shards(
    figures: Figures, machines: Machines, rows: int, shard_rows: int | None
) -> tuple[RowSeconds, Shards]:
    """Work out what a row takes, and how many of them make a shard."""
    if shard_rows is not None:
        size = min(shard_rows, rows)
        shards = Shards(size, -(-rows // size), "given")
        row_bytes = _store_bytes(rows, shards, figures, figures.store_dtype) / rows
        return _row_seconds(figures, machines, shards, row_bytes), shards
    # What HDF5 adds to a shard is too little to move the choice.
    row_bytes = _store_bytes(10**6, Shards(10**6, 1, ""), figures, figures.store_dtype) / 10**6
    seconds = row_seconds(figures, machines, row_bytes)
    shards = choose_shards(
        rows, machines.gpus, seconds.total, row_bytes, machines.failures_per_hour
    )
    return _row_seconds(figures, machines, shards, row_bytes), shards


def _row_seconds(
    figures: Figures, machines: Machines, shards: Shards, row_bytes: float
) -> RowSeconds:
    """Work out what a row takes; only workers that have a shard share the disk."""
    at_work = dataclasses.replace(machines, gpus=_busy(machines, shards))
    return row_seconds(figures, at_work, row_bytes)


def _busy(machines: Machines, shards: Shards) -> int:
    """Count the workers that have a shard."""
    return min(machines.gpus, shards.count)


def _id_bytes(figures: Figures, shards: Shards) -> int:
    """Give the bytes of an id: those of the sample, or those of the last `PIECE:ROW`."""
    return figures.id_bytes or len(f"{shards.count - 1}:{shards.rows - 1}")


def _store_bytes(rows: int, shards: Shards, figures: Figures, store_dtype: str) -> int:
    id_bytes = _id_bytes(figures, shards)
    return store_bytes(rows, shards.rows, figures.views, store_dtype, id_bytes)


def _bytes(rows: int, shards: Shards, machines: Machines, figures: Figures) -> Bytes:
    dtype = figures.store_dtype
    whole, rest = divmod(rows, shards.rows)
    of_shard, of_rest = (view_bytes(n, figures.views, dtype) for n in (shards.rows, rest))
    by_dtype = {one: _store_bytes(rows, shards, figures, one) for one in STORE_DTYPES}
    id_bytes = _id_bytes(figures, shards)
    return Bytes(
        views={view: whole * of_shard[view] + of_rest[view] for view in figures.views},
        columns=whole * column_bytes(shards.rows, id_bytes) + column_bytes(rest, id_bytes),
        total=by_dtype[dtype],
        row=by_dtype[dtype] / rows,
        by_dtype=by_dtype,
        journals=_busy(machines, shards) * sum(of_shard.values()),
    )


def _fit(
    rows: int, labelled_rows: int | None, figures: Figures, machines: Machines
) -> FitCost | None:
    """Estimate a fit on the widest view; None where nothing is labelled."""
    if labelled_rows is None:
        labelled_rows = round(rows * figures.labelled / figures.rows)
    if not labelled_rows:
        return None
    columns = max(figures.views.values())
    disk, network = machines.disk_mb_per_second, machines.network_mb_per_second
    return fit_cost(
        labelled_rows,
        columns,
        max(2, figures.classes),
        row_bytes=columns * np.dtype(figures.store_dtype).itemsize,
        workers=machines.gpus,
        flops=figures.flops * machines.cores(figures) / figures.cores,
        disk_bytes_per_second=None if disk is None else disk * 1e6,
        network_bytes_per_second=None if network is None else network * 1e6,
    )


def _cost(simulated: Simulated, machines: Machines) -> float | None:
    if machines.price_per_gpu_hour is None:
        return None
    return simulated.wall_hours["median"] * machines.gpus * machines.price_per_gpu_hour
