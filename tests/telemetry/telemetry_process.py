"""A process that sets up what its argument names, extracts a document, and prints what telemetry it had.

Usage: `telemetry_process.py none|api|spans|metrics`.
"""

from __future__ import annotations

import asyncio
import json
import sys


def set_up(what: str) -> None:
    if what == "api":
        import opentelemetry.metrics
        import opentelemetry.trace  # noqa: F401
    elif what == "spans":
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace import set_tracer_provider

        set_tracer_provider(TracerProvider())
    elif what == "metrics":
        from opentelemetry.metrics import set_meter_provider
        from opentelemetry.sdk.metrics import MeterProvider

        set_meter_provider(MeterProvider())


async def telemetry_of_a_batch() -> str:
    from support.services import connected, invoice

    from prefect_docjobs.extraction import extract_many

    async with connected("mindee", duration={"law": "fixed", "seconds": 0.0}) as at:
        async for _, outcome in extract_many(at.provider, at.http, [invoice(1)]):
            assert outcome.ok
        return type(at.http.telemetry).__name__


if __name__ == "__main__":
    set_up(sys.argv[1])
    kind = asyncio.run(telemetry_of_a_batch())
    print(json.dumps([kind, "opentelemetry" in sys.modules]))
