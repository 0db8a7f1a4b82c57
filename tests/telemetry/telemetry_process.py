"""A process that configures what its argument names, extracts a document, and prints what was exported.

Usage: `telemetry_process.py none|spans|metrics`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable


def configured(what: str) -> Callable[[], int]:
    """Configure a provider of the process; returns what counts its spans or metrics."""
    if what == "spans":
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from opentelemetry.trace import set_tracer_provider

        exporter, tracers = InMemorySpanExporter(), TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(exporter))
        set_tracer_provider(tracers)
        return lambda: sum(span.name == "docjobs.document" for span in exporter.get_finished_spans())
    if what == "metrics":
        from opentelemetry.metrics import set_meter_provider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        reader = InMemoryMetricReader()
        set_meter_provider(MeterProvider([reader]))
        return lambda: str(reader.get_metrics_data()).count("name='docjobs.document.duration'")
    return lambda: 0


async def extract() -> None:
    from support.services import connected, invoice

    from prefect_docjobs.extraction import extract_many

    async with connected("mindee", duration={"law": "fixed", "seconds": 0.0}) as at:
        async for _, outcome in extract_many(at.provider, at.http, [invoice(1)]):
            assert outcome.ok


if __name__ == "__main__":
    exported = configured(sys.argv[1])
    asyncio.run(extract())
    print(json.dumps([exported(), "opentelemetry.sdk" in sys.modules]))
