"""The simulated Unsiloed API on the wire."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx
import pytest
from support.simulated import KEY, ORIGIN, Simulated, sample, settled, simulated

HEADERS = {"api-key": KEY}
INVOICE = sample("invoice-brightwater.pdf")
LONG = sample("invoice-cascade-3-pages.pdf")
SCHEMA = {
    "type": "object",
    "properties": {
        "supplier": {"type": "string"},
        "total": {"type": "number"},
        "issued": {"type": ["string", "null"], "format": "date"},
        "iban": {"type": "string"},
        "buyer": {"$ref": "#/$defs/Party"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"description": {"type": "string"}, "quantity": {"type": "integer"}},
            },
        },
    },
    "$defs": {"Party": {"type": "object", "properties": {"name": {"type": "string"}}}},
}
CATEGORIES = [{"name": "receipt", "description": "a till receipt"}, {"name": "Invoice"}, {"name": "other"}]
PATHS = {"extract": "/v2/extract", "parse": "/parse", "classify": "/classify", "split": "/splitter"}
POLLS = {"extract": "/extract", "parse": "/parse", "classify": "/classify", "split": "/splitter"}
FILE_FIELDS = {"extract": "pdf_file", "parse": "file", "classify": "pdf_file", "split": "file"}
URL_FIELDS = {"extract": "file_url", "parse": "url", "classify": "file_url", "split": "file_url"}
PRODUCTS = list(PATHS)


def form_of(product: str, **more: Any) -> dict[str, str]:
    fields: dict[str, Any] = {
        "extract": {"schema_data": json.dumps(SCHEMA), "enable_citations": "true"},
        "parse": {"merge_tables": "true"},
        "classify": {"categories": json.dumps(CATEGORIES)},
        "split": {"categories": json.dumps(CATEGORIES)},
    }
    return {**fields[product], **more}


async def submit(
    simulator: Simulated, product: str, data: bytes = INVOICE, name: str = "acme.pdf", **more: Any
) -> httpx.Response:
    return await simulator.client.post(
        PATHS[product], data=form_of(product, **more), files={FILE_FIELDS[product]: (name, data)}
    )


async def job_id_of(answer: httpx.Response) -> str:
    assert answer.is_success, answer.text
    job_id: str = answer.json()["job_id"]
    return job_id


async def finished(simulator: Simulated, product: str, data: bytes = INVOICE, **more: Any) -> dict[str, Any]:
    job_id = await job_id_of(await submit(simulator, product, data, **more))
    simulator.clock.advance(8)
    answer = await simulator.client.get(f"{POLLS[product]}/{job_id}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["job_id"] == job_id
    return body


@pytest.mark.parametrize(
    ("product", "code", "status", "keys"),
    [
        ("extract", 200, "queued", set()),
        ("parse", 200, "Starting", {"file_name", "created_at", "credit_used", "merge_tables"}),
        ("classify", 202, "processing", set()),
        ("split", 202, "processing", set()),
    ],
)
async def test_a_submit_is_answered_as_documented(
    product: str, code: int, status: str, keys: set[str]
) -> None:
    async with simulated(headers=HEADERS) as simulator:
        answer = await submit(simulator, product)
        assert (answer.status_code, answer.json()["status"]) == (code, status)
        assert answer.json().keys() == {"job_id", "status", "message", "quota_remaining"} | keys


@pytest.mark.parametrize(
    ("product", "words"),
    [
        ("extract", ["queued", "processing", "completed"]),
        ("parse", ["Queued", "Processing", "Succeeded"]),
        ("classify", ["processing", "processing", "completed"]),
        ("split", ["processing", "processing", "completed"]),
    ],
)
async def test_each_route_has_its_own_words_for_a_state(product: str, words: list[str]) -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = await job_id_of(await submit(simulator, product))
        seen, generic = [], []
        for seconds in (0, 2, 6):
            simulator.clock.advance(seconds)
            seen.append((await simulator.client.get(f"{POLLS[product]}/{job_id}")).json()["status"])
            generic.append((await simulator.client.get(f"/jobs/{job_id}")).json()["status"])
        assert seen == words
        assert generic == ["queued", "PROCESSING", "COMPLETED"]


async def test_an_extraction_answers_the_schema_in_the_newest_shape() -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = await finished(simulator, "extract")
        result = body["result"]
        assert result["total"]["value"] == 1452.17
        assert result["issued"]["value"] == "2026-02-03"
        assert result["buyer"]["name"]["value"] == "Lakeside Dairy Cooperative"
        assert [row["quantity"]["value"] for row in result["items"]] == [4, 4, 1]
        assert result["iban"] == {
            "value": None,
            "score": {"grounding_score": 0.0, "extraction_score": None},
            "citation": None,
        }
        citation = result["supplier"]["citation"]
        assert (citation["page"], citation["page_width"], citation["page_height"]) == (1, 612, 792)
        left, top, right, bottom = citation["bbox"]
        assert (left, right > left, top < 64 < bottom) == (56.0, True, True)
        assert body["metadata"] == {"order": list(SCHEMA["properties"]), "schema": SCHEMA, "page_count": 1}
        assert (body["error"], body["file_name"], body["file_url"]) == (None, "acme.pdf", None)


async def test_citations_are_left_out_unless_they_are_requested() -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = await finished(simulator, "extract", enable_citations="false")
        assert body["result"]["total"]["citation"] is None
        assert body["result"]["total"]["score"]["grounding_score"] == 0.0


async def test_an_array_of_texts_is_wrapped_in_the_newest_shape() -> None:
    schema = {"type": "object", "properties": {"supplier": {"type": "array", "items": {"type": "string"}}}}
    async with simulated(headers=HEADERS) as simulator:
        body = await finished(simulator, "extract", schema_data=json.dumps(schema))
        values = [each["__value__"]["value"] for each in body["result"]["supplier"]]
        assert values == ["Brightwater Instruments Inc."]


async def test_the_shape_with_bboxes_can_be_chosen() -> None:
    async with simulated(settled(unsiloed={"field_shape": "bboxes"}), headers=HEADERS) as simulator:
        result = (await finished(simulator, "extract"))["result"]
        supplier = result["supplier"]
        assert (supplier["value"], supplier["score"], supplier["page_no"]) == (
            "Brightwater Instruments Inc.",
            0.99,
            1,
        )
        assert supplier["bboxes"][0].keys() == {
            "bbox",
            "text",
            "type",
            "confidence",
            "page_width",
            "page_height",
        }
        assert result["min_confidence_score"] == 0.0
        assert result["iban"] == {"score": 0.0, "value": None, "bboxes": [], "page_no": None}
        row = result["items"]["value"][0]
        assert (row["description"], row["quantity"], row["page_no"], len(row["bboxes"])) == (
            "Flow sensor FS-12",
            4,
            1,
            2,
        )


async def test_the_legacy_shape_can_be_chosen_while_it_runs() -> None:
    async with simulated(headers=HEADERS) as simulator:
        patch = {"unsiloed": {"field_shape": "legacy"}}
        assert (await simulator.client.patch("/_simulator/settings", json=patch)).status_code == 200
        result = (await finished(simulator, "extract"))["result"]
        assert result["total"] == {"value": 1452.17, "score": 0.99}
        assert result["items"]["value"][1] == {"description": "Mounting kit", "quantity": 4}


async def test_a_parse_gives_the_documents_own_text_in_segments() -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = await finished(simulator, "parse", LONG)
        assert (body["page_count"], body["total_chunks"], body["credit_used"]) == (3, 3, 3)
        assert (body["merge_tables"], body["message"], body["file_type"]) == (True, None, "application/pdf")
        first = body["chunks"][0]["segments"][0]
        assert (first["segment_type"], first["content"]) == ("Title", "Cascade Pump Supplies Ltd")
        assert first["bbox"].keys() == {"left", "top", "width", "height"}
        table = next(each for each in body["chunks"][2]["segments"] if each["segment_type"] == "Table")
        assert table["page_number"] == 3
        assert table["html"].startswith("<table><tr><td>Item</td>")
        assert "| Item | Quantity | Price | Line total |" in body["chunks"][2]["embed"]
        again = (await simulator.client.get(f"/parse/{body['job_id']}")).json()
        assert again["chunks"] == body["chunks"]


async def test_a_segment_without_a_known_place_has_no_bbox() -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = await finished(simulator, "parse", sample("form-equipment-loan.txt"))
        assert {each["bbox"] for each in body["chunks"][0]["segments"]} == {None}


@pytest.mark.parametrize(
    ("name", "label"), [("invoice-brightwater.pdf", "Invoice"), ("receipt-green-leaf.png", "receipt")]
)
async def test_a_document_is_classified_by_what_it_is(name: str, label: str) -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = await finished(simulator, "classify", sample(name))
        result = body["result"]
        assert (result["classification"], result["success"], body["progress"]) == (label, True, "done")
        assert result["total_pages"] == result["processed_pages"] == len(result["page_results"]) == 1
        assert result["page_results"][0]["raw_result"] == label


async def test_a_document_that_fits_no_category_is_guessed_at_with_little_confidence() -> None:
    async with simulated(headers=HEADERS) as simulator:
        result = (await finished(simulator, "classify", sample("form-equipment-loan.txt")))["result"]
        assert result["classification"] == "other"
        assert result["confidence"] < 0.5


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["invoices", "purchase_order"], "purchase_order"),
        (["Receipts", "Alpine Tools"], "Alpine Tools"),
        (["letter", "purchase note"], "letter"),
    ],
)
async def test_a_document_of_no_known_kind_goes_to_the_category_that_it_mentions(
    names: list[str], label: str
) -> None:
    async with simulated(headers=HEADERS) as simulator:
        categories = json.dumps([{"name": name} for name in names])
        body = await finished(simulator, "classify", sample("order-alpine-tools.txt"), categories=categories)
        assert body["result"]["classification"] == label


async def test_a_split_gives_one_file_for_each_part() -> None:
    two = b"INVOICE\nTotal: 5.00\fmore\fRECEIPT\nTotal: 6.00"
    async with simulated(headers=HEADERS) as simulator:
        body = await finished(simulator, "split", two, name="scan.txt")
        files = body["result"]["files"]
        assert [(file["type"], file["name"]) for file in files] == [
            ("Invoice", "invoice-1-2.txt"),
            ("receipt", "receipt-3-3.txt"),
        ]
        assert files[0].keys() == {"name", "path", "type", "fileId", "full_path", "confidence_score"}
        assert body["parameters"] == {
            "classes": ["receipt", "Invoice", "other"],
            "category_descriptions": {"receipt": "a till receipt"},
        }
        assert body["quota_remaining"] == 100_000 - 3


async def test_the_generic_job_has_the_keys_of_its_page_and_the_documents_hash() -> None:
    async with simulated(headers={"X-API-Key": KEY}) as simulator:
        job_id = await job_id_of(await submit(simulator, "extract"))
        body = (await simulator.client.get(f"/jobs/{job_id}")).json()
        assert body.keys() == {
            "id",
            "status",
            "type",
            "created_at",
            "updated_at",
            "pdf_name",
            "pdf_hash",
            "user_id",
        }
        assert (body["id"], body["type"], body["pdf_name"]) == (job_id, "extraction", "acme.pdf")
        assert body["pdf_hash"] == f"sha256:{hashlib.sha256(INVOICE).hexdigest()}"


async def test_the_generic_result_of_an_extraction_lists_its_citations() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = await job_id_of(await submit(simulator, "extract"))
        early = await simulator.client.get(f"/jobs/{job_id}/result")
        assert (early.status_code, early.json()) == (400, {"detail": f"Job {job_id} is still processing"})
        simulator.clock.advance(8)
        body = (await simulator.client.get(f"/jobs/{job_id}/result")).json()
        assert body.keys() == {"data", "processing_time", "detections", "citations"}
        assert (body["data"]["total"]["value"], body["processing_time"]) == (1452.17, 6.0)
        cited = {each["field"]: each["text"] for each in body["citations"]}
        assert cited["buyer.name"] == "Lakeside Dairy Cooperative"
        assert cited["items.2.description"] == "Calibration on site"


@pytest.mark.parametrize(
    ("product", "keys"),
    [
        ("parse", {"file_type", "strategy", "total_chunks", "avg_chunk_size", "chunks", "processing_time"}),
        (
            "classify",
            {
                "classification",
                "confidence",
                "page_results",
                "total_pages",
                "processed_pages",
                "processing_time",
            },
        ),
    ],
)
async def test_the_generic_results_of_other_products(product: str, keys: set[str]) -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = await job_id_of(await submit(simulator, product))
        simulator.clock.advance(8)
        assert (await simulator.client.get(f"/jobs/{job_id}/result")).json().keys() == keys


@pytest.mark.parametrize("product", PRODUCTS)
async def test_a_failed_job_has_its_reason_where_its_route_shows_it(product: str) -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = await finished(simulator, product, b"%PDF-1.7 broken")
        key, other = ("message", "error") if product == "parse" else ("error", "message")
        assert body["status"].lower() == "failed"
        assert "PDF" in body[key]
        assert body.get(other) is None
        generic = (await simulator.client.get(f"/jobs/{body['job_id']}")).json()
        assert (generic["status"], generic["error"]) == ("FAILED", body[key])
        result = await simulator.client.get(f"/jobs/{body['job_id']}/result")
        assert (result.status_code, result.json()) == (
            500,
            {"detail": f"Job {body['job_id']} failed: {body[key]}"},
        )


async def test_a_failed_parse_may_say_why_under_error() -> None:
    async with simulated(settled(unsiloed={"parse_failure_key": "error"}), headers=HEADERS) as simulator:
        body = await finished(simulator, "parse", b"%PDF-1.7 broken")
        assert ("PDF" in body["error"], body["message"]) == (True, None)


async def test_an_extraction_may_end_in_review_with_its_result() -> None:
    async with simulated(settled(unsiloed={"review_share": 1.0}), headers=HEADERS) as simulator:
        body = await finished(simulator, "extract")
        assert (body["status"], body["result"]["total"]["value"]) == ("review", 1452.17)


@pytest.mark.parametrize("product", ["extract", "parse"])
async def test_a_document_with_personal_data_is_blocked_without_a_job(product: str) -> None:
    async with simulated(settled(unsiloed={"pii_blocked_share": 1.0}), headers=HEADERS) as simulator:
        answer = await submit(simulator, product)
        body = answer.json()
        assert (answer.status_code, body["status"], body["job_id"]) == (200, "pii_blocked", None)
        assert simulator.backend.report()["jobs"]["total"] == 0


@pytest.mark.parametrize("product", PRODUCTS)
async def test_a_url_is_answered_from_the_table_and_an_unknown_one_fails(product: str) -> None:
    known, unknown = "https://files.example.org/a/acme.pdf", "https://files.example.org/b.pdf"
    async with simulated(headers=HEADERS) as simulator:
        simulator.backend.documents[known] = INVOICE
        words = []
        for url in (known, unknown):
            answer = await simulator.client.post(
                PATHS[product], data=form_of(product, **{URL_FIELDS[product]: url})
            )
            job_id = await job_id_of(answer)
            simulator.clock.advance(8)
            words.append((await simulator.client.get(f"/jobs/{job_id}")).json()["status"])
        assert words == ["COMPLETED", "FAILED"]


@pytest.mark.parametrize(
    ("product", "missing"),
    [("extract", "schema_data"), ("extract", "pdf_file"), ("classify", "categories"), ("split", "file")],
)
async def test_a_missing_field_is_422_and_named(product: str, missing: str) -> None:
    async with simulated(headers=HEADERS) as simulator:
        form = {name: value for name, value in form_of(product).items() if name != missing}
        files = {} if missing == FILE_FIELDS[product] else {FILE_FIELDS[product]: INVOICE}
        answer = await simulator.client.post(PATHS[product], data=form, files=files)
        assert answer.status_code == 422
        (detail,) = answer.json()["detail"]
        assert detail == {"type": "missing", "loc": ["body", missing], "msg": "Field required", "input": None}


@pytest.mark.parametrize(
    ("product", "more"),
    [
        ("extract", {"schema_data": "{"}),
        ("extract", {"schema_data": "[]"}),
        ("extract", {"model": "omega"}),
        ("classify", {"categories": "[]"}),
        ("classify", {"categories": '[{"description": "no name"}]'}),
        ("split", {"categories": '{"name": "a"}'}),
    ],
)
async def test_a_value_that_makes_no_sense_is_422(product: str, more: dict[str, str]) -> None:
    async with simulated(headers=HEADERS) as simulator:
        answer = await submit(simulator, product, INVOICE, "acme.pdf", **more)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", next(iter(more))]


@pytest.mark.parametrize("product", ["extract", "parse"])
async def test_an_empty_file_or_two_documents_are_refused(product: str) -> None:
    async with simulated(headers=HEADERS) as simulator:
        empty = await submit(simulator, product, b"")
        both = await submit(
            simulator,
            product,
            INVOICE,
            "acme.pdf",
            **{URL_FIELDS[product]: "https://files.example.org/a.pdf"},
        )
        assert [empty.status_code, both.status_code] == [400, 400]
        kind = "text/plain" if product == "parse" else "application/json"
        assert all(answer.headers["content-type"].startswith(kind) for answer in (empty, both))


async def test_a_file_over_the_limit_is_413_with_both_sizes() -> None:
    async with simulated(settled(unsiloed={"most_bytes": 100}), headers=HEADERS) as simulator:
        answer = await submit(simulator, "extract")
        assert answer.status_code == 413
        assert answer.json().keys() == {"error", "message", "file_size_bytes", "max_file_size_bytes"}
        assert answer.json()["file_size_bytes"] == len(INVOICE)


async def test_credits_count_down_by_pages_and_a_spent_quota_is_402() -> None:
    async with simulated(settled(unsiloed={"quota": 4}), headers=HEADERS) as simulator:
        left = [
            (await submit(simulator, "extract", data)).json()["quota_remaining"] for data in (LONG, INVOICE)
        ]
        assert left == [1, 0]
        refused = await submit(simulator, "extract")
        assert (refused.status_code, refused.json()["detail"]["status"]) == (402, "QUOTA_EXCEEDED")
        assert refused.json()["detail"]["quota_data"] == {"current": 4, "limit": 4, "remaining": 0}
        parse = await submit(simulator, "parse")
        assert (parse.status_code, parse.text) == (402, "Insufficient quota")
        usage = await simulator.client.get("/org/get_usage")
        assert usage.json() == {"current": 4, "limit": 4, "remaining": 0}


async def test_a_job_of_another_product_and_an_unknown_job_are_404_in_the_routes_own_shape() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = await job_id_of(await submit(simulator, "extract"))
        assert (await simulator.client.get(f"/parse/{job_id}")).json() == f"Job {job_id} not found"
        assert (await simulator.client.get("/extract/none")).json() == {"detail": "Job none not found"}
        assert (await simulator.client.get("/jobs/none/result")).json() == {"detail": "Job none not found"}


async def test_a_delete_is_not_promised() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = await job_id_of(await submit(simulator, "extract"))
        assert (await simulator.client.delete(f"/jobs/{job_id}")).status_code == 405
        assert (await simulator.client.get(f"/jobs/{job_id}")).status_code == 200


async def test_a_single_use_result_is_gone_after_it_was_read() -> None:
    async with simulated(settled(single_use_results=True), headers=HEADERS) as simulator:
        body = await finished(simulator, "extract")
        again = await simulator.client.get(f"/extract/{body['job_id']}")
        assert again.status_code == 404
        assert again.json()["detail"] == f"Result for job {body['job_id']} not found"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"api-key": KEY}, 404),
        ({"X-API-Key": KEY}, 404),
        ({"api-key": KEY, "X-API-Key": KEY}, 404),
        ({"Authorization": f"Bearer {KEY}"}, 404),
        ({}, 401),
        ({"api-key": "wrong"}, 401),
        ({"Authorization": KEY}, 401),
    ],
)
async def test_each_documented_way_to_send_the_key_is_enough(headers: dict[str, str], code: int) -> None:
    async with simulated(headers=headers) as simulator:
        answer = await simulator.client.get("/extract/none")
        assert answer.status_code == code
        assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(
    ("path", "body"),
    [("/extract/x", '{"detail":"Rate limit exceeded"}'), ("/parse/x", "Rate limit exceeded")],
)
async def test_a_rate_limit_has_the_routes_own_shape(path: str, body: str) -> None:
    limits = {"rates": {"status": {"per_second": 0.1}}}
    async with simulated(settled(**limits), headers=HEADERS) as simulator:
        await simulator.client.get(path)
        answer = await simulator.client.get(path)
        assert (answer.status_code, answer.text) == (429, body)
        assert "retry-after" not in answer.headers


async def test_the_newest_envelope_can_be_chosen_for_all_errors() -> None:
    changes: dict[str, Any] = {
        "unsiloed": {"error_shape": "envelope", "quota": 0},
        "faults": {"status": {"unavailable": 1.0}},
        "retry_after": {"form": "seconds", "seconds": 20},
    }
    async with simulated(settled(**changes), headers=HEADERS) as simulator:
        busy = await simulator.client.get("/parse/none")
        assert busy.json()["error"]["details"] == {"reason": "queue_full", "retry_after": 20}
        codes = {
            (await submit(simulator, "extract")).json()["error"]["code"],
            (await submit(simulator, "extract", schema_data="{")).json()["error"]["code"],
        }
        assert codes == {"QUOTA_EXCEEDED", "VALIDATION_ERROR"}


async def test_a_finished_job_is_pushed_unsigned_with_the_url_of_its_result() -> None:
    received: list[httpx.Request] = []

    def receiver(request: httpx.Request) -> httpx.Response:
        received.append(request)
        return httpx.Response(200)

    settings = settled(webhooks={"url": "https://hooks.example.org/{service}"})
    async with simulated(
        settings, headers=HEADERS, push_transport=httpx.MockTransport(receiver)
    ) as simulator:
        good = await job_id_of(await submit(simulator, "extract"))
        bad = await job_id_of(await submit(simulator, "extract", b"%PDF-1.7 broken"))
        simulator.clock.advance(8)
        await simulator.pushes.deliver_due()
        pushed = {body["job_id"]: body for body in (json.loads(request.content) for request in received)}
        assert {job_id: body["status"] for job_id, body in pushed.items()} == {
            good: "completed",
            bad: "failed",
        }
        assert pushed[good].keys() == {"job_id", "status", "result_url", "timestamp"}
        assert pushed[good]["result_url"] == f"{ORIGIN}/jobs/{good}/result"
        assert str(received[0].url) == "https://hooks.example.org/unsiloed"
        assert not any("signature" in name.lower() for name in received[0].headers)
