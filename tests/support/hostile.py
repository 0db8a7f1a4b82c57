"""Whatever arrives gives a value or a typed error: JSON for hypothesis, and what must hold of each reader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
from hypothesis import settings
from hypothesis import strategies as st
from support.wire import answer

from prefect_docjobs.errors import DocJobsError, InvalidPush, ServiceError, SubmitUncertain
from prefect_docjobs.http import Answer
from prefect_docjobs.models import JobRef, JobStatus, Result
from prefect_docjobs.providers.base import Provider, Push, Submitted

EXAMPLES = settings(max_examples=200, deadline=None)


def scalars(*words: str) -> st.SearchStrategy[Any]:
    """Single JSON values; `words` are those that mean something to the service."""
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    return plain | st.sampled_from(words) if words else plain


def json_values(keys: Sequence[str] = (), words: Sequence[str] = ()) -> st.SearchStrategy[Any]:
    """JSON of any shape, which often has the keys and the words of the service."""
    names = st.sampled_from(keys) | st.text(max_size=4) if keys else st.text(max_size=8)
    return st.recursive(
        scalars(*words),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
        max_leaves=25,
    )


def bodies(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Bodies of answers: the values as JSON, any text, any bytes."""
    written = values.map(lambda value: json.dumps(value).encode())
    return written | st.binary(max_size=60) | st.text(max_size=60).map(str.encode)


def redirect(body: bytes, status: int, location: bytes | None, url: str = "") -> Answer:
    """An answer whose `Location` is any bytes at all."""
    headers = httpx.Headers([(b"location", location)] if location else [])
    return replace(answer(body, status, url=url), headers=headers)


def check_submit(provider: Provider, heard: Answer, *refusals: type[ServiceError]) -> None:
    """An answer to a submit names a job, or the submit is uncertain, or refused where that is documented."""
    with suppress(SubmitUncertain, *refusals):
        submitted: Any = provider.read_new_job(heard)
        assert isinstance(submitted, Submitted)
        assert submitted.job_id.strip()


def check_status(provider: Provider, ref: JobRef, heard: Answer) -> JobStatus | None:
    """An observation is about the job that was asked for; None for a typed error."""
    with suppress(ServiceError), provider.reading(heard):
        status: Any = provider.read_status(ref, heard)
        assert isinstance(status, JobStatus)
        assert status.ref.job_id == ref.job_id
        return status
    return None


def check_result(provider: Provider, ref: JobRef, heard: Answer) -> None:
    """A result can be made rows of, and is kept untouched."""
    with suppress(DocJobsError):
        result: Any = provider.read_result(ref, heard)
        assert isinstance(result, Result)
        assert all(isinstance(row, dict) for row in (result.row(), *result.line_items()))
        assert json.dumps(result.raw) == json.dumps(heard.json())


def check_error(kind: type[Provider], heard: Answer) -> None:
    """A refusal is a typed error that can be told to a person."""
    error: Any = kind.read_error(heard)
    assert isinstance(error, ServiceError)
    assert (error.status, error.provider) == (heard.status, kind.name)
    assert error.args[0].strip()
    assert error.retry_after is None or 0 <= error.retry_after <= 86_400


def check_push(kind: type[Provider], body: bytes) -> None:
    """A webhook call tells the end of a job, or is refused."""
    with suppress(InvalidPush):
        push: Any = kind.read_push(body)
        assert isinstance(push, Push)
        assert push.state.is_terminal
