"""NuExtract: whatever an answer holds, reading it gives a value or a typed error."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hostile import (
    EXAMPLES,
    bodies,
    check_error,
    check_result,
    check_status,
    check_submit,
    json_values,
)
from support.numind_service import JOB, RESULT, STATUS, job_ref
from support.wire import answer

from prefect_docjobs.errors import DocJobsError
from prefect_docjobs.http import Answer
from prefect_docjobs.models import JobState, JobStatus, Result
from prefect_docjobs.providers.base import JobPage
from prefect_docjobs.providers.numind import NuMind, provider

TEMPLATE = NuMind(template={"total": "number"})
CONTENT = NuMind(product="content")
REF = job_ref()

anything = json_values()


def spoiled(example: Any) -> st.SearchStrategy[Any]:
    """The example with some of its values replaced by anything at all."""
    changes = st.dictionaries(st.sampled_from(sorted(example)), anything, max_size=4)
    return changes.map(lambda changed: {**example, **changed})


payloads = anything | spoiled(STATUS) | spoiled(JOB) | spoiled(RESULT) | spoiled({"items": [STATUS], **JOB})
statuses = st.sampled_from([200, 206, 400, 401, 403, 404, 409, 413, 429, 500, 503])
kinds = st.sampled_from(["application/json", "text/plain", "text/html", "text/event-stream", "", "\x00/;"])
told = st.builds(
    lambda body, status, kind: answer(body, status, content_type=kind), bodies(payloads), statuses, kinds
)


def read_page(heard: Answer) -> JobPage:
    with NuMind.reading(heard):
        return provider.read_page(heard)


def read_event(name: str) -> Callable[[Answer], JobStatus | None]:
    def read(heard: Answer) -> JobStatus | None:
        with NuMind.reading(heard):
            return provider.read_event(REF, name, heard)

    return read


def read_status(heard: Answer) -> JobStatus:
    with NuMind.reading(heard):
        return TEMPLATE.read_status(REF, heard)


def read_result(job: NuMind) -> Callable[[Answer], object]:
    return lambda heard: job.read_result(job_ref(product=job.product), heard)


READERS: dict[str, Callable[[Answer], object]] = {
    "submit": TEMPLATE.read_new_job,
    "status": read_status,
    "result": read_result(TEMPLATE),
    "content": read_result(CONTENT),
    "page": read_page,
    "result event": read_event("result"),
    "error event": read_event("error"),
}


@EXAMPLES
@given(heard=told)
def test_any_answer_to_a_submit_names_a_job_or_is_uncertain(heard: Answer) -> None:
    check_submit(TEMPLATE, heard)


@EXAMPLES
@given(heard=told)
def test_any_status_is_about_our_job_or_a_typed_error(heard: Answer) -> None:
    check_status(TEMPLATE, REF, heard)


@pytest.mark.parametrize("job", [TEMPLATE, CONTENT], ids=lambda job: job.product)
@EXAMPLES
@given(heard=told)
def test_any_result_is_a_value_or_a_typed_error(job: NuMind, heard: Answer) -> None:
    check_result(job, job_ref(product=job.product), heard)


@pytest.mark.parametrize("name", ["page", "result event", "error event"])
@EXAMPLES
@given(heard=told)
def test_any_answer_is_a_value_or_a_typed_error(name: str, heard: Answer) -> None:
    with suppress(DocJobsError):
        READERS[name](heard)


@EXAMPLES
@given(heard=told)
def test_any_error_is_typed_and_can_be_shown(heard: Answer) -> None:
    check_error(NuMind, heard)


@EXAMPLES
@given(job=spoiled(STATUS))
def test_only_this_jobs_own_completed_is_success(job: dict[str, Any]) -> None:
    with suppress(DocJobsError):
        status = read_status(answer(job))
        assert job["id"] == REF.job_id
        assert (status.state is JobState.SUCCEEDED) == (
            job["status"].strip().lower() == "completed" and bool(job["completedAt"])
        )


@EXAMPLES
@given(found=st.dictionaries(st.text(max_size=8), anything, max_size=4))
def test_values_come_back_as_they_are(found: dict[str, Any]) -> None:
    result = TEMPLATE.read_result(REF, answer({**RESULT, "result": found}))
    assert isinstance(result, Result)
    assert json.dumps({name: field.value for name, field in result.fields.items()}) == json.dumps(found)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("opening", [b"[", b'{"result":', b'{"items":[', b'{"outputData":'])
def test_bottomless_nesting_is_a_typed_error(reader: Callable[[Answer], object], opening: bytes) -> None:
    heard = answer(opening * 100_000)
    with pytest.raises(DocJobsError):
        reader(heard)
