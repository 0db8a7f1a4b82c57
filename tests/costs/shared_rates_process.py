"""A worker of its own that asks as fast as it may, under a rate that it shares with others.

Usage: `shared_rates_process.py BASE_URL RATE SECONDS`. It prints `ready`, waits for a line, asks, and prints
one JSON line: when each request was answered, and how many were refused.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from pydantic import SecretStr
from support.services import KEY

from prefect_docjobs.blocks import MindeeCredentials
from prefect_docjobs.blocks.ledger import open_ledger
from prefect_docjobs.errors import NotFound, Throttled
from prefect_docjobs.http import Http, Request

AT_A_TIME = 8


async def ask(http: Http, until: float, told: dict[str, Any]) -> None:
    """Look at a job that nobody knows, again and again."""
    now = asyncio.get_running_loop().time
    while True:
        await http.wait_for_token("status")
        if now() >= until:
            return
        try:
            await http.poll(Request("GET", "/v2/jobs/00000000-0000-4000-8000-000000000000"))
        except NotFound:
            told["times"].append(now())
        except Throttled:
            told["refused"] += 1


async def work(base_url: str, rate: float, seconds: float) -> None:
    credentials = MindeeCredentials(
        api_key=SecretStr(KEY), base_url=base_url, status_per_second=rate, share_rates=True
    )
    told: dict[str, Any] = {"times": [], "refused": 0}
    async with credentials.get_client() as http, open_ledger():
        print("ready", flush=True)
        sys.stdin.readline()
        until = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(ask(http, until, told) for _ in range(AT_A_TIME)))
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
