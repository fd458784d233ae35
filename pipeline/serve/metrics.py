"""Count what the server does, for Prometheus: requests, texts, tokens, batches, what waits.

No text, no label and no name of a client is in it.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pipeline.serve.scorer.lane import Ran

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The counters of a server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "frostline_requests",
            "Answers by path and status.",
            ["path", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "frostline_request_seconds",
            "From the head of a request to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.texts = Counter("frostline_texts", "Texts that were scored.", registry=registry)
        self.truncated = Counter(
            "frostline_truncated_texts", "Texts that were cut.", registry=registry
        )
        self._tokens = Counter(
            "frostline_tokens", "Tokens that the encoders read.", registry=registry
        )
        self._batch_texts = Histogram(
            "frostline_batch_texts", "Texts in a batch.", buckets=_SIZES, registry=registry
        )
        self._batch_seconds = Histogram(
            "frostline_batch_seconds",
            "That a batch took in the model.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._retried = Counter(
            "frostline_retried_batches", "Batches run again text by text.", registry=registry
        )
        self._waiting = Gauge(
            "frostline_queue_texts", "Texts that are waited for.", registry=registry
        )

    def watch(self, waiting: Callable[[], int]) -> None:
        """Take what gives the texts that are waited for."""
        self._waiting.set_function(waiting)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer; `path` is that of a route, never what a client sent."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def ran(self, ran: Ran) -> None:
        """Count a batch."""
        self._tokens.inc(ran.tokens)
        self._batch_texts.observe(ran.texts)
        self._batch_seconds.observe(ran.seconds)
        if ran.retried:
            self._retried.inc()

    def text(self) -> bytes:
        """Give all of it in the format of Prometheus."""
        return generate_latest(self._registry)
