"""What commands need from Prefect: no messages in the terminal, an API that answers, saved blocks."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from prefect_docjobs.cli.errors import WRONG_USE, CommandFailed, debugging

if TYPE_CHECKING:
    from prefect.blocks.core import Block
    from prefect.client.orchestration import PrefectClient

QUIET = {
    # Only the console: a run's log still goes to Prefect's API.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""Settings for the environment of a process before it imports Prefect."""

_NO_SERVER = (
    "No PREFECT_API_URL is set, and Prefect's own temporary server did not start. "
    "Start one with: prefect server start, "
    "and then: prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api"
)


def quiet_prefect() -> None:
    """Keep Prefect's messages and warnings away from the terminal, unless `--debug` was given.

    Call it before Prefect is imported. What the user has set is left as it is.
    """
    if debugging.get():
        return
    for name, setting in QUIET.items():
        os.environ.setdefault(name, setting)
    warnings.simplefilter("ignore")


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
    import httpx
    from prefect import get_client
    from prefect.settings import PREFECT_API_URL

    try:
        return get_client()
    # What Prefect 3.8 raises when its temporary server is late or broken, or is not allowed (ValueError).
    except (RuntimeError, ValueError, OSError, httpx.HTTPError) as problem:
        if PREFECT_API_URL.value():
            raise
        raise CommandFailed(_NO_SERVER, WRONG_USE) from problem


async def load_block(name: str) -> Block:
    """A saved block by its type and name, such as `mindee-credentials/main`.

    Raises:
        CommandFailed: There is none, `name` is no such name, or Prefect's API does not answer.
    """
    if "/" not in name:
        raise CommandFailed(
            f"{name!r} names no block. Give type and name, such as mindee-credentials/main.", WRONG_USE
        )
    from prefect.blocks.core import Block

    await check_prefect_api()
    try:
        return await Block.aload(name)
    except ValueError as problem:
        raise CommandFailed(f"There is no block {name}: {problem}", WRONG_USE) from None
