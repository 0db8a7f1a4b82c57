"""Mindee V1's webhook calls."""

from __future__ import annotations

import json
from collections.abc import Callable

from prefect_docjobs.errors import InvalidPush
from prefect_docjobs.models import JobState
from prefect_docjobs.providers.base import Push
from prefect_docjobs.providers.mindee_v1.errors import read_job_error
from prefect_docjobs.providers.values import object_of, text_of

SIGNATURE_HEADER = "X-Mindee-Hmac-Signature"
"""Hex HMAC-SHA256 of the raw body (docs.mindee.com V1, "Asynchronous Prediction")."""


def read_push(body: bytes, state_of: Callable[[object], JobState]) -> Push:
    """`document` and `job` of a completed job, or `job` of a failed one; never `api_request`.

    Raises:
        InvalidPush: The body is neither.
    """
    try:
        payload = object_of(json.loads(body))
        job = object_of(payload["job"])
        job_id, word = text_of(job["id"]), text_of(job["status"])
    except (LookupError, ValueError, RecursionError):
        raise InvalidPush("The call's body names no job of Mindee V1.") from None
    state = state_of(word)
    if state is JobState.FAILED:
        return Push(state, payload, raw_state=word, job_id=job_id, error=read_job_error(job))
    if state is JobState.SUCCEEDED and isinstance(payload.get("document"), dict):
        return Push(state, payload, raw_state=word, job_id=job_id)
    raise InvalidPush("The call is about a job of Mindee V1 that has not ended.")
