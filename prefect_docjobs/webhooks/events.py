"""Prefect's events of what was pushed: emitted beside the answer, and never a reason to fail."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger import PushReceipt
from prefect_docjobs.models import JobState
from prefect_docjobs.models.job_events import bare_event_resource, event_payload, event_resource
from prefect_docjobs.webhooks.accounts import WebhookAccount
from prefect_docjobs.webhooks.calls import Call

_log = logging.getLogger(__name__)
_MOST_WAITING = 10_000


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event, as Prefect takes it."""

    name: str
    resource: dict[str, str]
    related: list[dict[str, str]]
    payload: dict[str, Any]


def event_of(account: WebhookAccount, call: Call, kept: PushReceipt) -> JobEvent | None:
    """The event of a push; None for a replay, for a hint, and for a job whose id nobody knows."""
    record = kept.record
    job_id = record.job_id if record else call.job_id
    if not kept.is_new or call.state is None or job_id is None:
        return None
    ref = record.ref if record else None
    failed = call.state is not JobState.SUCCEEDED
    bare = bare_event_resource(account.provider, account.tenant, job_id)
    return JobEvent(
        name=f"docjobs.job.{'failed' if failed else 'completed'}",
        resource=event_resource(ref) if ref else bare,
        related=_related(record.flow_run_id if record else None),
        payload=event_payload(
            account.provider,
            job_id,
            ref,
            phase="wait",
            reason=Reason.FAILED.value if failed else None,
            seconds=round(record.age, 3) if record else None,
        ),
    )


def _related(flow_run_id: str | None) -> list[dict[str, str]]:
    if flow_run_id is None:
        return []
    resource_id = f"prefect.flow-run.{flow_run_id}"
    return [{"prefect.resource.id": resource_id, "prefect.resource.role": "flow-run"}]


class Announcer:
    """Emits events from a thread of its own, where Prefect has an API; importing Prefect takes a second.

    Args:
        wanted: Whether to emit at all.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._thread: ThreadPoolExecutor | None = None
        self._room = threading.BoundedSemaphore(_MOST_WAITING)

    def start(self) -> None:
        """Have Prefect imported, so that the first push finds it ready."""
        if self._wanted and self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="docjobs-events")
            self._thread.submit(_prefect_has_an_api)

    def announce(self, account: WebhookAccount, call: Call, kept: PushReceipt) -> None:
        """Emit the event of a push, soon."""
        event = event_of(account, call, kept)
        if event is None or not self._wanted:
            return
        self.start()
        if self._thread is None or not self._room.acquire(blocking=False):
            return
        self._thread.submit(_emit, event).add_done_callback(lambda _: self._room.release())

    def close(self) -> None:
        """Emit what is waiting, and stop; does not wait for that."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None


def _prefect_has_an_api() -> bool:
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() is not None


def _emit(event: JobEvent) -> None:
    try:
        if _prefect_has_an_api():
            from prefect.events import emit_event

            emit_event(event.name, resource=event.resource, related=event.related, payload=event.payload)
    except Exception as problem:  # noqa: BLE001 (the push is kept, whatever becomes of its event)
        _log.warning("An event could not be emitted: %s", type(problem).__name__)
