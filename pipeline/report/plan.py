"""Lay out a plan as text: how long, how large, what binds, and what all of it assumes."""

from __future__ import annotations

from collections.abc import Sequence

from features.base.shown import printable, size
from pipeline.plan.fit_cost import FitCost
from pipeline.plan.plan import Plan, Scale
from pipeline.plan.rates import DISK_TIMES, Machines
from pipeline.plan.runs import DEATHS_AT_ONE
from pipeline.plan.shards import SHARD_SECONDS
from pipeline.report.layout import table, table_with_texts, wrapped_text

_PART_OF = {
    "reading": "rows read, normalised and hashed",
    "tokenising": "texts turned into token ids",
    "device": "the model and its poolings",
    "writing": "journal, file, reading back, seal",
    "network": "between worker and storage",
    "disk": "the workers' share of the disk",
}


def plan_text(plan: Plan) -> str:
    """Lay out a plan in sections."""
    sections = {
        f"{plan.rows:,} rows on {_gpus(plan.machines.gpus)}": wrapped_text(_run(plan)),
        "A million rows on a worker": _parts(plan),
        "On disk": wrapped_text(_store(plan)),
        "Measured": wrapped_text(_measured(plan)),
    }
    if plan.fit is not None:
        sections["A fit with C chosen"] = wrapped_text(_fit(plan.fit))
    sections["What this assumes"] = wrapped_text(_assumptions(plan))
    if warnings := _warnings(plan):
        sections["Look at this"] = "\n".join(warnings)
    return "\n\n".join(f"{title}\n{text}" for title, text in sections.items())


def scaling_text(scales: Sequence[Scale]) -> str:
    """Lay out how the same run goes on other numbers of GPUs."""
    with_cost = scales[0].cost is not None
    heading = ["GPUs", "ideal h", "simulated h", "5 % to 95 %", "efficiency", "GPU hours"]
    rows = [[*heading, *(["cost"] if with_cost else []), "shards", "binds"]]
    for one in scales:
        wall = one.simulated.wall_hours
        rows.append(
            [
                f"{one.gpus:,}",
                _number(one.ideal_hours),
                _number(wall["median"]),
                f"{_number(wall['p5'])} to {_number(wall['p95'])}",
                f"{one.simulated.efficiency:.3f}",
                _number(one.gpu_hours),
                *([_number(one.cost)] if one.cost is not None else []),
                f"{one.shards.count:,}",
                one.binds,
            ]
        )
    return f"The same rows on other numbers of GPUs\n{table(rows)}"


def _run(plan: Plan) -> dict[str, str]:
    wall, runs = plan.simulated.wall_hours, plan.simulated
    facts = {
        "texts to encode": f"{plan.distinct:,} ({plan.figures.distinct_share:.1%} are distinct)",
        "tokens": f"{plan.tokens:,}",
        "rows a second": f"{plan.rows_per_second:,.0f}",
        "work": f"{_duration(3600 * plan.work_hours)} of a worker",
        "until the end": f"{_duration(3600 * plan.ideal_hours)} if nothing happens, "
        f"{_duration(3600 * wall['median'])} simulated ({_number(wall['p5'])} to "
        f"{_number(wall['p95'])} hours are 5 % to 95 % of {runs.runs:,} runs)",
        "efficiency": f"{runs.efficiency:.1%}; {runs.lost_share:.2%} of the work lost by "
        f"{runs.deaths:,.1f} deaths, {runs.doubled_share:.2%} by {runs.doubles:,.1f} doubles",
        "binds": plan.seconds.binds,
        "shards": f"{plan.shards.count:,} of {plan.shards.rows:,} rows, "
        f"{size(round(plan.bytes.row * plan.shards.rows))} each ({plan.shards.because})",
    }
    if plan.cost is not None:
        price = plan.machines.price_per_gpu_hour
        facts["cost"] = f"{plan.cost:,.2f}, at {price:,g} for a GPU and hour"
    return facts


def _parts(plan: Plan) -> str:
    parts = {name: 1e6 * seconds for name, seconds in plan.seconds.parts.items() if seconds}
    rows = [["", "seconds"]]
    rows += [[name, _number(seconds)] for name, seconds in parts.items()]
    rows.append(["together", _number(1e6 * plan.seconds.total)])
    texts = ["", *(_PART_OF[name] for name in parts), _together(plan)]
    return "\n".join(f"  {line}" for line in table_with_texts(rows, texts).split("\n"))


def _together(plan: Plan) -> str:
    if plan.seconds.binds == "disk":
        return "all wait for the disk"
    if plan.figures.on_cpu and plan.machines.tokens_per_second is None:
        return "all share the cores"
    return "the slowest of the first three, and the rest"


def _store(plan: Plan) -> dict[str, str]:
    found, dtype = plan.bytes, plan.figures.store_dtype
    other = {one: n for one, n in found.by_dtype.items() if one != dtype}
    return {
        **{
            printable(f"{view} ({plan.figures.views[view]:,} columns)"): size(n)
            for view, n in found.views.items()
        },
        "ids, labels, digests": size(found.columns),
        f"all, in {dtype}": f"{size(found.total)}, {found.row:,.0f} bytes a row",
        **{f"all, in {one}": size(n) for one, n in other.items()},
    }


def _measured(plan: Plan) -> dict[str, str]:
    found = plan.figures
    return {
        "on": printable(
            f"{found.machine}{f' ({found.gpus:,} of it)' if found.gpus > 1 else ''}, "
            f"{found.cores:,} cores, {found.device}"
        ),
        "model": printable(f"{found.model} in {found.dtype}, loaded in {found.load_seconds:.1f} s"),
        "rows": f"{found.rows:,}, of {_number(found.input_bytes)} bytes; "
        f"{found.distinct:,} distinct texts of {found.tokens:.1f} tokens, "
        f"{found.encoded:,} encoded",
        "a second": f"{found.rows_read:,.0f} rows read, {found.texts_tokenised:,.0f} texts "
        f"tokenised, {found.tokens_encoded:,.0f} tokens encoded, "
        f"{size(round(found.bytes_written))} written",
    }


def _fit(fit: FitCost) -> dict[str, str]:
    return {
        "rows": f"{fit.rows:,} of {fit.columns:,} columns, {fit.classes:,} classes",
        "passes": f"about {fit.passes:,}"
        + (", in memory after the first" if fit.in_memory else ", each read from the disk"),
        "takes": f"about {_duration(fit.seconds)}",
    }


def _warnings(plan: Plan) -> list[str]:
    warnings = []
    if plan.figures.on_cpu and plan.machines.tokens_per_second is None:
        warnings.append(
            "! these are figures of a processor, and each `GPU` of this plan is such a machine: "
            "measure where the GPUs are, or give `tokens_per_second`"
        )
    if plan.simulated.stopped_share:
        warnings.append(
            f"! in {plan.simulated.stopped_share:.0%} of the simulated runs {DEATHS_AT_ONE} "
            "workers died at one shard, where a run stops until it is started again: give fewer "
            "`shard_rows`"
        )
    return warnings


def _assumptions(plan: Plan) -> dict[str, str]:
    machines, found = plan.machines, plan.figures
    device = "works as what was measured"
    if machines.tokens_per_second is not None:
        device = f"encodes {machines.tokens_per_second:,.0f} tokens a second, as given"
    return {
        "GPUs": f"each {device}, and has {machines.cores(found):,} cores of its own",
        "rows": "all are like the first ones: as long, and as often repeated; in more rows more "
        "are repeated, so that fewer texts are encoded",
        "storage": _storage(machines),
        "failures": f"a worker dies {machines.failures_per_hour:g} times an hour at work and loses "
        f"all of its shard; {machines.restart_seconds:g} s later another one loads the model",
        "stragglers": f"{machines.stragglers.share:.1%} of the attempts at a shard take "
        f"{machines.stragglers.factor:g} times as long; where no shard waits, a free worker "
        "doubles what is slow",
        "shards": f"each costs {SHARD_SECONDS:g} s besides its rows",
    }


def _storage(machines: Machines) -> str:
    disk, network = machines.disk_mb_per_second, machines.network_mb_per_second
    shared = "the disk that all share is no limit"
    if disk is not None:
        shared = (
            f"all share a disk of {disk:,g} MB/s, which the vectors pass {DISK_TIMES} times: "
            "journal, file, reading back"
        )
    between = "no network lies before it"
    if network is not None:
        between = f"{network:,g} MB/s lie between it and each worker"
    return f"{shared}; {between}; writing is as fast as in the temporary folder"


def _gpus(n: int) -> str:
    return f"{n:,} GPU{'' if n == 1 else 's'}"


def _number(value: float) -> str:
    """Give three digits, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 1:
        return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{value:.3g}"


def _duration(seconds: float) -> str:
    """Give a time in the unit that is usual for it; long ones in days as well."""
    hours = seconds / 3600
    if seconds < 120:
        return f"{_number(seconds)} seconds"
    if hours < 2:
        return f"{_number(seconds / 60)} minutes"
    return f"{_number(hours)} hours" + (f" ({_number(hours / 24)} days)" if hours >= 72 else "")
