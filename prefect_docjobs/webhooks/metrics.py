"""The receiver's figures for Prometheus; each app has a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from prefect_docjobs.webhooks.outcomes import Outcome

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""The media type of `Metrics.text`."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0)


class Metrics:
    """Counts pushes. Labels come from the configuration alone, so nobody can make more of them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._pushes = Counter(
            "docjobs_pushes", "Webhook calls.", ["provider", "outcome"], registry=self._registry
        )
        self._bytes = Counter(
            "docjobs_push_bytes", "Bytes of bodies read.", ["provider"], registry=self._registry
        )
        self._seconds = Histogram(
            "docjobs_push_seconds",
            "From the head of a call to its answer.",
            ["provider"],
            buckets=_SECONDS,
            registry=self._registry,
        )

    def count(self, provider: str, outcome: Outcome, seconds: float, size: int) -> None:
        """Note one push."""
        self._pushes.labels(provider, outcome.value).inc()
        self._bytes.labels(provider).inc(size)
        self._seconds.labels(provider).observe(seconds)

    def text(self) -> bytes:
        """All figures in the text format."""
        return generate_latest(self._registry)
