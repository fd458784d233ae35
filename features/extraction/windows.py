"""Group tweets into windows: rows in, normalised texts with digests out, none in two shards.

The rows of a window are tokenised, sorted by length and encoded together. Nothing is encoded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from features.base.read_ahead import HEAVIEST
from features.extraction.timing import clock, timed
from features.store.format import text_digest
from features.tweets.findings import Findings
from features.tweets.reader import Reject, Tweet, TweetReader, characters
from features.tweets.rejects import RejectLog

# Rows that are sorted by length together. More fill batches better and hold more in memory; beyond
# some thousands of tweets padding is below 2 %.
WINDOW = 8192
# The first one, which nothing else is done beside.
_FIRST_WINDOW = 2048


@dataclass(frozen=True)
class Window:
    """Rows that are handled together: normalised texts with digests, and the rejects among them."""

    shard: int
    tweets: list[Tweet]
    rejects: list[Reject]
    texts: list[str]
    digests: list[bytes]

    def without(self, unusable: set[bytes]) -> Window:
        """Give the rows whose texts have vectors, with the others as rejects."""
        good = [n for n, digest in enumerate(self.digests) if digest not in unusable]
        reason = "its vector is not finite, in float32 too"
        return Window(
            self.shard,
            [self.tweets[n] for n in good],
            [
                tweet.rejected(reason)
                for tweet, digest in zip(self.tweets, self.digests, strict=True)
                if digest in unusable
            ],
            [self.texts[n] for n in good],
            [self.digests[n] for n in good],
        )


def read_windows(
    reader: TweetReader,
    normalise: Callable[[str], str],
    seconds: dict[str, float],
    shard_rows: int | None,
    window_rows: int = WINDOW,
) -> Iterator[Window]:
    """Read and normalise tweets, window by window.

    Parameters
    ----------
    reader : TweetReader
    normalise : callable
        From raw texts to those that the encoder reads.
    seconds : dict
        Times, part by part; that of `read` grows.
    shard_rows : int or None
        Usable rows of a shard at most.
    window_rows : int
        Rows of a window at most.
    """
    for shard, rows in timed(_windows(reader, shard_rows, window_rows), seconds, "read"):
        with clock(seconds, "read"):
            tweets = [row for row in rows if isinstance(row, Tweet)]
            texts = [normalise(tweet.text) for tweet in tweets]
            rejects = [row for row in rows if isinstance(row, Reject)]
            digests = [text_digest(text) for text in texts]
            window = Window(shard, tweets, rejects, texts, digests)
        yield window


def with_tweets(windows: Iterable[Window], rejects: RejectLog) -> Iterator[Window]:
    """Write down the rejects of windows, and pass on those that hold anything else."""
    for window in windows:
        rejects.add(window.rejects)
        if window.tweets:
            yield window


def announced(
    windows: Iterable[Window], findings: Findings, say: Callable[[str], None]
) -> Iterator[Window]:
    """Pass windows on; say how a file is read once the first window with rows of it is there."""
    known: set[str] = set()
    for window in windows:
        for name in [name for name in list(findings.files) if name not in known]:
            known.add(name)
            say(f"{name}: {findings.files[name].opening}")
        yield window


def _windows(
    rows: Iterable[Tweet | Reject], shard_rows: int | None, window_rows: int
) -> Iterator[tuple[int, list[Tweet | Reject]]]:
    """Cut rows into windows, each with the number of its shard; none lies in two shards."""
    shard = usable = held = 0
    longest = min(_FIRST_WINDOW, window_rows)
    window: list[Tweet | Reject] = []
    for row in rows:
        full = usable == shard_rows and isinstance(row, Tweet)
        if window and (full or len(window) == longest or held >= HEAVIEST):
            yield shard, window
            window, held, longest = [], 0, window_rows
        if full:
            shard, usable = shard + 1, 0
        window.append(row)
        held += characters(row)
        usable += isinstance(row, Tweet)
    if window:
        yield shard, window
