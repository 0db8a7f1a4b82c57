"""A process that exports spans and runs flows: `traced_run_process.py BASE_URL`; prints its spans as JSON."""

from __future__ import annotations

import asyncio
import json
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prefect import flow
from support.blocks import make_job
from support.services import invoice

from prefect_docjobs import aextract_documents, extract_documents
from prefect_docjobs.blocks import DocJob


@flow
async def on_its_loop(job: DocJob) -> None:
    await aextract_documents(job, [invoice(1), invoice(2)])


@flow
def by_a_twin(job: DocJob) -> None:
    extract_documents(job, [invoice(3), invoice(4)])


def told(span: ReadableSpan) -> dict[str, object]:
    return {
        "name": span.name,
        "id": span.context.span_id,
        "parent": span.parent.span_id if span.parent else None,
        "trace": span.context.trace_id,
        "facts": dict(span.attributes or {}),
    }


def main(base_url: str) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    job = make_job("mindee", base_url)
    asyncio.run(on_its_loop(job))
    by_a_twin(job)
    print("spans:", json.dumps([told(span) for span in exporter.get_finished_spans()]))


if __name__ == "__main__":
    main(sys.argv[1])
