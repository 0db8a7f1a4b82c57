"""Tags of the flow run that is going on, so that people find the runs of a service."""

from __future__ import annotations

from prefect import get_client, runtime

from prefect_docjobs.tasks._run import Log


async def tag_run(*names: str, log: Log) -> None:
    """Add tags to the flow run; those that it has stay, and a server that refuses costs nothing."""
    wanted = {*runtime.flow_run.tags, *names}
    try:
        async with get_client() as client:
            await client.update_flow_run(runtime.flow_run.id, tags=sorted(wanted))
    except Exception as problem:  # noqa: BLE001 (tags are for people only)
        log.debug("No tags: %s", problem)
