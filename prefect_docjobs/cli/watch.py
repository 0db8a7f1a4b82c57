"""The watcher in a terminal, or under a supervisor."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from prefect_docjobs.cli.exits import TERMINATED, WRONG_USE, CommandFailed
from prefect_docjobs.cli.prefect_api import prefect_api_problem
from prefect_docjobs.cli.screen import messages, printable


def watch_until_stopped(stop_after: float | None = None, *, as_json: bool = False) -> int:
    """Watch until Ctrl-C or SIGTERM; what is held is given back first.

    Args:
        stop_after: Seconds after which it ends by itself; None for never.
        as_json: Say what it does as lines of JSON on standard output.

    Returns:
        The exit code: 0, also after Ctrl-C; 143 when terminated.

    Raises:
        CommandFailed: No Prefect API is set, or `stop_after` is no time.
        ConfigurationError: There is no ledger.
    """
    if stop_after is not None and not stop_after > 0:
        raise CommandFailed("--stop-after needs a number of seconds above 0.", WRONG_USE)
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        raise CommandFailed(
            "No Prefect server is set, so no run can be resumed: prefect config set PREFECT_API_URL=…",
            WRONG_USE,
        )
    try:
        return asyncio.run(_watch(stop_after, as_json=as_json))
    except KeyboardInterrupt:
        return 0


async def _watch(stop_after: float | None, *, as_json: bool) -> int:
    problem = await prefect_api_problem()
    warning = f"{problem} The watcher keeps asking." if problem else None
    watching = asyncio.create_task((_in_lines if as_json else _in_log)(stop_after, warning))
    with suppress(NotImplementedError):  # on Windows there is no SIGTERM to wait for
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, watching.cancel)
    await asyncio.wait([watching])
    return TERMINATED if watching.cancelled() else watching.result() or 0


async def _in_lines(stop_after: float | None, warning: str | None) -> None:
    from prefect_docjobs.cli.watch_lines import watch_in_lines

    await watch_in_lines(stop_after, warning)


async def _in_log(stop_after: float | None, warning: str | None) -> None:
    from prefect_docjobs.flows.watch_jobs import watch

    if warning:
        messages().print(printable(warning), soft_wrap=True, markup=False)
    await watch(stop_after)
