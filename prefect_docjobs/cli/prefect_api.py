"""Whether Prefect's API answers: asked first, so that it is one sentence when it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from prefect_docjobs.cli.exits import WRONG_USE, CommandFailed

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

_NO_SERVER = (
    "No PREFECT_API_URL is set, and Prefect's own temporary server did not start. "
    "Start one with: prefect server start, "
    "and then: prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api"
)


async def prefect_api_problem() -> str | None:
    """What is wrong with Prefect's API, as a sentence; None when it answers.

    Where no API is set, Prefect starts one of its own.

    Raises:
        CommandFailed: That one does not start.
    """
    async with _client() as client:
        problem = await client.api_healthcheck()
    return f"Prefect's API at {client.api_url} does not answer: {problem}." if problem else None


async def check_prefect_api() -> None:
    """Return when Prefect's API answers.

    Raises:
        CommandFailed: It does not.
    """
    if problem := await prefect_api_problem():
        raise CommandFailed(f"{problem} See: prefect config view.", WRONG_USE)


def _client() -> PrefectClient:
    from prefect import get_client
    from prefect.settings import PREFECT_API_URL

    try:
        return get_client()
    # What Prefect 3.8 raises when its temporary server is late or broken, or is not allowed (ValueError).
    except (RuntimeError, ValueError, OSError, httpx.HTTPError) as problem:
        if PREFECT_API_URL.value():
            raise
        raise CommandFailed(_NO_SERVER, WRONG_USE) from problem
