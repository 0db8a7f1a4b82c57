"""Telemetry that stays in memory: OpenTelemetry's own SDK, without the providers of the process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from prefect_docjobs.telemetry import Telemetry

Point = HistogramDataPoint | NumberDataPoint


class Exported:
    """Telemetry, and what it has told.

    Args:
        document_names: Whether the names of documents are told.
    """

    def __init__(self, *, document_names: bool = False) -> None:
        self._exporter = InMemorySpanExporter()
        delta = AggregationTemporality.DELTA
        self._reader = InMemoryMetricReader({Counter: delta, Histogram: delta})
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.telemetry = Telemetry(self.tracers, self.meters, document_names=document_names)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """All that have ended."""
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans of one name."""
        return [span for span in self.spans if span.name == name]

    def the(self, name: str) -> ReadableSpan:
        """The only span of a name."""
        (span,) = self.named(name)
        return span

    def metrics(self) -> dict[str, list[Point]]:
        """What was measured since the last time this was asked."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: [point for point in metric.data.data_points if not isinstance(point, float)]  # type: ignore[misc]
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def everything(self) -> str:
        """All that left the process, as one text."""
        spans = [span.to_json() for span in self.spans]
        data = self._reader.get_metrics_data()
        return json.dumps(spans) + (data.to_json() if data else "")


def facts(told: ReadableSpan | Point) -> Mapping[str, Any]:
    """The attributes of a span or of a point."""
    return dict(told.attributes or {})


def parent_of(span: ReadableSpan, spans: tuple[ReadableSpan, ...]) -> str | None:
    """The name of the span above another one."""
    if span.parent is None:
        return None
    (above,) = [it for it in spans if it.context.span_id == span.parent.span_id]
    return above.name
