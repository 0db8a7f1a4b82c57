"""unsiloed-sdk 0.1.7: all documents at once through one `AsyncUnsiloedClient`, with its own defaults."""

from __future__ import annotations

import asyncio

from unsiloed_sdk import AsyncUnsiloedClient  # type: ignore[import-not-found]  # in an environment of its own

from bench.sdks.batch import Batch, told

_SCHEMA = {
    "type": "object",
    "properties": {"invoice_number": {"type": "string"}, "total_amount": {"type": "number"}},
}


async def _all(batch: Batch) -> None:
    async with AsyncUnsiloedClient(batch.key, base_url=batch.base_url) as client:
        await asyncio.gather(*(client.extract_and_wait(file=path, schema=_SCHEMA) for path in batch.paths))


if __name__ == "__main__":
    told(lambda batch: asyncio.run(_all(batch)))
