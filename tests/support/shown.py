"""What Prefect has of a run when it has ended: artifacts, events, tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect import State, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from support.processes import until


@dataclass(frozen=True)
class Shown:
    """What people find of a flow run."""

    run: UUID

    @classmethod
    def of(cls, state: State[Any]) -> Shown:
        """What there is of the run that ended in a state."""
        assert state.state_details.flow_run_id
        return cls(state.state_details.flow_run_id)

    async def artifacts(self) -> dict[str, Any]:
        """Those of the run and its tasks, by the second word of their keys."""
        mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[self.run]))
        async with get_client() as client:
            found = await client.read_artifacts(artifact_filter=mine)
        by_word = {str(each.key).split("-")[1]: each for each in found}
        assert len(by_word) == len(found)
        return by_word

    async def tags(self) -> list[list[str]]:
        """Those of the run and of each of its task runs."""
        mine = FlowRunFilter(id=FlowRunFilterId(any_=[self.run]))
        async with get_client() as client:
            flow = await client.read_flow_run(self.run)
            tasks = await client.read_task_runs(flow_run_filter=mine)
        return [sorted(tags) for tags in (flow.tags, *(each.tags for each in tasks))]

    async def events(self, *prefixes: str, number: int) -> list[dict[str, Any]]:
        """Its events, when Prefect has so many written down."""
        related = {"id": [f"prefect.flow-run.{self.run}"]}
        query = {"filter": {"event": {"prefix": prefixes}, "related": related}}
        found: list[dict[str, Any]] = []

        async def written() -> bool:
            async with get_client() as client:
                answer = await client.request("POST", "/events/filter", json=query)
            found[:] = answer.json()["events"]
            return len(found) >= number

        await until(written, within=60.0)
        return found
