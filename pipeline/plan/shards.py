"""Choose how many rows a shard is to have.

In go rows, workers and what a row takes; out comes a round number, with what decided it. Small
shards balance the workers and lose little when one dies; large ones open fewer files. Nothing is
simulated here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from features.extraction.windows import WINDOW

# What a worker spends on a shard besides its rows: to open, finish and commit it.
SHARD_SECONDS = 1.0
# Shards for each worker, at least, so that the last ones are a small part of the whole.
PER_WORKER = 20
# What a death may cost at most, and how large a file may get: what one upload takes without parts.
_MOST_SECONDS, _MOST_BYTES = 1800, 4e9
# Shards of a store at most: of those that are chosen, whose receipts open in two seconds, and of
# those that are asked for.
_MOST_SHARDS, MOST_SHARDS = 100_000, 1_000_000


@dataclass(frozen=True)
class Shards:
    """The shards to make: rows of each, how many, and why so."""

    rows: int
    count: int
    because: str


def choose_shards(
    rows: int, workers: int, row_seconds: float, row_bytes: float, failures_per_hour: float
) -> Shards:
    """Choose the largest round number that no limit forbids.

    With deaths at a rate r, each costs half a shard on average, so that shards of
    ``sqrt(2 * SHARD_SECONDS / r)`` seconds cost least (Young, "A first order approximation to the
    optimum checkpoint interval", 1974).

    Examples
    --------
    >>> choose_shards(10**10, 64, 1e-4, 3000, 0.01).rows
    1000000
    """
    at_most = {
        f"{PER_WORKER} shards for each worker, so that all end together": (
            rows / (PER_WORKER * workers)
        ),
        f"{_MOST_SECONDS // 60} minutes of a worker, which a death loses at most": (
            _MOST_SECONDS / row_seconds
        ),
        f"{_MOST_BYTES / 1e9:.0f} GB, which one upload takes whole": _MOST_BYTES / row_bytes,
    }
    if failures_per_hour:
        best = math.sqrt(2 * SHARD_SECONDS * 3600 / failures_per_hour)
        at_most["what deaths at this rate lose, against what a shard costs"] = best / row_seconds
    at_least = {
        "a window of rows that are sorted by length together": float(WINDOW),
        f"{_MOST_SHARDS:,} shards, whose receipts open in seconds": rows / _MOST_SHARDS,
    }
    high = min(at_most, key=at_most.__getitem__)
    low = max(at_least, key=at_least.__getitem__)
    because, chosen = high, round_down(at_most[high])
    if chosen < at_least[low]:
        because, chosen = low, _round_up(at_least[low])
    if chosen >= rows:
        because, chosen = "all of it is less than a shard", rows
    return Shards(chosen, -(-rows // chosen), because)


def round_down(value: float) -> int:
    """Give the largest of 0, 1, 2, 5, 10, 20, … that is not above a value."""
    if value < 1:
        return 0
    power = 10 ** math.floor(math.log10(value))
    return int(max(step * power for step in (1, 2, 5) if step * power <= value))


def _round_up(value: float) -> int:
    """Give the smallest of 1, 2, 5, 10, 20, … that is not below a value."""
    power = 10 ** math.floor(math.log10(max(1.0, value)))
    return int(min(step * power for step in (1, 2, 5, 10) if step * power >= value))
