"""An exported graph beside `predict`: its size, how soon it is ready, its rate, how close it is.

    python benchmarks/export.py HEAD TWEETS [--limit 1000]

The graph runs as docs/export.md shows: texts in the order in which they come, 32 at a time, padded
to the longest. `predict` sorts and packs them, in float32. Medians of interleaved rounds; compare
within one run only.
"""

from __future__ import annotations

import runpy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import onnxruntime
import tokenizers

from features.backends.choice import Runtime
from features.backends.registry import BACKENDS
from features.tweets.reader import Tweet, TweetReader
from pipeline.export.export import export
from pipeline.head.head import Head, load_head
from pipeline.scoring.predict import encode_for, encoders_for

BATCH = 32
Scores = npt.NDArray[np.floating]


@click.command()
@click.argument("head", type=click.Path(path_type=Path))
@click.argument("tweets")
@click.option("--limit", default=1000, show_default=True, help="Tweets to score.")
@click.option("--rounds", default=5, show_default=True)
def main(head: Path, tweets: str, limit: int, rounds: int) -> None:
    """Export a head, and time its graph and `predict` on the same tweets."""
    fitted = load_head(head)
    texts = [row.text for row in TweetReader([tweets]) if isinstance(row, Tweet)][:limit]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "exported"
        exporting = seconds(lambda: export(fitted, folder))
        opening = seconds(lambda: graph(folder))
        size = (folder / "onnx" / "model.onnx").stat().st_size
        ways = {"the graph": graph(folder)}
        ways |= {f"predict --backend {name}": predicting(fitted, name) for name in BACKENDS}
        found = {name: way(texts) for name, way in ways.items()}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                times[name].append(seconds(lambda way=way: way(texts)))
    click.echo(f"{size / 1e6:,.1f} MB, exported in {exporting:.1f} s, opened in {opening:.2f} s")
    click.echo(f"{len(texts):,} texts; median of {rounds} rounds, texts/s; largest difference")
    for name, each in times.items():
        apart = np.abs(found[name] - found["predict --backend torch"]).max()
        click.echo(f"  {name:<28} {len(texts) / statistics.median(each):7,.0f} {apart:9.1e}")


def seconds(run: Callable[[], object]) -> float:
    """Time a call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def graph(folder: Path) -> Callable[[list[str]], Scores]:
    """Open an export as somebody without frostline does."""
    prepare = runpy.run_path(str(folder / "prepare.py"))["prepare"]
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx")

    def score(texts: list[str]) -> Scores:
        found = []
        for start in range(0, len(texts), BATCH):
            read = tokenizer.encode_batch([prepare(text) for text in texts[start : start + BATCH]])
            given = {
                "input_ids": np.array([one.ids for one in read]),
                "attention_mask": np.array([one.attention_mask for one in read]),
            }
            found.append(session.run(["probabilities"], given)[0])
        return np.concatenate(found)

    return score


def predicting(head: Head, backend: str) -> Callable[[list[str]], Scores]:
    """Load the encoders of a head as `predict` does, in float32."""
    sources = tuple(replace(source, precision="float32") for source in head.sources)
    head = replace(head, sources=sources)
    encoders = encoders_for(head, runtime=Runtime(backend=backend))
    return lambda texts: head.predict_proba(encode_for(head, texts, encoders))


if __name__ == "__main__":
    main()
