"""What `extract.py` measured, as tables, claims and figures for a file. It measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import REFERENCE, Contender

from features.base.machine import n_cores, processor, settings, versions

CLASSES = ("float32", "half", "int8")
GEMM_SIZE = 4096
VERSIONS = ("torch", "openvino", "onnxruntime", "sentence-transformers", "transformers", "numpy")


@dataclass
class Measured:
    """A contender, why it did not run (to the end), what runs it, and what was measured of it."""

    contender: Contender
    reason: str | None = None
    chosen: str | None = None
    seconds: list[float] = field(default_factory=list)
    cosine: float | None = None
    peak: float | None = None

    @property
    def median(self) -> float:
        """Seconds of a round."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Setting:
    """What all entries have in common; `gemm` has the GFLOP/s of the products that were timed."""

    model: str
    device: str
    texts: int
    tokens: int
    flop_per_token: int
    gemm: dict[str, float]


def heading(setting: Setting, tweets: Path, rounds: int) -> list[str]:
    """What was run on what."""
    name, instruction_sets = processor()
    found = versions(VERSIONS)
    said = settings()
    return [
        "",
        f"{name}, {n_cores()} cores: {' '.join(instruction_sets) or 'instruction sets not known'}",
        "Environment: " + (" ".join(f"{k}={v}" for k, v in said.items()) or "nothing set"),
        ", ".join(f"{package} {found.get(package, 'not installed')}" for package in VERSIONS),
        "",
        f"{setting.model} ({setting.flop_per_token / 1e6:.1f} MFLOP a token), "
        f"{setting.texts:,} texts of {tweets.name}, "
        f"{setting.tokens / setting.texts:.1f} tokens on average, {setting.device}, "
        f"{rounds} rounds",
        f"One {GEMM_SIZE}^3 product in torch, GFLOP/s: {_product(setting, 'float32')} in float32, "
        f"{_product(setting, 'half')} in {_half(setting)}",
    ]


def table(entries: Sequence[Measured], precision: str, setting: Setting) -> list[str]:
    """One class: a row a contender."""
    in_class = [e for e in entries if e.contender.precision == precision]
    if not in_class:
        return []
    slowest = _median(entries, REFERENCE)
    best = _best_peer(entries, precision)
    peak = setting.gemm.get("float32" if precision == "float32" else "half")
    of = "float32" if precision == "float32" else _half(setting)
    lines = [
        "",
        f"**{precision}**",
        "",
        f"| | tweets/s | tokens/s | ÷ sentence-transformers float32 | ÷ best peer | useful GFLOP/s "
        f"| % of {of} GEMM | cosine to float32 | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in in_class:
        if not entry.seconds:
            lines.append(f"| {entry.contender.name} | {entry.reason} |" + " |" * 7)
            continue
        useful = setting.tokens * setting.flop_per_token / entry.median / 1e9
        cells = [
            entry.contender.name + (f" (stopped: {entry.reason})" if entry.reason else ""),
            f"{setting.texts / entry.median:,.0f}",
            f"{setting.tokens / entry.median:,.0f}",
            _ratio(slowest, entry.median),
            _ratio(best, entry.median),
            f"{useful:,.0f}",
            "" if peak is None else f"{100 * useful / peak:.0f}",
            "" if entry.cosine is None else f"{entry.cosine:.6f}",
            "" if entry.peak is None else f"{entry.peak:,.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def chosen(entries: Sequence[Measured]) -> list[str]:
    """What runs each contender, as it said itself."""
    lines = [f"- {e.contender.name}: {e.chosen}" for e in entries if e.chosen is not None]
    return ["", "Chosen:", "", *lines] if lines else []


def claims(entries: Sequence[Measured]) -> list[str]:
    """What is claimed of each class, and whether this run shows it."""
    lines = ["", "Claims:"]
    for entry in (e for e in entries if e.contender.ours and e.seconds):
        for what, figure, least in _claimed(entry, entries):
            verdict = "not measured" if figure is None else "holds" if figure >= least else "FAILS"
            shown = "" if figure is None else f"{figure:.6g}, " if figure < 1 else f"{figure:.2f}, "
            lines.append(f"- {entry.contender.name}: {what}: {shown}at least {least:g}: {verdict}")
    return lines


def _claimed(entry: Measured, entries: Sequence[Measured]) -> list[tuple[str, float | None, float]]:
    """What, the figure of this run if there is one, and the least that is claimed."""

    def over(theirs: float | None) -> float | None:
        return None if theirs is None else theirs / entry.median

    name, precision = entry.contender.name, entry.contender.precision
    cosine = {"float32": 0.99999, "half": 0.9999, "int8": 0.99}[precision]
    found: list[tuple[str, float | None, float]] = [("cosine to float32", entry.cosine, cosine)]
    if precision == "int8":
        found.append(("÷ ONNX Runtime int8", over(_median(entries, "ONNX Runtime int8")), 1.10))
        half = name.replace("int8", "half")
        if (seconds := _median(entries, half)) is not None:
            found.append((f"÷ {half}", over(seconds), 1.0))
    else:
        least = {"float32": 1.0, "half": 1.10}[precision]
        found.append(("÷ best peer", over(_best_peer(entries, precision)), least))
    return found


def _best_peer(entries: Sequence[Measured], precision: str) -> float | None:
    """Seconds of the fastest in a class that is not ours."""
    peers = (e for e in entries if e.contender.precision == precision and not e.contender.ours)
    return min((e.median for e in peers if e.seconds), default=None)


def _median(entries: Sequence[Measured], name: str) -> float | None:
    return next((e.median for e in entries if e.contender.name == name and e.seconds), None)


def _ratio(theirs: float | None, seconds: float) -> str:
    return "" if theirs is None else f"{theirs / seconds:.2f}"


def _product(setting: Setting, name: str) -> str:
    return f"{setting.gemm[name]:,.0f}" if name in setting.gemm else "not measured"


def _half(setting: Setting) -> str:
    return "float16" if setting.device == "cuda" else "bfloat16"


def figures(entries: Sequence[Measured], setting: Setting) -> dict[str, Any]:
    """Everything that was measured, for a file."""
    name, instruction_sets = processor()
    return {
        "model": setting.model,
        "device": setting.device,
        "processor": name,
        "instruction_sets": list(instruction_sets),
        "cores": n_cores(),
        "settings": settings(),
        "versions": versions(VERSIONS),
        "texts": setting.texts,
        "tokens": setting.tokens,
        "flop_per_token": setting.flop_per_token,
        "gemm_gflops": setting.gemm,
        "contenders": [
            {
                "name": entry.contender.name,
                "class": entry.contender.precision,
                "unavailable": entry.reason,
                "chosen": entry.chosen,
                "seconds": entry.seconds,
                "tweets_per_second": setting.texts / entry.median if entry.seconds else None,
                "cosine": entry.cosine,
                "peak_mib": entry.peak,
            }
            for entry in entries
        ],
    }
