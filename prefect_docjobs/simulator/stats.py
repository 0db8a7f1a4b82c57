"""Counters of the simulator: the numbers that tests and benchmarks read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from prefect_docjobs.simulator.settings import KINDS, Kind


class Stats:
    """Counters over all requests since the start or the last reset.

    Attributes:
        requests: Requests by kind, refused ones too.
        submits: Accepted submits by service, product and content: the SHA-256 (hex) of the document's bytes,
            or its URL.
        given: Bad answers given: ``429``, ``503``, ``502``, ``dropped``, ``lost``, ``unauthorized`` and
            ``404_after_submit``.
        pushes: Webhook calls: ``delivered``, ``refused`` (no 2xx), ``lost`` (never sent).
    """

    def __init__(self) -> None:
        self.requests: Counter[Kind] = Counter()
        self.submits: Counter[tuple[str, str, str]] = Counter()
        self.given: Counter[str] = Counter()
        self.pushes: Counter[str] = Counter()

    def as_dict(self) -> dict[str, Any]:
        """The counters as plain JSON."""
        return {
            "requests": {kind: self.requests[kind] for kind in KINDS},
            "submits": self._submits(),
            "given": dict(self.given),
            "pushes": dict(self.pushes),
        }

    def _submits(self) -> dict[str, Any]:
        """``repeated``: what one product was sent more than once; ``by_content``: over all products."""
        by_content: Counter[str] = Counter()
        repeated: list[dict[str, Any]] = []
        for (service, product, content), count in self.submits.items():
            by_content[content] += count
            if count > 1:
                repeated.append({"service": service, "product": product, "content": content, "count": count})
        return {"total": sum(by_content.values()), "repeated": repeated, "by_content": dict(by_content)}


def summary(values: Iterable[float]) -> dict[str, float | int | None]:
    """Count, mean, p50, p95 and max of some numbers; None for all but the count when there are none."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0, "mean": None, "p50": None, "p95": None, "max": None}
    return {
        "count": len(ordered),
        "mean": math.fsum(ordered) / len(ordered),
        "p50": nearest_rank(ordered, 0.50),
        "p95": nearest_rank(ordered, 0.95),
        "max": ordered[-1],
    }


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of numbers in ascending order; ``share`` in 0..1."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
