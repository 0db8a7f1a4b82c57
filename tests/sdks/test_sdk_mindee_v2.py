"""The official mindee 5.4.0 SDK's V2 client, unmodified, against the simulator."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from support.official_sdks import Outcomes

pytestmark = pytest.mark.sdk


@pytest.fixture
def mindee(sdks: Mapping[str, Outcomes]) -> Outcomes:
    return sdks["mindee_v2"]


def test_an_invoice_comes_back_with_its_own_values_places_and_rows(mindee: Outcomes) -> None:
    found = mindee.returned("extract_brightwater")
    assert found["values"] == {
        "customer_name": "Lakeside Dairy Cooperative",
        "invoice_number": "BW-10442",
        "date": "2026-02-03",
        "due_date": "2026-03-05",
        "purchase_order_number": "88123",
        "subtotal": 1344.6,
        "tax": 107.57,
        "total_amount": 1452.17,
        "supplier_name": "Brightwater Instruments Inc.",
        "currency": "USD",
    }
    assert [row["amount"] for row in found["line_items"]] == [345.0, 49.6, 950.0]
    assert (found["confidence"], found["total_pages"], found["total_corners"]) == ("Certain", [0], [4])
    assert found["file"] == ["invoice-brightwater.pdf", "order-42", 1]
    assert found["model_id"] == "11111111-1111-4111-8111-111111111111"
    assert found["polygon_was_active"] is True
    assert "Invoice number: BW-10442" in found["raw_text"]


def test_another_invoice_comes_back_with_other_values(mindee: Outcomes) -> None:
    found = mindee.returned("extract_bergmann")
    assert found["values"]["invoice_number"] == "2026-0317"
    assert found["values"]["total_amount"] == 1432.4
    assert found["line_items"][0]["description"] == "Lärchendielen gehobelt"
    assert found["file"][0] == "rechnung-bergmann.pdf"


def test_a_document_behind_a_url_is_read(mindee: Outcomes) -> None:
    found = mindee.returned("extract_url")
    assert (found["values"]["invoice_number"], found["values"]["total_amount"]) == ("REMOTE-7", 77.7)
    assert found["total_pages"] == []


def test_a_data_schema_names_the_fields(mindee: Outcomes) -> None:
    assert mindee.returned("extract_by_schema") == {
        "names": ["invoice_number", "supplier"],
        "invoice_number": "2026-0317",
        "supplier_name": "Holzbau Bergmann GmbH",
    }


def test_ocr_gives_the_text_and_its_words(mindee: Outcomes) -> None:
    page = mindee.returned("ocr")
    assert page["content"].startswith("GREEN LEAF CAFE\n14 MARKET STREET, LEEDS\n")
    assert page["words"][:3] == ["GREEN", "LEAF", "CAFE"]
    assert page["words"] == page["content"].split()


def test_crop_split_and_classification_tell_type_and_place(mindee: Outcomes) -> None:
    assert mindee.returned("crop") == [["receipt", 0, 4]]
    assert mindee.returned("split") == [["invoice", [0, 2]]]
    assert mindee.returned("classify_contract") == "contract"
    assert mindee.returned("classify_receipt") == "receipt"


def test_a_job_is_followed_step_by_step(mindee: Outcomes) -> None:
    assert mindee.returned("step_by_step") == {
        "submitted": ["Processing", "invoice-brightwater.pdf", "by-hand", None],
        "finished": ["Processed", "invoice-brightwater.pdf", "by-hand", True],
        "invoice_numbers": ["BW-10442", "BW-10442"],
    }


def test_a_failed_job_is_raised_with_its_reason(mindee: Outcomes) -> None:
    raised = mindee.raised("failed_job")
    assert raised["type"] == "MindeeError"
    assert "Parsing failed for job" in raised["text"]
    assert "the PDF cannot be read" in raised["text"]


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        ("wrong_key", 401, "401-001"),
        ("wrong_model_id", 422, "422-001"),
        ("missing_job", 404, "404-000"),
    ],
)
def test_a_refusal_is_raised_with_status_and_code(
    mindee: Outcomes, call: str, status: int, code: str
) -> None:
    raised = mindee.raised(call)
    assert (raised["type"], raised["status"], raised["code"]) == ("MindeeHTTPErrorV2", status, code)


def test_models_are_found_by_type(mindee: Outcomes) -> None:
    assert mindee.returned("search_models") == [["Simulated ocr", "ocr"]]
