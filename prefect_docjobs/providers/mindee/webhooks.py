"""Mindee V2's webhooks: the calls that it makes, and what a job says about them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from prefect_docjobs.errors import InvalidPush
from prefect_docjobs.models import JobState, Problem
from prefect_docjobs.providers.base import Push
from prefect_docjobs.providers.mindee.errors import read_problem
from prefect_docjobs.providers.values import elements, index, mapping, object_of, text, text_of

SIGNATURE_HEADER = "X-Signature"
"""Lower-case hex HMAC-SHA256 of the raw body (docs.mindee.com, process-the-response)."""


_NAMED_BY = (("job", "id"), ("file", "alias"))


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """How one webhook call of a job went (`WebhookResponse`, Mindee V2 OpenAPI).

    Attributes:
        webhook_id: The webhook, as in `webhook_ids`.
        status: `Processing`, `Processed` or `Failed`; the schema's default is `Processing`.
        attempts: Calls made so far; the schema's default is 0.
        called_at: When, as the service writes it (its time zone is not documented), or None.
        error: What went wrong, or None.
    """

    webhook_id: str
    status: str = "Processing"
    attempts: int = 0
    called_at: str | None = None
    error: Problem | None = None


def read_webhooks(payload: Any) -> tuple[WebhookDelivery, ...]:
    """The webhook calls in a `JobResponse`; empty until the job is processed.

    Raises:
        LookupError, TypeError, ValueError: The payload is no `JobResponse`.
    """
    calls = [object_of(item) for item in elements(object_of(payload["job"]).get("webhooks"))]
    return tuple(
        WebhookDelivery(
            webhook_id=text_of(call["id"]),
            status=text(call.get("status")) or "Processing",
            attempts=index(call.get("attempts_count")) or 0,
            called_at=text(call.get("created_at")),
            error=read_problem(call.get("error")),
        )
        for call in calls
    )


def read_push(body: bytes) -> Push:
    """What a webhook call says.

    Success is the same JSON as a fetched result (docs.mindee.com, webhooks). Failure is flat and has no
    job id, only `inference_id` and `file_alias` (mindee 5.4.0 SDK, `FailedInferenceResponse`): such a call
    finds its job by the alias, which is why each submit carries one.

    Raises:
        InvalidPush: The body is neither.
    """
    try:
        payload = object_of(json.loads(body))
    except (ValueError, RecursionError):
        raise InvalidPush("The call's body is not a JSON object.") from None
    inference = payload.get("inference")
    if isinstance(inference, dict):
        job_id, alias = (text(mapping(inference.get(part)).get(name)) for part, name in _NAMED_BY)
        return Push(JobState.SUCCEEDED, payload, job_id=job_id, alias=alias)
    if "inference_id" in payload and isinstance(payload.get("error"), dict):
        error = read_problem(payload["error"])
        return Push(JobState.FAILED, payload, alias=text(payload.get("file_alias")), error=error)
    raise InvalidPush("The call is neither an inference nor a failed inference of Mindee V2.")
