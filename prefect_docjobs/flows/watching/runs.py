"""The flow runs that are waited for, as far as a watcher has to know them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import SetStateStatus
from typing_extensions import Self

from prefect_docjobs.tasks.suspend import waits_for

_PAGE = 200


@dataclass(frozen=True, slots=True)
class RunState:
    """What a flow run is doing.

    Attributes:
        has_ended: It will not go on by itself.
        suspended_for: Id of the wait that it is suspended for; None when it is not suspended.
    """

    has_ended: bool = False
    suspended_for: str | None = None


class FlowRuns(Protocol):
    """Where flow runs are looked up and resumed. Anything may be raised: then it is tried again."""

    async def states(self, flow_run_ids: Collection[str]) -> Mapping[str, RunState]:
        """What these runs are doing; those that are not there any more are left out."""
        ...

    async def resume(self, flow_run_id: str) -> bool:
        """Schedule a suspended run; false when it was not suspended."""
        ...


class PrefectRuns:
    """The flow runs of Prefect's API. Use it as an async context manager: a client is dear to make."""

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        self._client = await self._stack.enter_async_context(get_client())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def states(self, flow_run_ids: Collection[str]) -> Mapping[str, RunState]:
        """See `FlowRuns.states`."""
        ids = [UUID(flow_run_id) for flow_run_id in flow_run_ids]
        found: dict[str, RunState] = {}
        for first in range(0, len(ids), _PAGE):
            these = FlowRunFilter(id=FlowRunFilterId(any_=ids[first : first + _PAGE]))
            for run in await self._client.read_flow_runs(flow_run_filter=these, limit=_PAGE):
                found[str(run.id)] = _state_of(run)
        return found

    async def resume(self, flow_run_id: str) -> bool:
        """See `FlowRuns.resume`."""
        answer = await self._client.resume_flow_run(UUID(flow_run_id))
        return answer.status is SetStateStatus.ACCEPT


def _state_of(run: FlowRun) -> RunState:
    state = run.state
    if state is None:
        return RunState()
    details = state.state_details
    # Not a pause, which keeps its process; what it is suspended for may be something else, such as consent.
    is_suspended = state.is_paused() and details.pause_reschedule and details.pause_key is not None
    return RunState(
        has_ended=state.is_final(),
        suspended_for=waits_for(details.pause_key or "") if is_suspended else None,
    )
