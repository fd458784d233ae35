"""Time packed attention of texts of one length on the CPU, beside torch's own unpadded kernel.

    python benchmarks/attention.py [--tokens 4096] [--dtype bfloat16] [--rounds 9]

One thread, as a stream of the encoder has; 12 heads of 32 values, as in all-MiniLM-L6-v2. Medians
of interleaved rounds, in milliseconds; the ratio is torch's time over ours.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import click
import torch
from torch.nn import functional

from features.backends.eager.packed_attention import Packing, packed_attention, packing

HEADS, WIDTH = 12, 32
LENGTHS = (5, 10, 15, 16, 20, 25, 30, 32, 40, 50, 64, 90, 120)


@click.command()
@click.option("--tokens", default=4096, show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="bfloat16")
@click.option("--rounds", default=9, show_default=True)
def main(tokens: int, dtype: str, rounds: int) -> None:
    """Print a line a length."""
    torch.set_num_threads(1)
    click.echo(
        f"{'tokens a text':>13}  {'torch':>7}  {'packed':>7}  ratio   ({dtype}, {tokens} tokens)"
    )
    for length in LENGTHS:
        n = tokens // length
        joint = torch.randn(1, n * length, 3 * HEADS * WIDTH).to(getattr(torch, dtype))
        query, key, value = (
            part.view(1, n * length, HEADS, WIDTH).transpose(1, 2)
            for part in joint.split(HEADS * WIDTH, dim=-1)
        )

        def stock(
            parts: tuple[torch.Tensor, ...] = (query, key, value), shape: int = length
        ) -> torch.Tensor:
            texts = [part[0].view(HEADS, -1, shape, WIDTH).transpose(0, 1) for part in parts]
            return functional.scaled_dot_product_attention(*texts).transpose(1, 2).contiguous()

        def packed(
            parts: tuple[torch.Tensor, ...] = (query, key, value),
            texts: Packing = Packing((length,) * n),  # noqa: B008 - of this round of the loop
        ) -> torch.Tensor:
            with packing(texts):
                return packed_attention(torch.nn.Identity(), *parts, None)[0]

        theirs, ours = medians([stock, packed], rounds)
        click.echo(f"{length:13}  {theirs:7.2f}  {ours:7.2f}  {theirs / ours:5.2f}")


def medians(calls: list[Callable[[], torch.Tensor]], rounds: int) -> list[float]:
    """Milliseconds of each call."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, times in zip(calls, taken, strict=True):
            start = time.perf_counter()
            call()
            times.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(times[1:]) for times in taken]  # the first round warms up


if __name__ == "__main__":
    main()
