"""What happens to jobs, as Prefect events that automations can start from.

`docjobs.job.submitted`, `docjobs.job.completed` and `docjobs.job.failed`, each about the resource
`docjobs.job.<provider>.<job id>`. Prefect adds the flow run and the task run as related resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event

from prefect_docjobs.models import JobRef, Outcome, Phase
from prefect_docjobs.models.job_events import event_payload, event_resource

_AT_ONCE = 100
_NAMES: Mapping[Phase, str] = {Phase.SUBMIT: "submitted", Phase.WAIT: "completed"}


class Events:
    """Collects what happened and emits it in bunches; does nothing outside of runs."""

    def __init__(self) -> None:
        self._on = TaskRunContext.get() is not None or FlowRunContext.get() is not None
        self._waiting: list[tuple[str, Outcome, JobRef]] = []

    def observe(self, outcome: Outcome) -> None:
        """Note one step of a document that has a job."""
        name = _NAMES.get(outcome.phase) if outcome.ok else "failed"
        if outcome.reused and name == "submitted":
            return  # that was another run, or this one before it was retried
        if self._on and name and outcome.ref:
            self._waiting.append((name, outcome, outcome.ref))
            if len(self._waiting) >= _AT_ONCE:
                self.flush()

    def flush(self) -> None:
        """Hand what was collected to Prefect, which sends it in the background."""
        waiting, self._waiting = self._waiting, []
        for name, outcome, ref in waiting:
            emit_event(f"docjobs.job.{name}", resource=event_resource(ref), payload=_payload(outcome, ref))


def _payload(outcome: Outcome, ref: JobRef) -> dict[str, Any]:
    reason = outcome.reason.value if outcome.reason else None
    phase, seconds = outcome.phase.value, outcome.seconds
    return event_payload(ref.provider, ref.job_id, ref, phase=phase, reason=reason, seconds=seconds)
