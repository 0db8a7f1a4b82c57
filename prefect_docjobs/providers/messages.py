"""What providers say of services, jobs and webhook calls: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect_docjobs.models import JobRef, JobState, JobStatus, Problem


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a service can do, so that callers choose and never guess.

    Attributes:
        list_jobs: One request observes many jobs (`Provider.list_jobs`).
        stream: The service tells the end of a job on an open connection (`Provider.stream`).
        cancel: A running job can be stopped (`Provider.cancel`).
        push: The service calls a webhook that can be verified (`Provider.read_push`).
        hints: The service calls a webhook that cannot be verified: a reason to look, and no more.
        url_input: The service downloads documents from https addresses itself.
        media_types: What the service documents as accepted; None where it does not say.
        max_bytes: Largest document that the service documents; None where it does not say.
    """

    list_jobs: bool = False
    stream: bool = False
    cancel: bool = False
    push: bool = False
    hints: bool = False
    url_input: bool = False
    media_types: frozenset[str] | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Polling:
    """When to look at a job, in seconds, as the service or its own SDK recommends.

    Attributes:
        first: After the submit.
        every: Between two looks.
        at_least: The service's documented minimum between two looks.
    """

    first: float
    every: float
    at_least: float = 1.0


@dataclass(frozen=True, slots=True)
class Submitted:
    """What the answer to a submit says about the new job."""

    job_id: str
    alias: str | None = None
    result_url: str | None = None
    document_id: str | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job of a list; the fields are those of `JobStatus`, and when it was created (UTC)."""

    state: JobState
    raw_state: str | None = None
    error: Problem | None = None
    expired: bool = False
    took: float | None = None
    created_at: datetime | None = None

    def status(self, ref: JobRef, seen_at: datetime) -> JobStatus:
        """The row as an observation of the job that `ref` names."""
        return JobStatus(
            ref=ref,
            state=self.state,
            raw_state=self.raw_state,
            error=self.error,
            expired=self.expired,
            took=self.took,
            seen_at=seen_at,
        )


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of a list of jobs.

    Attributes:
        rows: By job id, in the service's order.
        seen_at: When the answer arrived (UTC).
        total: Jobs in the whole list, or None.
    """

    rows: Mapping[str, JobRow]
    seen_at: datetime
    total: int | None = None

    @property
    def dates(self) -> list[datetime]:
        """When its jobs were created (UTC), in the service's order, as far as the service tells."""
        return [row.created_at for row in self.rows.values() if row.created_at is not None]

    @property
    def oldest_first(self) -> bool | None:
        """The order of the list, from the dates of this page; None when they do not tell."""
        dates = self.dates
        if len(dates) < 2 or dates[0] == dates[-1]:
            return None
        return dates[0] < dates[-1]


@dataclass(frozen=True, slots=True)
class Push:
    """A verified webhook call. It names its job by `job_id`, by `alias`, or by both.

    Attributes:
        state: SUCCEEDED or FAILED.
        payload: The whole call as JSON; `Provider.read_result` takes it where the job succeeded.
    """

    state: JobState
    payload: Any
    raw_state: str | None = None
    job_id: str | None = None
    alias: str | None = None
    error: Problem | None = None
