"""A run that waits for a person: without a process where it was deployed, else in its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, TypeAlias

from prefect import get_client
from prefect.context import FlowRunContext
from prefect.flow_runs import apause_flow_run, asuspend_flow_run

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.flows.reviewing.decisions import Decision
from prefect_docjobs.flows.reviewing.forms import ReviewForm
from prefect_docjobs.tasks._run import Log
from prefect_docjobs.tasks.suspend import obstacle_to_suspending

WaitMode: TypeAlias = Literal["auto", "suspend", "pause"]
"""Whether a run gives its process up while people work, keeps it, or the first where that is possible."""

_LONGEST = 30 * 86_400  # seconds that a process waits where no limit is given
_LOOK_EVERY = 5  # seconds


def can_suspend(mode: WaitMode, jobs: Sequence[DocJob]) -> bool:
    """Whether the run that is going on gives its process up while it waits.

    Raises:
        ConfigurationError: It has to, and cannot.
    """
    if mode == "pause":
        return False
    obstacle = next((found for job in jobs if (found := obstacle_to_suspending(job))), None)
    if obstacle and mode == "suspend":
        raise ConfigurationError(f"This run cannot be suspended: {obstacle}, or use wait='pause'.")
    return obstacle is None


@dataclass(frozen=True)
class Waiting:
    """How one run waits.

    Attributes:
        suspends: Whether it gives its process up.
        timeout: Seconds for each form, then the run fails; None for no limit.
        log: Of the run.
    """

    suspends: bool
    timeout: float | None
    log: Log

    async def answered(self, form: ReviewForm) -> list[Decision]:
        """What a person decides; returns at once when the form has been answered before, by the same run.

        A run that was resumed without an answer asks again.
        """
        key, found = await self._stored(form)
        while found is None:
            self.log.info("%s Waiting for a person: resume this run.", form.description)
            await self._wait(form, key)
            key, found = await self._stored(form)
        return found

    async def _wait(self, form: ReviewForm, key: str) -> None:
        limit = None if self.timeout is None else max(1, round(self.timeout))
        if self.suspends:
            await asuspend_flow_run(wait_for_input=form.model, timeout=limit, key=key)
        else:
            await apause_flow_run(
                wait_for_input=form.model, timeout=limit or _LONGEST, poll_interval=_LOOK_EVERY, key=key
            )

    async def _stored(self, form: ReviewForm) -> tuple[str, list[Decision] | None]:
        """The key to wait under next, and the answer where there is one.

        Prefect keeps an answer with the run, and lets a run wait once under a key. So each time that the form
        is shown has a number.
        """
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            raise ConfigurationError("People can be waited for in a flow run only.")
        prefix = f"{'suspended' if self.suspends else 'paused'}-{form.key}"
        async with get_client() as client:
            inputs = await client.filter_flow_run_input(
                context.flow_run.id, key_prefix=prefix, limit=200, exclude_keys=set()
            )
        for given in inputs:
            if given.key.endswith("-response"):
                return given.key, form.decisions(_decoded(given.value), _when(given.created))
        shown = sum(given.key.endswith("-schema") for given in inputs)
        return f"{form.key}-{shown + 1}", None


def _decoded(value: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(value)
    return decoded


def _when(created: datetime | None) -> datetime:
    return (created or datetime.now(timezone.utc)).astimezone(timezone.utc)
