"""What `extract.py` measured, as tables, claims and figures for a file. It measures nothing."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peers import REFERENCE, Contender

CLASSES = ("float32", "half", "int8")
GEMM_SIZE = 4096
VERSIONS = ("torch", "transformers", "sentence-transformers", "onnxruntime", "openvino", "numpy")


@dataclass
class Measured:
    """A contender, why it did not run (to the end), and what was measured of it."""

    contender: Contender
    reason: str | None = None
    seconds: list[float] = field(default_factory=list)
    cosine: float | None = None
    peak: float | None = None

    @property
    def median(self) -> float:
        """Seconds of a round."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Setting:
    """What all entries have in common."""

    model: str
    device: str
    texts: int
    tokens: int
    flop_per_token: int
    gemm: dict[str, float]


def heading(setting: Setting, tweets: Path, rounds: int) -> list[str]:
    """What was run on what."""
    return [
        "",
        f"{setting.model} ({setting.flop_per_token / 1e6:.1f} MFLOP a token), {setting.texts:,} texts "
        f"of {tweets.name}, {setting.tokens / setting.texts:.1f} tokens on average, {setting.device}, "
        f"{rounds} rounds",
        f"One {GEMM_SIZE}^3 product in torch: {setting.gemm['float32']:,.0f} GFLOP/s in float32, "
        f"{setting.gemm['half']:,.0f} in {_half(setting)}",
    ]


def table(entries: Sequence[Measured], precision: str, setting: Setting) -> list[str]:
    """One class: a row a contender."""
    in_class = [e for e in entries if e.contender.precision == precision]
    if not in_class:
        return []
    slowest = _median(entries, REFERENCE)
    best = min((e.median for e in in_class if e.seconds and not e.contender.ours), default=None)
    peak = setting.gemm["float32" if precision == "float32" else "half"]
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
            f"{100 * useful / peak:.0f}",
            "" if entry.cosine is None else f"{entry.cosine:.6f}",
            "" if entry.peak is None else f"{entry.peak:,.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def claims(entries: Sequence[Measured], setting: Setting) -> list[str]:
    """What is claimed of each class, and whether this run shows it."""
    lines = ["", "Claims:"]
    for entry in (e for e in entries if e.contender.ours and e.seconds):
        for what, figure, least in _claimed(entry, entries, setting):
            verdict = "not measured" if figure is None else "holds" if figure >= least else "FAILS"
            shown = "" if figure is None else f"{figure:.6g}, " if figure < 1 else f"{figure:.2f}, "
            lines.append(f"- {entry.contender.name}: {what}: {shown}at least {least:g}: {verdict}")
    return lines


def _claimed(
    entry: Measured, entries: Sequence[Measured], setting: Setting
) -> list[tuple[str, float | None, float]]:
    """What, the figure of this run if there is one, and the least that is claimed."""

    def over(name: str) -> float | None:
        peer = _median(entries, name)
        return None if peer is None else peer / entry.median

    useful = setting.tokens * setting.flop_per_token / entry.median / 1e9
    share = useful / setting.gemm["half"]
    precision = entry.contender.precision
    cosine = {"float32": 0.99999, "half": 0.9999, "int8": 0.99}[precision]
    found: list[tuple[str, float | None, float]] = [("cosine to float32", entry.cosine, cosine)]
    if setting.device == "cuda":
        if precision == "half":
            flattened = "sentence-transformers float16, flattened"
            found.append((f"÷ {flattened}", over(flattened), 2.0))
    elif precision == "float32":
        peers = [
            e.median
            for e in entries
            if e.contender.precision == precision and not e.contender.ours and e.seconds
        ]
        best = min(peers) / entry.median if peers else None
        found += [("÷ best peer", best, 1.05), (f"÷ {REFERENCE}", over(REFERENCE), 2.9)]
    elif precision == "half":
        found += [
            ("÷ OpenVINO bfloat16", over("OpenVINO bfloat16"), 1.10),
            (f"÷ {REFERENCE}", over(REFERENCE), 5.3),
        ]
        if setting.model == "bert-base":
            found.append(("share of the bfloat16 GEMM", share, 0.82))
    else:
        found.append(("÷ ONNX Runtime int8", over("ONNX Runtime int8"), 1.10))
    return found


def _median(entries: Sequence[Measured], name: str) -> float | None:
    return next((e.median for e in entries if e.contender.name == name and e.seconds), None)


def _ratio(theirs: float | None, seconds: float) -> str:
    return "" if theirs is None else f"{theirs / seconds:.2f}"


def _half(setting: Setting) -> str:
    return "float16" if setting.device == "cuda" else "bfloat16"


def figures(entries: Sequence[Measured], setting: Setting) -> dict[str, Any]:
    """Everything that was measured, for a file."""
    return {
        "model": setting.model,
        "device": setting.device,
        "machine": platform.processor() or platform.machine(),
        "versions": {name: _version(name) for name in VERSIONS},
        "texts": setting.texts,
        "tokens": setting.tokens,
        "flop_per_token": setting.flop_per_token,
        "gemm_gflops": setting.gemm,
        "contenders": [
            {
                "name": entry.contender.name,
                "class": entry.contender.precision,
                "unavailable": entry.reason,
                "seconds": entry.seconds,
                "tweets_per_second": setting.texts / entry.median if entry.seconds else None,
                "cosine": entry.cosine,
                "peak_mib": entry.peak,
            }
            for entry in entries
        ],
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
