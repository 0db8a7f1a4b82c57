"""Job blocks of the four services, for tests that have a Prefect server."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from support.services import KEY, SETTINGS

from prefect_docjobs.blocks import DocJob, MindeeJob, MindeeV1Job, NuMindJob, UnsiloedJob
from prefect_docjobs.models import JobRef

JOBS: Mapping[str, type[DocJob]] = MappingProxyType(
    {"mindee": MindeeJob, "mindee_v1": MindeeV1Job, "numind": NuMindJob, "unsiloed": UnsiloedJob}
)
"""The job block of each provider."""


def make_job(
    name: str, base_url: str, *, key: str = KEY, tenant: str | None = None, **settings: Any
) -> DocJob:
    """A job block that asks for an invoice's number and total."""
    kind = JOBS[name]
    account = {"api_key": key, "base_url": base_url, "tenant": tenant}
    return kind(**{**SETTINGS[name], **settings, "credentials": account})


def aged(ref: JobRef) -> JobRef:
    """The same job as if submitted an hour ago: a waiter looks at it at once."""
    return ref.model_copy(update={"submitted_at": ref.submitted_at - timedelta(hours=1)})
