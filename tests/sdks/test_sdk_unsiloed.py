"""The official unsiloed-sdk 0.1.7, unmodified, against the simulator."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from support.official_sdks import Outcomes

pytestmark = pytest.mark.sdk


@pytest.fixture
def unsiloed(sdks: Mapping[str, Outcomes]) -> Outcomes:
    return sdks["unsiloed"]


@pytest.mark.parametrize(
    ("call", "number", "total", "first_item"),
    [
        ("extract_brightwater", "BW-10442", 1452.17, "Flow sensor FS-12"),
        ("extract_bergmann", "2026-0317", 1432.4, "Lärchendielen gehobelt"),
        ("async_extract_bergmann", "2026-0317", 1432.4, "Lärchendielen gehobelt"),
    ],
)
def test_an_extraction_has_the_documents_own_values_and_places(
    unsiloed: Outcomes, call: str, number: str, total: float, first_item: str
) -> None:
    job = unsiloed.returned(call)
    found = job["result"]
    assert (job["status"], job["error"]) == ("completed", None)
    assert (found["invoice_number"]["value"], found["total_amount"]["value"]) == (number, total)
    assert found["line_items"][0]["description"]["value"] == first_item
    assert found["total_amount"]["citation"]["page"] == 1
    left, top, right, bottom = found["total_amount"]["citation"]["bbox"]
    assert left < right
    assert top < bottom


def test_a_document_behind_a_url_is_extracted(unsiloed: Outcomes) -> None:
    found = unsiloed.returned("extract_url")["result"]
    assert (found["invoice_number"]["value"], found["total_amount"]["value"]) == ("REMOTE-7", 77.7)
    assert found["total_amount"]["citation"] is None


@pytest.mark.parametrize(
    ("call", "pages", "heading"),
    [
        ("parse", 3, "# Cascade Pump Supplies Ltd\n"),
        ("async_parse", 2, "# SERVICE AGREEMENT\n"),
        ("parse_url", 1, "# INVOICE\n"),
        ("async_parse_url", 1, "# INVOICE\n"),
    ],
)
def test_a_parse_gives_a_chunk_for_each_page(unsiloed: Outcomes, call: str, pages: int, heading: str) -> None:
    job = unsiloed.returned(call)
    assert (job["status"], job["page_count"], job["total_chunks"]) == ("Succeeded", pages, pages)
    assert job["chunks"][0]["embed"].startswith(heading)
    numbers = [segment["page_number"] for chunk in job["chunks"] for segment in chunk["segments"]]
    assert sorted(set(numbers)) == list(range(1, pages + 1))


@pytest.mark.parametrize(
    ("call", "label", "pages"),
    [
        ("classify_invoice", "invoice", 1),
        ("classify_contract", "contract", 2),
        ("async_classify", "contract", 2),
    ],
)
def test_a_classification_gives_one_of_the_categories(
    unsiloed: Outcomes, call: str, label: str, pages: int
) -> None:
    result = unsiloed.returned(call)["result"]
    assert (result["classification"], result["processed_pages"]) == (label, pages)
    assert [page["page"] for page in result["page_results"]] == list(range(1, pages + 1))


@pytest.mark.parametrize("call", ["split", "async_split"])
def test_a_split_names_its_files(unsiloed: Outcomes, call: str) -> None:
    job = unsiloed.returned(call)
    assert job["status"] == "completed"
    assert [(part["type"], part["name"]) for part in job["result"]["files"]] == [
        ("invoice", "invoice-1-3.pdf")
    ]
    assert job["parameters"]["classes"] == ["invoice", "receipt", "contract"]


def test_a_job_is_followed_step_by_step(unsiloed: Outcomes) -> None:
    followed = unsiloed.returned("step_by_step")
    assert followed["statuses"][0] == "queued"
    assert followed["statuses"][-1] == "completed"
    assert (followed["same_job"], followed["file_name"]) == (True, "invoice-brightwater.pdf")
    assert followed["invoice_number"]["value"] == "BW-10442"
    assert followed["invoice_number"]["citation"] is None, "no citations were asked for"


@pytest.mark.parametrize(
    ("call", "status", "key"),
    [
        ("failed_extract", "failed", "error"),
        ("async_failed_extract", "failed", "error"),
        ("failed_parse", "Failed", "message"),
    ],
)
def test_a_failed_job_tells_why(unsiloed: Outcomes, call: str, status: str, key: str) -> None:
    job = unsiloed.returned(call)
    assert (job["status"], job["result"]) == (status, None)
    assert "the PDF cannot be read" in job[key]


@pytest.mark.parametrize(
    ("call", "kind", "status"),
    [
        ("wrong_key", "AuthenticationError", 401),
        ("async_wrong_key", "AuthenticationError", 401),
        ("missing_job", "NotFoundError", 404),
    ],
)
def test_a_refusal_is_raised_with_its_status(unsiloed: Outcomes, call: str, kind: str, status: int) -> None:
    raised = unsiloed.raised(call)
    assert (raised["type"], raised["status_code"]) == (kind, status)
