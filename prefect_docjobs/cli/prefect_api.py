"""Whether Prefect's API answers: asked first, so that it is one sentence when it does not."""

from __future__ import annotations

from prefect_docjobs.cli.exits import WRONG_USE, CommandFailed


async def prefect_api_problem() -> str | None:
    """What is wrong with Prefect's API, as a sentence; None when it answers.

    Where no API is set, Prefect starts one of its own.
    """
    from prefect import get_client

    async with get_client() as client:
        problem = await client.api_healthcheck()
    return f"Prefect's API at {client.api_url} does not answer: {problem}." if problem else None


async def check_prefect_api() -> None:
    """Return when Prefect's API answers.

    Raises:
        CommandFailed: It does not.
    """
    if problem := await prefect_api_problem():
        raise CommandFailed(f"{problem} See: prefect config view.", WRONG_USE)
