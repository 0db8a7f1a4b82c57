"""The form of the events about jobs, the same whoever emits them: a run that waits, or the push receiver."""

from __future__ import annotations

from typing import Any

from prefect_docjobs.models.jobs import JobRef


def event_resource(ref: JobRef) -> dict[str, str]:
    """The resource of a job's events."""
    return {
        **bare_event_resource(ref.provider, ref.tenant, ref.job_id),
        "prefect.resource.name": ref.document_name,
        "docjobs.product": ref.product,
    }


def bare_event_resource(provider: str, tenant: str, job_id: str) -> dict[str, str]:
    """The same of a job of which nothing else is known."""
    return {
        "prefect.resource.id": f"docjobs.job.{provider}.{job_id}",
        "docjobs.provider": provider,
        "docjobs.tenant": tenant,
    }


def event_payload(
    provider: str, job_id: str, ref: JobRef | None, *, phase: str, reason: str | None, seconds: float | None
) -> dict[str, Any]:
    """What an event tells; its `ref` takes the job up anywhere.

    Args:
        provider: Registry name of the service.
        job_id: The service's id.
        ref: The job, where its document is known.
        phase: The step that has ended: `submit`, `wait` or `fetch`.
        reason: Why there is no result, for a failed job.
        seconds: How long it took, where that is known.
    """
    return {
        "provider": provider,
        "job_id": job_id,
        "document": ref.document_name if ref else None,
        "sha256": ref.document_sha256 if ref else None,
        "phase": phase,
        "reason": reason,
        "seconds": seconds,
        "ref": ref.model_dump(mode="json", exclude_none=True) if ref else None,
    }
