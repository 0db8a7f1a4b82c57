"""The official mindee 5.4.0 SDK's V1 client, unmodified, against the simulator."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from support.official_sdks import Outcomes

pytestmark = pytest.mark.sdk


@pytest.fixture
def mindee(sdks: Mapping[str, Outcomes]) -> Outcomes:
    return sdks["mindee_v1"]


def test_an_invoice_comes_back_with_its_own_values(mindee: Outcomes) -> None:
    assert mindee.returned("invoice_brightwater") == {
        "job_status": "completed",
        "name": "invoice-brightwater.pdf",
        "pages": 1,
        "ids_differ": True,
        "invoice_number": "BW-10442",
        "supplier_name": "Brightwater Instruments Inc.",
        "date": "2026-02-03",
        "total_amount": 1452.17,
        "total_net": 1344.6,
        "currency": "USD",
        "total_page": 0,
        "total_confidence": 0.99,
        "line_items": [
            ["Flow sensor FS-12", 4.0, 345.0],
            ["Mounting kit", 4.0, 49.6],
            ["Calibration on site", 1.0, 950.0],
        ],
    }


def test_another_invoice_comes_back_with_other_values(mindee: Outcomes) -> None:
    found = mindee.returned("invoice_bergmann")
    assert (found["invoice_number"], found["total_amount"], found["currency"]) == ("2026-0317", 1432.4, "EUR")
    assert found["supplier_name"] == "Holzbau Bergmann GmbH"


def test_a_document_behind_a_url_is_read(mindee: Outcomes) -> None:
    found = mindee.returned("invoice_url")
    assert (found["invoice_number"], found["total_amount"]) == ("REMOTE-7", 77.7)


def test_the_splitter_tells_page_groups(mindee: Outcomes) -> None:
    assert mindee.returned("splitter") == [[0, 1, 2]]


def test_a_custom_api_gives_the_documents_own_fields(mindee: Outcomes) -> None:
    found = mindee.returned("custom")
    assert found["agreement_number"] == "SA-2026-017"
    assert found["monthly_fee"] == "4800.0"


def test_a_job_passes_through_its_states(mindee: Outcomes) -> None:
    followed = mindee.returned("step_by_step")
    assert followed["statuses"][0] == "waiting"
    assert followed["statuses"][-1] == "completed"
    assert set(followed["statuses"]) <= {"waiting", "processing", "completed"}
    assert followed["same_job"] is True
    assert followed["invoice_number"] == "BW-10442"


def test_a_failed_job_is_raised(mindee: Outcomes) -> None:
    # The SDK reads `api_request.error` of a failed job, which is empty, and so loses the reason.
    raised = mindee.raised("failed_job")
    assert (raised["type"], raised["status_code"]) == ("MindeeHTTPServerError", 500)


@pytest.mark.parametrize(
    ("call", "status", "code"), [("wrong_key", 401, "Unauthorized"), ("missing_job", 404, "NotFound")]
)
def test_a_refusal_is_raised_with_status_and_code(
    mindee: Outcomes, call: str, status: int, code: str
) -> None:
    raised = mindee.raised(call)
    assert raised["type"] == "MindeeHTTPClientError"
    assert (raised["status_code"], raised["api_code"]) == (status, code)
