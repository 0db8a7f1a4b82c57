"""NuExtract's results in the one model. Pure functions.

There are two shapes: the typed result routes' own (numind 0.4.2 SDK, StructuredExtractionResponse and
ContentExtractionResponse), and the same as JSON text in a job's `outputData` (numind JobsApi.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from prefect_docjobs.errors import JobCancelled, JobError, JobExpired, JobFailed, ResultLost, Unfinished
from prefect_docjobs.models import Field, JobRef, JobState, Problem, Result, Usage
from prefect_docjobs.providers.numind.answers import job_problem, job_state, own_job, problem, timed_out
from prefect_docjobs.providers.values import index, object_of

TRUNCATED = "The model stopped at a token limit; the result may be incomplete."
PARTIAL = "The service reports an inference error (HTTP 206) without a message."
NO_TEXT = "The service returned no text for this document."


def map_result(ref: JobRef, payload: object) -> Result:
    """A payload of either shape in the one model.

    Raises:
        JobFailed: There is an inference error and no result.
        ResultLost: The job succeeded and holds no output.
        Unfinished: The job has not ended yet.
    """
    body = object_of(payload)
    output = job_output(ref, body) if _is_job(body) else body
    error = _inference_error(output.get("error"))
    found = _found(ref, output, error)
    return Result(
        ref=ref,
        text=found if isinstance(found, str) else None,
        fields=_fields(found),
        usage=Usage(
            input_tokens=index(output.get("inputTokens")),
            output_tokens=index(output.get("outputTokens")),
        ),
        warnings=tuple(_warnings(output, error, found)),
        raw=payload,
    )


def job_output(ref: JobRef, payload: object) -> dict[str, Any]:
    """The result in a job's `outputData`, which is JSON text inside the JSON (numind 0.2.0 SDK).

    Raises:
        JobError: The job failed, was cancelled, or holds no output.
        Unfinished: The job has not ended yet.
    """
    job = own_job(ref, payload)
    state = job_state(job)
    if not state.is_terminal:
        raise Unfinished(f'The job has not ended yet: it is "{job["status"]}".')
    if state is not JobState.SUCCEEDED:
        raise _ended(ref, state, job)
    if job.get("outputData") is None:
        raise ResultLost("The job succeeded, but the service holds no output for it.", ref=ref)
    output = job["outputData"]
    return object_of(json.loads(output) if isinstance(output, str) else output)


def _is_job(body: Mapping[str, Any]) -> bool:
    """Whether this is a JobResponse: a typed result has neither of these keys."""
    return "outputData" in body or ("status" in body and "result" not in body)


def _ended(ref: JobRef, state: JobState, job: Mapping[str, Any]) -> JobError:
    message = str(job_problem(job) or f'The job ended as "{job["status"]}".')
    if state is JobState.CANCELLED:
        return JobCancelled(message, ref=ref)
    return JobExpired(message, ref=ref) if timed_out(job) else JobFailed(message, ref=ref)


def _found(ref: JobRef, output: Mapping[str, Any], error: Problem | None) -> Any:
    """The result itself: markdown as text, named values as an object."""
    found = output.get("result")
    if found is None and error is not None:
        raise JobFailed(str(error), ref=ref)
    if ref.product == "content" and ("result" in output or "rawModelOutput" in output):
        return found  # the model makes it optional
    if found is None:
        raise ValueError("no result")
    return {"result": found} if isinstance(found, str) else found


def _fields(found: object) -> dict[str, Field]:
    if found is None or isinstance(found, str):
        return {}
    named = found if isinstance(found, dict) else {"result": found}
    return {name: _field(value) for name, value in named.items()}


def _field(value: object) -> Field:
    """NuExtract gives values only: no confidence and no place for single fields."""
    if isinstance(value, dict):
        return Field(fields={name: _field(child) for name, child in value.items()})
    if isinstance(value, list):
        return Field(items=[_field(item) for item in value])
    return Field(value=value)


def _warnings(output: Mapping[str, Any], error: Problem | None, found: object) -> Iterator[str]:
    if error is not None:
        yield str(error)
    if output.get("isTruncated") is True:
        yield TRUNCATED
    if found is None:
        yield NO_TEXT


def _inference_error(value: object) -> Problem | None:
    """The `error` of a result, `{"message", "errorCode"}` (numind 0.4.2 SDK, InferenceValidationError)."""
    if isinstance(value, dict):
        told = problem(value.get("message"), value.get("errorCode"))
        return told or Problem(message="The service reports an inference error.", details=value or None)
    return problem(value, None)
