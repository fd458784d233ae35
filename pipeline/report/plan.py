"""Lay out a plan as text: how long, how large, what binds, and what all of it assumes."""

from __future__ import annotations

from collections.abc import Sequence

from features.base import shown
from features.base.shown import printable
from pipeline.plan.fit_cost import FitCost
from pipeline.plan.plan import Plan, Scale
from pipeline.plan.rates import DISK_TIMES, Machines
from pipeline.plan.runs import DEATHS_AT_ONE, Simulated
from pipeline.plan.shards import SHARD_SECONDS
from pipeline.report.layout import table, wrapped_text

_PART_OF = {
    "reading": "rows read, normalised and hashed",
    "tokenising": "texts turned into token ids",
    "device": "the model and its poolings",
    "writing": "journal, file, reading back, seal",
    "network": "between worker and storage",
    "disk": "the workers' share of the disk",
}
_HELPS = {
    "reading": "one thread of a worker reads, so more workers on each GPU help",
    "tokenising": "more cores for each GPU help",
    "device": "faster GPUs help, or more of them",
    "writing": "a faster disk helps",
    "network": "a faster network helps",
    "disk": "a faster disk for all workers helps, and more GPUs do not",
}
# Of what is measured, as little as still tells what all of it is like.
_FEW_ROWS, _FEW_TEXTS = 1_000, 100
# Of the run, as much as finding where rows end may take before it is a warning.
_LONG_SEARCH = 0.05
# Memory of a fit in one process that not every machine has.
_MUCH_MEMORY = 64e9


def plan_text(plan: Plan) -> str:
    """Lay out a plan in sections."""
    sections = {f"{plan.rows:,} row{_s(plan.rows)} on {_fleet(plan)}": wrapped_text(_run(plan))}
    if warnings := _warnings(plan):
        sections["Look at this"] = "\n".join(warnings)
    sections |= {
        "Seconds of a worker for a million rows": wrapped_text(_parts(plan)),
        "On disk": wrapped_text(_store(plan)),
        "Measured": wrapped_text(_measured(plan)),
    }
    if plan.fit is not None:
        sections["A fit with C chosen"] = wrapped_text(_fit(plan, plan.fit))
    sections["What this assumes"] = wrapped_text(_assumptions(plan))
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
    runs = plan.simulated
    low, median, high = (3600 * runs.wall_hours[name] for name in ("p5", "median", "p95"))
    unit = _unit(median)
    facts = {
        "texts to encode": f"{plan.distinct:,} ({plan.figures.distinct_share:.1%} are distinct)",
        "tokens": f"{plan.tokens:,}",
        "rows a second": f"{_number(plan.rows_per_second)}, by all workers",
        "time": f"{_duration(median)}{_days(median)}, the median of {runs.runs:,} simulated "
        f"run{_s(runs.runs)} (5 % to 95 %: {_number(low / unit[0])} to {_duration(high, unit)}); "
        f"{_duration(3600 * plan.ideal_hours, unit)} if nothing happens",
    }
    if plan.search_hours:
        facts["before that"] = (
            f"{_duration(3600 * plan.search_hours)}, in which one process finds where the rows of "
            f"large files end; nothing for files of {plan.shards.rows:,} rows each, or in Parquet"
        )
    facts |= {
        "lost": f"{_lost(runs)}; {runs.efficiency:.1%} of the workers' time is work",
        "binds": f"{plan.seconds.binds}; {_helps(plan)}",
        "shards": f"{plan.shards.count:,} of {plan.shards.rows:,} row{_s(plan.shards.rows)}, "
        f"{_size(round(plan.bytes.row * plan.shards.rows))} each ({plan.shards.because})",
    }
    if plan.cost is not None:
        price = plan.machines.price_per_gpu_hour
        facts["cost"] = (
            f"{plan.cost:,.2f}, at {price:,g} an hour for each of {_fleet(plan)}, until the end"
        )
    return facts


def _lost(runs: Simulated) -> str:
    if not runs.deaths and not runs.doubles:
        return "nothing"
    return (
        f"{runs.lost_share:.2%} of the work by {_count(runs.deaths)} deaths of workers, "
        f"{runs.doubled_share:.2%} by {_count(runs.doubles)} doubles of slow shards"
    )


def _helps(plan: Plan) -> str:
    if _is_of_processor(plan) and plan.seconds.binds == "device":
        return "more or faster cores help, or GPUs"
    return _HELPS[plan.seconds.binds]


def _parts(plan: Plan) -> dict[str, str]:
    parts = {name: one for name, one in plan.seconds.parts.items() if one}
    seconds = [_number(1e6 * one) for one in (*parts.values(), plan.seconds.total)]
    texts = [*(_PART_OF[name] for name in parts), _together(plan)]
    width = max(map(len, seconds))
    return {
        name: f"{one.rjust(width)}  {text}"
        for name, one, text in zip((*parts, "together"), seconds, texts, strict=True)
    }


def _together(plan: Plan) -> str:
    if plan.seconds.binds == "disk":
        return "all wait for the disk"
    if _is_of_processor(plan):
        return "all share the cores"
    return "the slowest of the first three, and the rest"


def _store(plan: Plan) -> dict[str, str]:
    found, dtype = plan.bytes, plan.figures.store_dtype
    other = {one: n for one, n in found.by_dtype.items() if one != dtype}
    return {
        **{
            printable(f"{view} ({plan.figures.views[view]:,} columns)"): _size(n)
            for view, n in found.views.items()
        },
        "ids, labels, digests": _size(found.columns),
        f"all, in {dtype}": f"{_size(found.total)}, {found.row:,.0f} bytes a row",
        **{f"all, in {one}": _size(n) for one, n in other.items()},
        "more while it is made": f"{_size(found.journals)}, of shards at work",
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
        f"{found.distinct:,} distinct text{_s(found.distinct)} of {found.tokens:.1f} tokens, "
        f"{found.encoded:,} encoded",
        "a second": f"{found.rows_read:,.0f} rows read, {found.texts_tokenised:,.0f} texts "
        f"tokenised, {found.tokens_encoded:,.0f} tokens encoded, "
        f"{_size(round(found.bytes_written))} written",
    }


def _fit(plan: Plan, fit: FitCost) -> dict[str, str]:
    view = max(plan.figures.views, key=plan.figures.views.__getitem__)
    return {
        "rows": f"{fit.rows:,} with a label; {fit.classes:,} classes",
        "view": printable(f"{view} ({fit.columns:,} columns)"),
        "passes": f"about {fit.passes:,}, "
        f"{'in memory after the first' if fit.in_memory else 'each read from the disk'}, by "
        f"{fit.workers:,} worker{_s(fit.workers)}",
        "takes": f"about {_duration(fit.seconds)}; of these {_duration(fit.own_seconds)} in the "
        f"command itself, which cuts folds and judges each C in {_size(fit.own_bytes)} of memory",
    }


def _warnings(plan: Plan) -> list[str]:
    found = plan.figures
    warnings = []
    if _is_of_processor(plan):
        warnings.append(
            "! No GPU was measured: these are figures of a processor, which say nothing of a GPU. "
            "Run this command where the GPUs are, with `json_file`, and plan anywhere with "
            "`measured`; or give `tokens_per_second`."
        )
    if found.rows < _FEW_ROWS and plan.rows > found.rows:
        warnings.append(
            f"! The sample has {found.rows:,} row{_s(found.rows)}, too few to say what "
            f"{plan.rows:,} are like: name more INPUT."
        )
    if found.encoded < min(_FEW_TEXTS, found.distinct):
        warnings.append(
            f"! The model read {found.encoded:,} text{_s(found.encoded)}, too few to know its "
            "rate: give more `seconds`."
        )
    if found.why_whole:
        warnings.append(
            f"! A file of this kind is read and encoded by one worker, however large it is, as "
            f"{printable(found.why_whole)}: give at least {20 * plan.machines.gpus:,} files."
        )
    if (plan.search_hours or 0) > _LONG_SEARCH * plan.simulated.wall_hours["median"]:
        warnings.append(
            f"! Before {_fleet(plan)} can begin, one process needs "
            f"{_duration(3600 * (plan.search_hours or 0))} to find where the rows of large files "
            f"end: write the input in files of {plan.shards.rows:,} rows, or in Parquet."
        )
    if plan.simulated.stopped_share:
        warnings.append(
            f"! In {plan.simulated.stopped_share:.0%} of the simulated runs {DEATHS_AT_ONE} "
            "workers died at one shard, where a run stops until it is started again: give fewer "
            "`shard_rows`."
        )
    if plan.fit is not None and plan.fit.own_bytes > _MUCH_MEMORY:
        warnings.append(
            f"! A fit on {plan.fit.rows:,} rows needs about {_size(plan.fit.own_bytes)} of memory "
            "in one process: a million rows say as much; `labelled_rows` plans with fewer."
        )
    return warnings


def _is_of_processor(plan: Plan) -> bool:
    return plan.figures.on_cpu and plan.machines.tokens_per_second is None


def _assumptions(plan: Plan) -> dict[str, str]:
    machines, found = plan.machines, plan.figures
    device = "works as what was measured"
    if machines.tokens_per_second is not None:
        device = f"encodes {machines.tokens_per_second:,.0f} tokens a second, as given"
    return {
        "workers": f"each {device}, and has {machines.cores(found):,} "
        f"core{_s(machines.cores(found))} of its own",
        "rows": "all are as long as the first ones, and repeat each other as often; more rows "
        "have more repeats, so that fewer texts are encoded",
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


def _fleet(plan: Plan) -> str:
    n = plan.machines.gpus
    if _is_of_processor(plan):
        return f"{n:,} machine{_s(n)} without a GPU"
    return f"{n:,} GPU{_s(n)}"


def _s(n: int) -> str:
    return "" if n == 1 else "s"


def _count(value: float) -> str:
    """Give a mean of counts."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _size(n_bytes: int) -> str:
    return shown.size(n_bytes) if n_bytes >= 1e5 else f"{n_bytes / 1e3:,.1f} kB"


def _number(value: float) -> str:
    """Give three digits, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 1:
        return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{value:.3g}"


def _unit(seconds: float) -> tuple[int, str]:
    """Give the unit that is usual for a time: its seconds, and its name."""
    if seconds < 120:
        return 1, "seconds"
    return (60, "minutes") if seconds < 7200 else (3600, "hours")


def _duration(seconds: float, unit: tuple[int, str] | None = None) -> str:
    """Give a time, in the unit that is usual for it, or in that of another time beside it."""
    size_of_unit, name = unit or _unit(seconds)
    return f"{_number(seconds / size_of_unit)} {name}"


def _days(seconds: float) -> str:
    """Give a long time in days as well."""
    days = seconds / 86_400
    return f" ({_number(days)} days)" if days >= 3 else ""
