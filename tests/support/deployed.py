"""Runs of a deployment, one leg after the other in this process: up to each suspension, and after it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from prefect import Flow, State, get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_async


class DeployedRun:
    """A run of a deployment.

    Args:
        flow: What was deployed.
        id: Of the run.
        parameters: With which the flow is called.
    """

    def __init__(self, flow: Flow[..., Any], id: UUID, parameters: dict[str, Any]) -> None:  # noqa: A002
        self._flow = flow
        self._parameters = parameters
        self.id = id

    @classmethod
    async def of(cls, flow: Flow[..., Any], **parameters: Any) -> DeployedRun:
        """Deploy a flow, and schedule a run that nobody else takes."""
        deployment = await (await flow.ato_deployment(name="legs")).aapply()
        async with get_client() as client:
            assert isinstance(deployment, UUID)
            run = await client.create_flow_run_from_deployment(deployment, parameters=parameters)
        return cls(flow, run.id, parameters)

    async def leg(self) -> State[Any]:
        """Run the flow from the top, as a worker would, until it ends or is suspended."""
        async with get_client() as client:
            run = await client.read_flow_run(self.id)
        with suppress(Pause):
            await run_flow_async(self._flow, flow_run=run, parameters=self._parameters, return_type="state")
        return await self.state()

    async def state(self) -> State[Any]:
        """As Prefect's API tells it."""
        async with get_client() as client:
            state = (await client.read_flow_run(self.id)).state
        assert state is not None
        return state

    async def resume(self) -> None:
        """As a person would in the UI."""
        async with get_client() as client:
            await client.resume_flow_run(self.id)
