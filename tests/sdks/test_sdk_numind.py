"""The official numind SDKs, 0.4.2 and 0.2.0, unmodified, against the simulator."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from support.official_sdks import Outcomes

pytestmark = pytest.mark.sdk

NAMES = {
    "brightwater": ("BW-10442", 1452.17, "Brightwater Instruments Inc."),
    "bergmann": ("2026-0317", 1432.4, "Holzbau Bergmann GmbH"),
    "with_examples": ("R-20931", 25.5, "GREEN LEAF CAFE"),
}


@pytest.fixture
def newest(sdks: Mapping[str, Outcomes]) -> Outcomes:
    return sdks["numind_0_4"]


@pytest.fixture
def of_2025(sdks: Mapping[str, Outcomes]) -> Outcomes:
    return sdks["numind_0_2"]


@pytest.mark.parametrize(
    ("call", "document"),
    [
        ("extract_brightwater", "brightwater"),
        ("extract_bergmann", "bergmann"),
        ("extract_with_examples", "with_examples"),
        ("async_extract_brightwater", "brightwater"),
    ],
)
def test_a_template_gets_the_documents_own_values(newest: Outcomes, call: str, document: str) -> None:
    found = newest.returned(call)
    assert (found["invoice_number"], found["total_amount"], found["supplier"]["name"]) == NAMES[document]
    assert len(found["line_items"]) == 3
    assert isinstance(found["line_items"][0]["quantity"], int)


def test_what_a_document_does_not_say_is_none(newest: Outcomes) -> None:
    assert newest.returned("async_extract_contract") == {
        "invoice_number": None,
        "total_amount": None,
        "date": None,
        "supplier": {"name": "Northgate Analytics Ltd"},
        "line_items": [],
    }


def test_a_text_is_read_like_a_document(newest: Outcomes) -> None:
    found = newest.returned("extract_text")
    assert (found["invoice_number"], found["total_amount"]) == ("TEXT-3", 3.3)


@pytest.mark.parametrize("call", ["content", "async_content"])
def test_content_comes_as_markdown(newest: Outcomes, call: str) -> None:
    markdown = newest.returned(call)
    assert markdown.startswith("# GREEN LEAF CAFE\n")
    assert "| FLAT WHITE | 2 | 3.40 | 6.80 |" in markdown


def test_a_cancelled_job_is_over(newest: Outcomes) -> None:
    assert newest.returned("cancelled") == {"status": "cancelled", "is_over": True}


def test_an_ended_job_has_a_report(newest: Outcomes) -> None:
    assert newest.returned("reports") == ["content-extraction"]


@pytest.mark.parametrize("call", ["failed_job", "async_failed_job"])
def test_a_failed_job_is_raised_with_its_reason(newest: Outcomes, call: str) -> None:
    raised = newest.raised(call)
    assert raised["type"] == "RuntimeError"
    assert "ended with status failed" in raised["text"]
    assert "the PDF cannot be read" in raised["text"]


def test_a_failed_job_is_told_when_the_caller_prefers_that(newest: Outcomes) -> None:
    told = newest.returned("failed_job_told")
    assert told["status"] == "failed"
    assert told["reason"].startswith("event: result\ndata: {")


@pytest.mark.parametrize(
    ("call", "kind", "status"),
    [
        ("wrong_key", "UnauthorizedException", 401),
        ("async_wrong_key", "UnauthorizedException", 401),
        ("missing_job", "NotFoundException", 404),
    ],
)
def test_a_refusal_is_raised_with_code_and_message(
    newest: Outcomes, call: str, kind: str, status: int
) -> None:
    raised = newest.raised(call)
    assert (raised["type"], raised["status"]) == (kind, status)
    assert json.loads(str(raised["body"])).keys() == {"code", "message"}


@pytest.mark.parametrize(
    ("call", "document"),
    [
        ("extract_brightwater", "brightwater"),
        ("extract_bergmann", "bergmann"),
        ("extract_with_examples", "with_examples"),
        ("async_extract_bergmann", "bergmann"),
    ],
)
def test_2025_a_stream_ends_with_the_documents_own_values(
    of_2025: Outcomes, call: str, document: str
) -> None:
    found = of_2025.returned(call)
    assert (found["invoice_number"], found["total_amount"], found["supplier"]["name"]) == NAMES[document]


def test_2025_a_stream_ends_with_markdown(of_2025: Outcomes) -> None:
    assert of_2025.returned("content").startswith("# GREEN LEAF CAFE\n")


def test_2025_a_project_is_made_used_and_deleted(of_2025: Outcomes) -> None:
    assert of_2025.returned("project") == {
        "result": {"agreement_number": "SA-2026-017", "effective_date": "2026-03-01"},
        "shown": ["contracts", "ours"],
        "after": "NotFoundException",
    }


def test_2025_a_whole_job_holds_its_output_as_json_in_json(of_2025: Outcomes) -> None:
    job = of_2025.returned("whole_job")
    assert job["before"] == [None, None]
    assert job["same_id"] is True
    assert job["statuses"] == ["completed", "completed"]
    assert (job["job_type"], job["input_data"]) == ("content-extraction", "{}")
    assert json.loads(job["output_data"])["result"].startswith("# Brightwater Instruments Inc.\n")


def test_2025_jobs_are_listed_page_by_page(of_2025: Outcomes) -> None:
    pages = of_2025.returned("pages_of_jobs")
    assert (pages["sizes"], pages["differ"], pages["told"]) == ([1, 1], True, [1, 1])
    assert pages["at_least"] >= 2


def test_2025_a_failed_job_tells_why_on_its_own_route(of_2025: Outcomes) -> None:
    job = of_2025.returned("failed_job")
    assert (job["status"], job["output_data"]) == ("failed", None)
    assert "the PDF cannot be read" in job["error_message"]


def test_2025_a_failed_job_ends_the_stream_without_output(of_2025: Outcomes) -> None:
    # numind 0.2.0 looks up the output of any `result` event without asking for the job's status.
    raised = of_2025.raised("failed_job_waited_for")
    assert (raised["type"], raised["text"]) == ("KeyError", "'outputData'")


@pytest.mark.parametrize(
    ("call", "kind", "status"),
    [
        ("wrong_key", "UnauthorizedException", 401),
        ("async_wrong_key", "UnauthorizedException", 401),
        ("missing_job", "NotFoundException", 404),
    ],
)
def test_2025_a_refusal_is_raised(of_2025: Outcomes, call: str, kind: str, status: int) -> None:
    raised = of_2025.raised(call)
    assert (raised["type"], raised["status"]) == (kind, status)
