"""What `auto` takes under restricted instruction sets, beside every candidate taken by hand.

    python benchmarks/choice.py TWEETS.csv [--limit 500] [--rounds 3] [--model bert-base]

oneDNN is held to the instruction sets of older processors (`ONEDNN_MAX_CPU_ISA`), one setting after
the other, and then to none. Under each, `auto` and every backend and precision that it could have
taken live in processes of their own, with a cache that is empty at first; a round is from texts to
vectors, rounds are interleaved, figures are medians. Half precision that does not keep its vectors
is no candidate. What is not ready in time, or is several times slower than `auto`, is ended: on a
processor without kernels for it, half precision stands still. Compare within one setting only.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
from extract import MAKING_MODEL, REST, Answer, Worker, finding, mean_cosine, once
from material import read_texts
from peers import MAX_LENGTH, Unavailable

from features.base.machine import n_cores, processor, versions
from features.encoder.probe_texts import PROBE_TEXTS

VARIABLE = "ONEDNN_MAX_CPU_ISA"
# An older name of it, which would be heeded where the first is not set.
OLD_VARIABLE = "DNNL_MAX_CPU_ISA"
UNSET = "unset"
# Settings, each with the instruction set that a processor must have for it, as in /proc/cpuinfo.
SETTINGS = {
    "AVX2": "avx2",
    "AVX2_VNNI": "avx_vnni",
    "AVX512_CORE": "avx512f",
    "AVX512_CORE_VNNI": "avx512_vnni",
    "AVX512_CORE_BF16": "avx512_bf16",
    UNSET: "",
}
AUTO = ("auto", "auto")
# Backend and dtype of what `auto` may take on a CPU; which kernels torch uses is its own choice.
CANDIDATES = (
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("torch", "float16"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
    ("onnx", "float32"),
)
# Half precision must keep it to be taken; what is measured is the rate `auto` must reach.
LEAST_COSINE, LEAST_RATIO = 0.9999, 0.95
# Not the fastest: a candidate that takes so many times as long as `auto`, and some seconds.
FAR_SLOWER, PATIENCE = 4.0, 10.0
VERSIONS = ("torch", "openvino", "onnxruntime", "transformers")


def encoding(folder: Path, backend: str, dtype: str, texts: list[str]) -> Answer:
    """In a process of its own: answers `taken`, `probe` and `round`."""
    from features import FrozenEncoder

    encoder = FrozenEncoder(
        folder, pooling="mean", max_length=MAX_LENGTH, dtype=dtype, device="cpu", backend=backend
    )

    def answer(request: str) -> Any:
        if request == "taken":
            return str(encoder.choice.candidate)
        if request == "probe":
            return encoder.encode(PROBE_TEXTS)["mean"]
        start = time.perf_counter()
        encoder.encode(texts)
        return time.perf_counter() - start

    return answer


@dataclass
class Way:
    """One way to run the model under a setting: its process, or why it is out, and its rounds."""

    backend: str
    dtype: str
    worker: Worker | None = None
    taken: str = ""
    reason: str = ""
    seconds: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What was asked for."""
        return "auto" if (self.backend, self.dtype) == AUTO else f"{self.backend} {self.dtype}"

    @property
    def median(self) -> float:
        """Seconds of a round."""
        return statistics.median(self.seconds)

    def ask(self, request: str, limit: float) -> Any:
        """Ask the process; None if it fails, which puts this way out."""
        if self.worker is None:
            return None
        try:
            return self.worker.ask(request, limit)
        except Unavailable as error:
            self.worker, self.reason = None, str(error)
            return None

    def leave_out(self, reason: str) -> None:
        """Put it out, and end its process."""
        if self.worker is not None:
            self.worker.close()
        self.worker, self.reason = None, reason


@dataclass(frozen=True)
class Limits:
    """Seconds for a way to get ready, and when the whole setting must be through."""

    ready: float
    until: float

    def of(self, seconds: float) -> float:
        """So many seconds, or as many as are left."""
        return max(0.0, min(seconds, self.until - time.perf_counter()))


@click.command()
@click.argument("tweets", type=click.Path(exists=True, path_type=Path))
@click.option("--limit", default=500, show_default=True, help="Different texts to encode.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--model", default="all-MiniLM-L6-v2", show_default=True, help="Or bert-base.")
@click.option(
    "--setting", "names", type=click.Choice(list(SETTINGS)), multiple=True, default=list(SETTINGS),
    help="Of oneDNN; default: all that this processor has.",
)  # fmt: skip
@click.option("--ready-seconds", default=60.0, show_default=True, help="For one way to get ready.")
@click.option("--limit-seconds", default=240.0, show_default=True, help="For a setting.")
def main(
    tweets: Path, limit: int, rounds: int, model: str, names: Sequence[str],
    ready_seconds: float, limit_seconds: float,
) -> None:  # fmt: skip
    """Compare what `auto` takes with what it could have taken, on the texts of TWEETS."""
    texts = read_texts(tweets, limit)
    if not texts:
        raise click.UsageError("it takes at least one text")
    name, instruction_sets = processor()
    found: dict[str, list[Way]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = once(partial(finding, model, Path(scratch)), MAKING_MODEL)
        except Unavailable as error:
            raise click.ClickException(str(error)) from error
        for setting in names:
            needed = SETTINGS[setting]
            if needed and needed not in instruction_sets:
                print(f"{setting}: this processor has no {needed}", flush=True)
                continue
            limits = Limits(ready_seconds, time.perf_counter() + limit_seconds)
            found[setting] = measured(setting, folder, texts, rounds, limits)
    print(f"\n{name}, {n_cores()} cores: {' '.join(instruction_sets)}")
    print(", ".join(f"{package} {v}" for package, v in versions(VERSIONS).items()))
    print(f"{model}, {len(texts):,} texts of {tweets.name}, rounds: {rounds}\n")
    print("\n".join([*table(found, len(texts)), "", *details(found, len(texts)), "", claim(found)]))


def measured(
    setting: str, folder: Path, texts: list[str], rounds: int, limits: Limits
) -> list[Way]:
    """Time all ways under a setting; `auto` is the first of them."""
    ways = [Way(backend, dtype) for backend, dtype in (AUTO, *CANDIDATES)]
    auto = ways[0]
    with tempfile.TemporaryDirectory() as cache:
        isa = None if setting == UNSET else setting
        with environment({VARIABLE: isa, OLD_VARIABLE: None, "FROSTLINE_CACHE": cache}):
            patience = limits.ready
            for way in ways:
                print(f"{setting}: loading {way.name} …", flush=True)
                seconds = warmed_up(way, folder, texts, limits, patience)
                if way is auto:
                    if seconds is None:
                        return ways  # nothing to compare with
                    patience = max(PATIENCE, FAR_SLOWER * seconds)
        keep_candidates(ways, limits)
        for number in range(1, rounds + 1):
            # A round that is not run to its end would leave some out for being the last in it.
            if limits.of(patience) < patience:
                break
            print(f"{setting}: round {number} of {rounds} …", flush=True)
            for way in ways:
                time.sleep(REST)
                if (seconds := way.ask("round", limits.of(patience))) is not None:
                    way.seconds.append(seconds)
        for way in ways:
            if way.worker is not None:
                way.worker.close()
    return ways


def warmed_up(
    way: Way, folder: Path, texts: list[str], limits: Limits, patience: float
) -> float | None:
    """Load it and run all texts once; give the seconds of that, or None where it is out."""
    if not limits.of(limits.ready):
        way.reason = "no time was left"
        return None
    try:
        make = partial(encoding, folder, way.backend, way.dtype, texts)
        way.worker = Worker(make, limits.of(limits.ready))
    except Unavailable as error:
        way.reason = f"loading: {error}"
        return None
    way.taken = way.ask("taken", limits.of(PATIENCE)) or ""
    seconds = way.ask("round", limits.of(patience))
    if seconds is None:
        way.reason = f"warming up: {way.reason}"
    return seconds


def keep_candidates(ways: Sequence[Way], limits: Limits) -> None:
    """Leave out half precision that does not keep the vectors of torch in float32."""
    exact = next(way for way in ways if (way.backend, way.dtype) == ("torch", "float32"))
    expected = exact.ask("probe", limits.of(PATIENCE))
    for way in ways:
        if way.dtype in ("auto", "float32") or way.worker is None:
            continue
        vectors = way.ask("probe", limits.of(PATIENCE))
        if vectors is None or expected is None:
            continue
        cosine = mean_cosine(expected, vectors)
        if not cosine >= LEAST_COSINE:
            way.leave_out(f"no candidate: its vectors keep a cosine of {cosine:.5f}")


@contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables for the processes that are started inside, or unset those that are None."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            with suppress(KeyError):
                del os.environ[name]
        else:
            os.environ[name] = value


def ratio(ways: Sequence[Way]) -> float | None:
    """The rate of `auto` over that of the fastest candidate; None where one was not measured."""
    fastest = fastest_of(ways)
    return fastest.median / ways[0].median if fastest and ways[0].seconds else None


def fastest_of(ways: Sequence[Way]) -> Way | None:
    """The fastest that was taken by hand, and ran to the end."""
    through = [way for way in ways[1:] if way.seconds and not way.reason]
    return min(through, key=lambda way: way.median, default=None)


def table(found: Mapping[str, Sequence[Way]], n_texts: int) -> list[str]:
    """A row a setting."""
    lines = [
        f"| {VARIABLE} | auto took | its tweets/s | fastest candidate | its tweets/s | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for setting, ways in found.items():
        auto, fastest, value = ways[0], fastest_of(ways), ratio(ways)
        cells = [
            setting,
            auto.taken or auto.reason,
            rate(auto, n_texts),
            fastest.taken if fastest else "none",
            rate(fastest, n_texts) if fastest else "",
            "" if value is None else f"{value:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def details(found: Mapping[str, Sequence[Way]], n_texts: int) -> list[str]:
    """Of each setting, the rates of all ways, and why some are out."""
    lines = []
    for setting, ways in found.items():
        rates = [
            f"{way.name} ({way.taken}) {rate(way, n_texts)}"
            for way in sorted((way for way in ways if way.seconds), key=lambda way: way.median)
        ]
        lines.append(f"- {setting}: {'; '.join(rates) or 'nothing was measured'}")
        lines += [f"  - {way.name}: {way.reason}" for way in ways if way.reason]
    return lines


def rate(way: Way, n_texts: int) -> str:
    """Tweets a second."""
    return f"{n_texts / way.median:,.0f}" if way.seconds else ""


def claim(found: Mapping[str, Sequence[Way]]) -> str:
    """What is claimed, and whether this run shows it."""
    ratios = {setting: ratio(ways) for setting, ways in found.items()}
    failing = [s for s, value in ratios.items() if value is not None and value < LEAST_RATIO]
    missing = [setting for setting, value in ratios.items() if value is None]
    verdict = "FAILS under " + ", ".join(failing) if failing else "holds"
    if len(missing) == len(ratios):
        verdict = "not measured"
    elif missing:
        verdict += "; not measured under " + ", ".join(missing)
    return f"Claim: ratio at least {LEAST_RATIO:g}: {verdict}"


if __name__ == "__main__":
    main()
