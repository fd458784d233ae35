"""Lay out what `doctor` found out about a machine, as text in sections."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from features.backends.choice import Choice
from features.base.shown import printable, size
from pipeline.doctor.diagnosis import Diagnosis, Place, Taken
from pipeline.report.layout import table, wrapped_text


def diagnosis_text(found: Diagnosis) -> str:
    """Lay out what was found out about a machine, in sections."""
    machine = {
        "processor": str(found.machine["processor"]),
        "instruction sets": ", ".join(found.machine["instruction_sets"]) or "none that matter",
        "cores": f"{found.machine['cores']:,}",
        "settings": ", ".join(f"{k}={v}" for k, v in found.machine["settings"].items()) or "none",
        "devices": "; ".join(
            " ".join([d.name, d.model, size(d.memory_bytes) if d.memory_bytes else ""]).strip()
            for d in found.devices
        )
        or f"none: {found.reason}",
    }
    models = found.models
    places = {
        models.name: models.folder or models.reason,
        **({"not used": models.unused} if models.unused else {}),
        "packaged": models.packaged,
        **{place.what: _place(place) for place in found.places},
    }
    if models.hub_offline:
        places["hub"] = "HF_HUB_OFFLINE is set, so that nothing is fetched"
    sections = {
        "Machine": wrapped_text(machine),
        "Versions": wrapped_text(found.versions),
        "Models": wrapped_text(places),
    }
    if found.products:
        title = "GFLOP/s a core (GOP/s in int8), products of {:,} x {:,}".format(*found.widths)
        sections[title] = _by_dtype(
            {
                (f"{p.library} {p.kernels}", p.dtype): f"{p.rate:,.1f}" if p.rate else "-"
                for p in found.products
            }
        )
    if found.trial:
        several = len({m.device for m in found.trial}) > 1

        def way(m: Any) -> str:
            return f"{m.backend} on {m.device}" if several else str(m.backend)

        rates = {
            (way(m), m.dtype): "-" if m.reason else f"{m.tweets_per_second:,.0f}"
            for m in found.trial
        }
        missing = {f"{way(m)} {m.dtype}": m.reason for m in found.trial if m.reason}
        sections[f"Tweets/s with {models.name}, from text to vector"] = _by_dtype(rates) + (
            f"\n{wrapped_text(missing)}" if missing else ""
        )
    if found.auto is not None:
        sections["What `auto` takes"] = wrapped_text(_taken(found.auto))
        if found.auto.choice is not None and found.auto.choice.left_out:
            sections["What its trial left out"] = wrapped_text(found.auto.choice.left_out)
    return "\n\n".join(f"{printable(title)}\n{text}" for title, text in sections.items())


def choice_text(choice: Choice) -> str:
    """Lay out every way to run a model that was tried, the fastest first, and what is taken."""
    taken = str(choice.candidate)
    rates = sorted(choice.rates.items(), key=lambda item: -item[1])
    rows = [[name, f"{rate:,.0f}", "chosen" if name == taken else ""] for name, rate in rates]
    if taken not in choice.rates:
        rows.insert(0, [taken, "-", "chosen"])
    measured = " (measured in an earlier run)" if choice.remembered else ""
    text = f"What runs the model{measured}\n{table([['', 'tweets/s', ''], *rows])}"
    return text + (f"\n{wrapped_text(choice.left_out)}" if choice.left_out else "")


def _taken(auto: Taken) -> dict[str, str]:
    """Say what is taken, and why."""
    choice = auto.choice
    if choice is None:
        return {"nothing": auto.reason}
    return {
        "takes": f"{choice.candidate} on {auto.device}",
        "gives": f"{auto.tweets_per_second:,.0f} tweets/s from text to vector",
        "chosen": choice.summary(),
        "measured": "in an earlier run (remembered)" if choice.remembered else "in this run",
        "batches": f"{choice.max_batch_tokens:,} tokens, {choice.streams} at a time",
    }


def _place(place: Place) -> str:
    parts = [place.path]
    if place.bytes is not None:
        parts.append(f"{size(place.bytes)} in it")
    if place.free_bytes is not None:
        parts.append(f"{size(place.free_bytes)} free")
    return ", ".join(parts)


def _by_dtype(cells: Mapping[tuple[str, str], str]) -> str:
    """Lay out cells by row and precision; empty where there is none."""
    rows = list(dict.fromkeys(row for row, _ in cells))
    dtypes = list(dict.fromkeys(dtype for _, dtype in cells))
    lines = [[row, *(cells.get((row, dtype), "") for dtype in dtypes)] for row in rows]
    return textwrap.indent(table([["", *dtypes], *lines]), "  ")
