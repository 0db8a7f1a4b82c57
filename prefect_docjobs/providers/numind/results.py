"""NuExtract's results as a `Result`.

There are two shapes: the typed result routes' own (numind 0.4.2 SDK, StructuredExtractionResponse and
ContentExtractionResponse), and the same as JSON text in a job's `outputData` (numind JobsApi.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prefect_docjobs.errors import JobFailed
from prefect_docjobs.models import Field, JobRef, Problem, Result, Usage
from prefect_docjobs.providers.numind.errors import problem
from prefect_docjobs.providers.values import index, markdown_blocks

TRUNCATED = "The model stopped at a token limit; the result may be incomplete."
PARTIAL = "The service reports an inference error (HTTP 206) without a message."
NO_TEXT = "The service returned no text for this document."


def map_output(ref: JobRef, output: Mapping[str, Any], *, raw: Any) -> Result:
    """A result in either shape as a `Result`; `raw` is the whole answer.

    Raises:
        JobFailed: There is an inference error and no result.
    """
    error = _inference_error(output.get("error"))
    found = _found(ref, output, error)
    return Result(
        ref=ref,
        text=found if isinstance(found, str) else None,
        fields=_fields(found),
        blocks=markdown_blocks(found) if isinstance(found, str) else (),
        usage=Usage(
            input_tokens=index(output.get("inputTokens")),
            output_tokens=index(output.get("outputTokens")),
        ),
        warnings=tuple(_warnings(output, error, found)),
        raw=raw,
    )


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
        found = problem(value.get("message"), value.get("errorCode"))
        return found or Problem(message="The service reports an inference error.", details=value or None)
    return problem(value, None)
