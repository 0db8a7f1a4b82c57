"""Loads eight chunks of ten documents into the destination that is given, and prints a line for each."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.loads import chunk

from prefect_docjobs.loading import open_store


async def load(address: str, schema: str | None) -> None:
    store = open_store(address, schema)
    await store.prepare()
    for number in range(8):
        names = [f"document {number} {index}" for index in range(10)]
        await store.write(chunk({name: {"x": 1, "items": [{"n": 1, "m": 2}]} for name in names}))
        print(f"chunk {number + 1}", flush=True)


if __name__ == "__main__":
    asyncio.run(load(sys.argv[1], None if sys.argv[2] == "-" else sys.argv[2]))
