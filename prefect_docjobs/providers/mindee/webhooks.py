"""Mindee V2's webhooks: the calls that it makes, and what a job says about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect_docjobs.errors import InvalidPush
from prefect_docjobs.models import JobState, Problem
from prefect_docjobs.providers.base import Push
from prefect_docjobs.providers.mindee.errors import read_problem
from prefect_docjobs.providers.values import elements, index, mapping, object_of, text, text_of

SIGNATURE_HEADER = "X-Signature"
"""Lower-case hex HMAC-SHA256 of the raw body (docs.mindee.com, process-the-response)."""


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
    return tuple(_delivery(object_of(item)) for item in elements(object_of(payload["job"]).get("webhooks")))


def _delivery(raw: Mapping[str, Any]) -> WebhookDelivery:
    return WebhookDelivery(
        webhook_id=text_of(raw["id"]),
        status=text(raw.get("status")) or "Processing",
        attempts=index(raw.get("attempts_count")) or 0,
        called_at=text(raw.get("created_at")),
        error=read_problem(raw.get("error")),
    )


def read_push(body: bytes) -> Push:
    """What a webhook call says.

    Success is the same JSON as a fetched result (docs.mindee.com, webhooks). Failure is flat and has no
    job id, only `inference_id` and `file_alias` (mindee 5.4.0 SDK, `FailedInferenceResponse`): such a call
    finds its job by the alias, which is why each submit carries one.

    Raises:
        InvalidPush: The body is neither.
    """
    payload = _object_in(body)
    inference = payload.get("inference")
    if isinstance(inference, dict):
        return _success(payload, inference)
    if "inference_id" in payload and isinstance(payload.get("error"), dict):
        error = read_problem(payload["error"])
        return Push(JobState.FAILED, payload, alias=text(payload.get("file_alias")), error=error)
    raise InvalidPush("The call is neither an inference nor a failed inference of Mindee V2.")


def _object_in(body: bytes) -> dict[str, Any]:
    try:
        return object_of(json.loads(body))
    except (ValueError, RecursionError):
        raise InvalidPush("The call's body is not a JSON object.") from None


def _success(payload: dict[str, Any], inference: Mapping[str, Any]) -> Push:
    return Push(
        JobState.SUCCEEDED,
        payload,
        job_id=text(mapping(inference.get("job")).get("id")),
        alias=text(mapping(inference.get("file")).get("alias")),
    )
