"""A process that extracts documents through a ledger, for tests of several versions on one of them.

Usage: `buying_process.py LEDGER BASE_URL NUMBER`. It prints a JSON line when it begins, one for each
outcome, and `{"ended": true}`. A negative number takes as many documents in the opposite order.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from typing import Any

from support.services import KEY, SETTINGS, invoice, says

import prefect_docjobs
from prefect_docjobs.extraction import Terms, extract_many
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Ledger
from prefect_docjobs.providers.mindee import Mindee


def tell(**news: Any) -> None:
    print(json.dumps(news), flush=True)


async def main(url: str, base_url: str, number: int) -> None:
    provider = Mindee(**SETTINGS["mindee"])
    numbers = list(range(abs(number)))[:: 1 if number > 0 else -1]
    http = Http(
        provider="mindee",
        base_url=base_url,
        headers=Mindee.auth_headers(KEY),
        tenant="acme",
        secrets=[KEY],
        read_error=Mindee.read_error,
    )
    async with http, Ledger(url) as ledger:
        tell(package=prefect_docjobs.__file__)
        documents = [invoice(each) for each in numbers]
        extracting = extract_many(
            provider, http, documents, terms=Terms(), ledger=ledger, timeout=120, concurrency=4
        )
        async with aclosing(extracting) as outcomes:
            async for index, outcome in outcomes:
                found = says(outcome.result)[0] if outcome.result else outcome.error
                tell(number=numbers[index], found=found, reused=outcome.reused)
        tell(ended=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
