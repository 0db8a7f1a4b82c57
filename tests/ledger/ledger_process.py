"""A process of its own that works on a ledger, for tests that kill it or run several at once.

Usage: `ledger_process.py COMMAND URL [NUMBER]`. It prints one JSON line per step; `ready` before it begins.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

from support.ledgers import deliver, entry, ref

from prefect_docjobs.ledger import Ledger, Record


def tell(**news: Any) -> None:
    print(json.dumps(news), flush=True)


def go() -> None:
    """Wait until the test says so, so that processes begin at the same moment."""
    tell(ready=True)
    sys.stdin.readline()


async def claim_all(url: str, number: int) -> None:
    """Open the ledger, then claim keys in an order of its own, twenty at a time."""
    names = [f"{index}" for index in range(number)]
    random.shuffle(names)
    go()
    async with Ledger(url) as ledger:
        for start in range(0, number, 20):
            claims = (ledger.claim(entry(name)) for name in names[start : start + 20])
            records: list[Record] = await asyncio.gather(*claims)
            tell(mine=[record.document_name for record in records if record.mine])


async def claim_then_hang(url: str, _: int) -> None:
    ledger = Ledger(url)
    await ledger.__aenter__()
    record = await ledger.claim(entry("claimed"))
    tell(id=record.id)
    await asyncio.Event().wait()


async def walk_until_killed(url: str, number: int) -> None:
    """Take documents through all steps; what is told was durable before."""
    ledger = Ledger(url)
    await ledger.__aenter__()

    async def walk(name: str) -> None:
        record, job = await ledger.claim(entry(name)), ref(f"job-{name}")
        tell(name=name, state=record.state)
        for step in (ledger.submitted, ledger.done):
            record = await step(record, job)
            tell(name=name, state=record.state)
        record = await deliver(ledger, record, job, name.encode() * 1000)
        tell(name=name, state=record.state)

    go()
    for start in range(0, number, 10):
        await asyncio.gather(*(walk(f"{index}") for index in range(start, start + 10)))


async def take_turns(url: str, number: int) -> None:
    """Use the shared budget for one second and a half; tell at what time each turn was."""
    loop = asyncio.get_running_loop()
    async with Ledger(url) as ledger:
        go()
        end = loop.time() + 1.5
        times: list[float] = []
        while loop.time() < end:
            lease = await ledger.tokens.lease("toy", "status", float(number))
            first = loop.time() + lease.starts_in
            for turn in range(lease.tokens):
                await asyncio.sleep(max(0.0, first + turn * lease.every - loop.time()))
                if loop.time() < end:
                    times.append(loop.time())
        tell(times=times)


COMMANDS = {
    "claim-all": claim_all,
    "claim-then-hang": claim_then_hang,
    "walk": walk_until_killed,
    "turns": take_turns,
}

if __name__ == "__main__":
    asyncio.run(COMMANDS[sys.argv[1]](sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0))
