"""How fast tweets become vectors, beside sentence-transformers, in interleaved rounds of one run.

    python benchmarks/extract.py TWEETS.csv [--limit 2000] [--rounds 5]

Same texts, same weights, same pooling (mean of the last layer). sentence-transformers runs `encode`
with its default settings. Every round runs every contender once; the figures are medians, the ratios
are to sentence-transformers. Timings on a busy machine scatter: compare within one run only.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import click
import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from features import FrozenEncoder
from features.checkpoint import DEFAULT_MODEL, find_checkpoint
from features.tweets import Tweet, TweetReader


@click.command()
@click.argument("tweets", type=click.Path(exists=True, path_type=Path))
@click.option("--limit", default=2000, show_default=True, help="Tweets to encode.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--model", default=DEFAULT_MODEL, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--batch-tokens", type=int, multiple=True, help="Budgets to try [the default].")
def main(
    tweets: Path, limit: int, rounds: int, model: str, device: str, batch_tokens: Sequence[int]
) -> None:
    """Time `FrozenEncoder.encode` beside `SentenceTransformer.encode`."""
    rows = (row for row in TweetReader([tweets]) if isinstance(row, Tweet))
    texts = [row.text for row in islice(rows, limit)]
    contenders: dict[str, Callable[[], np.ndarray]] = {}
    for dtype in ("float32", "auto"):
        for budget in batch_tokens or (None,):
            encoder = FrozenEncoder(
                model, pooling="mean", normalize="none", max_length=256, dtype=dtype, device=device,
                max_batch_tokens=budget,
            )  # fmt: skip
            name = f"frostline {encoder.dtype}" + (f", {budget} tokens" if budget else "")
            contenders[name] = lambda encoder=encoder: encoder.encode(texts)["mean"]
    peer = SentenceTransformer(str(find_checkpoint(model).folder), device=str(encoder.device))
    contenders = {"sentence-transformers": lambda: peer.encode(texts), **contenders}

    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    vectors: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, encode in contenders.items():
            start = time.perf_counter()
            vectors[name] = encode()
            seconds[name].append(time.perf_counter() - start)

    print(f"{len(texts)} tweets of {tweets.name}, {len(set(texts))} different; {encoder.device}, "
          f"{torch.get_num_threads()} threads, {rounds} rounds")  # fmt: skip
    print("| | tweets/s | ratio | cosine to sentence-transformers, mean | least |")
    print("|---|---|---|---|---|")
    slowest = statistics.median(seconds["sentence-transformers"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        cosine = cosines(vectors[name], vectors["sentence-transformers"])
        print(f"| {name} | {len(texts) / median:,.0f} | {slowest / median:.2f} | "
              f"{cosine.mean():.6f} | {cosine.min():.6f} |")  # fmt: skip


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows."""
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


if __name__ == "__main__":
    main()
