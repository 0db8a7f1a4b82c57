"""NuExtract: results of both shapes in the one model, and where they are fetched from."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.numind_service import JOB, RESULT, Service, http_to, job_ref
from support.wire import answer

from prefect_docjobs.errors import (
    JobCancelled,
    JobExpired,
    JobFailed,
    ResultLost,
    Throttled,
    Unavailable,
    Unreadable,
)
from prefect_docjobs.models import Result, Usage
from prefect_docjobs.providers.numind import NuMind
from prefect_docjobs.testing.hostile import EXAMPLES, json_values

STRUCTURED = NuMind(template={"total": "number"})
CONTENT = NuMind(product="content")
INVOICE = {
    "total": 118.5,
    "paid": False,
    "supplier": {"name": "ACME", "address": {"city": None}},
    "tags": ["a", "b"],
    "lines": [{"text": "Bolts", "net": 100}, {"text": "Nuts", "net": 18.5}],
}


def read(body: Any, *, status: int = 200, job: NuMind = STRUCTURED) -> Result:
    return job.read_result(job_ref(product=job.product), answer(body, status))


def as_job(output: Any, **changes: Any) -> dict[str, Any]:
    return {**JOB, "outputData": output, **changes}


# ---------------------------------------------------------------------------------------------- mapping


def test_named_values_become_fields_without_confidence() -> None:
    result = read({**RESULT, "result": INVOICE})
    assert {name: field.value for name, field in result.fields.items()} == INVOICE
    assert result.row() == {
        "total": 118.5,
        "paid": False,
        "supplier.name": "ACME",
        "supplier.address.city": None,
        "tags": ["a", "b"],
    }
    assert result.line_items() == [
        {"list": "lines", "index": 0, "text": "Bolts", "net": 100},
        {"list": "lines", "index": 1, "text": "Nuts", "net": 18.5},
    ]
    assert result.fields["total"].confidence is None
    assert (result.text, result.warnings, result.pages) == (None, (), ())


def test_the_payload_and_the_tokens_are_kept() -> None:
    result = read(RESULT)
    assert result.raw == RESULT
    assert result.usage == Usage(input_tokens=90, output_tokens=7)


@pytest.mark.parametrize("count", [None, "7", True, -1, 7.5, [7]])
def test_a_token_count_that_is_none_is_left_out(count: object) -> None:
    assert read({**RESULT, "outputTokens": count}).usage == Usage(input_tokens=90)


def test_content_becomes_text() -> None:
    result = read({**RESULT, "result": "# Acme\n\n| a |"}, job=CONTENT)
    assert (result.text, result.fields, result.warnings) == ("# Acme\n\n| a |", {}, ())


@pytest.mark.parametrize("body", [{**RESULT, "result": None}, {"rawModelOutput": "?", "outputTokens": 1}])
def test_content_without_text_is_a_result_with_a_warning(body: dict[str, Any]) -> None:
    result = read(body, status=206, job=CONTENT)
    assert result.text is None
    assert result.warnings == ("The service returned no text for this document.",)


def test_empty_text_is_text() -> None:
    assert read({"result": ""}, job=CONTENT).text == ""


@pytest.mark.parametrize(("found", "job"), [([1, {"a": 2}], STRUCTURED), ("x", STRUCTURED), (7, CONTENT)])
def test_a_result_of_an_unexpected_shape_is_one_field(found: object, job: NuMind) -> None:
    result = read({**RESULT, "result": found}, job=job)
    assert result.fields["result"].value == found
    assert result.text is None


def test_a_schema_may_name_a_field_result_or_status() -> None:
    found = {"result": 1, "status": "paid", "outputData": None}
    assert {name: field.value for name, field in read({"result": found}).fields.items()} == found


# --------------------------------------------------------------------------------------------- warnings


def test_a_partial_result_carries_the_services_own_words() -> None:
    error = {"message": "Value of total is no number", "errorCode": "InvalidOutput"}
    result = read({**RESULT, "error": error, "isTruncated": True}, status=206)
    assert result.warnings == (
        "Value of total is no number (InvalidOutput)",
        "The model stopped at a token limit; the result may be incomplete.",
    )
    assert result.fields["total"].value == 118.5


def test_206_alone_is_a_warning_and_200_is_none() -> None:
    assert read(RESULT, status=206).warnings == (
        "The service reports an inference error (HTTP 206) without a message.",
    )
    assert read(RESULT, status=200).warnings == ()


@pytest.mark.parametrize("error", [{"why": [1]}, "it broke", {"message": None, "errorCode": 7}])
def test_an_error_of_another_shape_is_still_a_warning(error: object) -> None:
    assert len(read({**RESULT, "error": error}).warnings) == 1


def test_an_error_without_any_result_is_a_failed_job() -> None:
    body = {**RESULT, "result": None, "error": {"message": "No page is readable", "errorCode": "E9"}}
    with pytest.raises(JobFailed, match=r"No page is readable \(E9\)") as caught:
        read(body, status=206)
    assert caught.value.ref == job_ref()


@pytest.mark.parametrize("body", [{**RESULT, "result": None}, {}, [], "text", None, {"detail": "x"}])
def test_an_answer_without_a_result_is_refused(body: object) -> None:
    with pytest.raises(Unreadable):
        read(body)


# ------------------------------------------------------------------------------------------- outputData


def test_output_data_is_json_inside_the_json() -> None:
    result = read(JOB)
    assert result.fields["total"].value == 118.5
    assert result.usage == Usage(input_tokens=90, output_tokens=7)
    assert result.raw == JOB


def test_output_data_may_be_an_object_too() -> None:
    assert read(as_job({**RESULT, "result": {"total": 1}})).fields["total"].value == 1


def test_output_data_of_content_is_text() -> None:
    assert read(as_job(json.dumps({"result": "# A"})), job=CONTENT).text == "# A"


def test_the_output_of_another_job_is_refused() -> None:
    with pytest.raises(Unreadable, match="another job"):
        read(as_job(json.dumps(RESULT), id="j-124"))


@pytest.mark.parametrize("output", ["not json", '"text"', "7", 7, True, [], {}])
def test_output_data_that_holds_no_result_is_refused(output: object) -> None:
    with pytest.raises(Unreadable):
        read(as_job(output))


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"status": "failed", "errorMessage": "Bad", "errorCode": "E"}, JobFailed, r"Bad \(E\)"),
        ({"status": "failed"}, JobFailed, 'ended as "failed"'),
        ({"status": "failed", "errorCode": "JobTimeout"}, JobExpired, "JobTimeout"),
        ({"status": "timeout"}, JobExpired, 'ended as "timeout"'),
        ({"status": "cancelled"}, JobCancelled, 'ended as "cancelled"'),
        ({}, ResultLost, "holds no output"),
        ({"status": "running", "completedAt": None}, Unavailable, "not ended yet"),
    ],
)
def test_a_job_without_output_says_why(changes: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        read(as_job(None, **changes))


# ---------------------------------------------------------------------------------------------- fetching

RESULT_ROUTE = "GET /api/structured-extraction/jobs/j-123"
JOB_ROUTE = "GET /api/jobs/j-123"


async def fetched(routes: dict[str, httpx.Response]) -> tuple[Result, list[str]]:
    service = Service(routes)
    async with http_to(service) as http:
        got = await STRUCTURED.fetch(http, job_ref())
    return STRUCTURED.read_result(job_ref(), got), service.asked


async def test_the_typed_route_costs_one_request() -> None:
    result, asked = await fetched({RESULT_ROUTE: httpx.Response(200, json=RESULT)})
    assert asked == [RESULT_ROUTE]
    assert result.fields["total"].value == 118.5


async def test_a_service_without_the_typed_route_is_asked_for_the_job() -> None:
    result, asked = await fetched({JOB_ROUTE: httpx.Response(200, json=JOB)})
    assert asked == [RESULT_ROUTE, JOB_ROUTE]
    assert result.fields["total"].value == 118.5


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(404),
        httpx.Response(405),
        httpx.Response(200, text="<html>app</html>"),
        httpx.Response(200, json={**JOB, "id": "j-9"}),
        httpx.Response(200, json=as_job(None)),
    ],
)
async def test_a_result_that_neither_route_has_is_lost(reply: httpx.Response) -> None:
    with pytest.raises(ResultLost) as caught:
        await fetched({JOB_ROUTE: reply})
    assert caught.value.ref == job_ref()


@pytest.mark.parametrize(("status", "kind"), [(429, Throttled), (503, Unavailable)])
async def test_a_result_is_not_called_lost_while_the_other_route_is_out_of_order(
    status: int, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await fetched({JOB_ROUTE: httpx.Response(status)})


async def test_a_job_that_is_not_a_result_yet_is_not_handed_out_as_one() -> None:
    running = as_job(None, status="running", completedAt=None)
    with pytest.raises(Unavailable, match="not ended yet"):
        await fetched({JOB_ROUTE: httpx.Response(200, json=running)})


@EXAMPLES
@given(st.dictionaries(st.text(max_size=8), json_values(), max_size=4))
def test_values_come_back_as_they_are(found: dict[str, Any]) -> None:
    numind = NuMind(template={"total": "number"})
    result = numind.read_result(job_ref(), answer({**RESULT, "result": found}))
    assert json.dumps({name: field.value for name, field in result.fields.items()}) == json.dumps(found)
