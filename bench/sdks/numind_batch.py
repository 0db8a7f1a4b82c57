"""numind 0.4.2: all documents at once through one `NuMindAsync`, with the SDK's own defaults."""

from __future__ import annotations

import asyncio
from typing import Any

from numind import Configuration, NuMindAsync  # type: ignore[import-not-found]  # in an environment of its own

from bench.sdks.batch import Batch, told

_TEMPLATE = {"invoice_number": "verbatim-string", "total_amount": "number"}


async def _all(batch: Batch) -> None:
    client: Any = NuMindAsync(configuration=Configuration(host=batch.base_url, access_token=batch.key))
    try:
        await asyncio.gather(
            *(client.extract_structured_data(template=_TEMPLATE, input_file=path) for path in batch.paths)
        )
    finally:
        await client.api_client.close()


if __name__ == "__main__":
    told(lambda batch: asyncio.run(_all(batch)))
