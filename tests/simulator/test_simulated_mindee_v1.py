"""The simulated Mindee V1 API on the wire."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from support.simulated import KEY, ORIGIN, Simulated, sample, settled, simulated

from prefect_docjobs.providers.base import sign

HEADERS = {"Authorization": f"Token {KEY}"}
ROOT = "/v1/products/mindee/invoices/v4"
INVOICE = sample("invoice-brightwater.pdf")


async def predict(
    simulator: Simulated, root: str = ROOT, data: bytes = INVOICE, query: str = ""
) -> dict[str, Any]:
    answer = await simulator.client.post(
        f"{root}/predict_async{query}", files={"document": ("acme.pdf", data)}
    )
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def document_of(simulator: Simulated, root: str = ROOT, **sent: Any) -> dict[str, Any]:
    job_id = (await predict(simulator, root, **sent))["job"]["id"]
    simulator.clock.advance(8)
    answer = await simulator.client.get(f"{root}/documents/queue/{job_id}", follow_redirects=True)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_an_enqueued_document_waits_in_the_published_shape() -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = await predict(simulator)
        assert body["api_request"] == {
            "error": {},
            "resources": ["job"],
            "status": "success",
            "status_code": 202,
            "url": f"{ORIGIN}{ROOT}/predict_async",
        }
        assert body["job"].keys() == {"id", "status", "issued_at", "available_at", "error"}
        assert (body["job"]["status"], body["job"]["available_at"], body["job"]["error"]) == (
            "waiting",
            None,
            {},
        )


async def test_a_job_waits_is_processed_and_redirects_to_a_document_of_another_id() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = (await predict(simulator))["job"]["id"]
        path = f"{ROOT}/documents/queue/{job_id}"
        words = [(await simulator.client.get(path)).json()["job"]["status"]]
        simulator.clock.advance(2)
        words.append((await simulator.client.get(path)).json()["job"]["status"])
        simulator.clock.advance(6)
        done = await simulator.client.get(path)
        assert words == ["waiting", "processing"]
        assert (done.status_code, done.json()) == (302, {})
        location = done.headers["location"]
        assert location.startswith(f"{ORIGIN}{ROOT}/documents/")
        assert job_id not in location
        document = (await simulator.client.get(location)).json()
        assert document["job"]["id"] == job_id
        assert document["document"]["id"] == location.rpartition("/")[2]


async def test_a_document_holds_the_invoices_own_values() -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = await document_of(simulator)
        assert body["api_request"]["resources"] == ["document", "job"]
        document, inference = body["document"], body["document"]["inference"]
        assert (document["name"], document["n_pages"], body["job"]["status"]) == ("acme.pdf", 1, "completed")
        assert inference["product"]["name"] == "mindee/invoices"
        assert inference["product"]["version"] == "4"
        assert inference["processing_time"] == 6.0
        assert inference["pages"] == [{"id": 0, "orientation": {"value": 0}, "extras": {}, "prediction": {}}]
        number = inference["prediction"]["invoice_number"]
        assert (number["value"], number["page_id"], len(number["polygon"])) == ("BW-10442", 0, 4)
        assert isinstance(inference["prediction"]["total_amount"]["value"], float)
        assert inference["prediction"]["category"]["value"] is None
        item = inference["prediction"]["line_items"][0]
        assert {"description", "quantity", "unit_price", "total_amount", "tax_rate"} <= item.keys()


async def test_other_products_predict_what_they_are_for() -> None:
    async with simulated(headers=HEADERS) as simulator:
        long = sample("invoice-cascade-3-pages.pdf")
        splitter = await document_of(simulator, "/v1/products/mindee/invoice_splitter/v1", data=long)
        groups = splitter["document"]["inference"]["prediction"]["invoice_page_groups"]
        assert [group["page_indexes"] for group in groups] == [[0, 1, 2]]
        custom = await document_of(
            simulator, "/v1/products/acme/contracts/1", data=sample("contract-northgate.pdf")
        )
        inference = custom["document"]["inference"]
        assert inference["product"]["type"] == "constructed"
        assert inference["prediction"]
        assert inference["product"]["features"] == list(inference["prediction"])


async def test_query_flags_fill_the_extras() -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = await document_of(simulator, query="?full_text_ocr=true&cropper=true&rag=true")
        page = body["document"]["inference"]["pages"][0]
        assert "BW-10442" in page["extras"]["full_text_ocr"]["content"]
        assert len(page["extras"]["cropper"]["cropping"]) == 1
        assert body["document"]["inference"]["extras"] == {"rag": {"matching_document_id": None}}


@pytest.mark.parametrize(("sent", "polled"), [("v4", "4"), ("4", "v4")])
async def test_the_version_is_taken_with_and_without_its_v(sent: str, polled: str) -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = (await predict(simulator, f"/v1/products/mindee/invoices/{sent}"))["job"]["id"]
        path = f"/v1/products/mindee/invoices/{polled}/documents/queue/{job_id}"
        assert (await simulator.client.get(path)).status_code == 200


async def test_a_job_belongs_to_the_product_it_was_sent_to() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = (await predict(simulator))["job"]["id"]
        for root in ("/v1/products/mindee/receipts/v4", "/v1/products/mindee/invoices/v3"):
            answer = await simulator.client.get(f"{root}/documents/queue/{job_id}")
            assert answer.status_code == 404
            assert answer.json()["api_request"]["error"]["code"] == "NotFound"


async def test_a_failed_job_is_a_200_with_its_error_in_the_job() -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = await predict(simulator, data=b"%PDF-1.4 broken")
        simulator.clock.advance(8)
        answer = await simulator.client.get(f"{ROOT}/documents/queue/{body['job']['id']}")
        failed = answer.json()
        assert (answer.status_code, failed["api_request"]["status"]) == (200, "success")
        assert failed["job"]["status"] == "failed"
        assert failed["job"]["error"].keys() == {"code", "message", "details"}


async def test_a_document_comes_as_json_base64_or_as_a_url_in_json_or_a_form() -> None:
    async with simulated(headers=HEADERS) as simulator:
        url = "https://files.example/acme.pdf"
        simulator.backend.documents[url] = INVOICE
        path = f"{ROOT}/predict_async"
        answers = [
            await simulator.client.post(path, json={"document": base64.b64encode(INVOICE).decode()}),
            await simulator.client.post(path, json={"document": url}),
            await simulator.client.post(path, data={"document": url}),
        ]
        simulator.clock.advance(8)
        for answer in answers:
            queue = f"{ROOT}/documents/queue/{answer.json()['job']['id']}"
            body = (await simulator.client.get(queue, follow_redirects=True)).json()
            prediction = body["document"]["inference"]["prediction"]
            assert prediction["invoice_number"]["value"] == "BW-10442"


@pytest.mark.parametrize(
    "request_body",
    [
        {"json": {}},
        {"json": {"document": "http://files.example/acme.pdf"}},
        {"json": {"document": "no base64!"}},
        {"json": [1]},
        {"files": {"document": ("acme.pdf", b"")}},
        {"files": {"file": ("acme.pdf", INVOICE)}},
        {"files": {"document": ("acme.txt", b"plain text is not taken")}},
    ],
)
async def test_a_bad_document_is_a_400_that_names_the_field(request_body: dict[str, Any]) -> None:
    async with simulated(headers=HEADERS) as simulator:
        answer = await simulator.client.post(f"{ROOT}/predict_async", **request_body)
        api_request = answer.json()["api_request"]
        assert (answer.status_code, api_request["status"], api_request["status_code"]) == (
            400,
            "failure",
            400,
        )
        assert api_request["error"]["code"] == "BadRequest"
        assert api_request["error"]["details"].keys() == {"document"}
        assert simulator.backend.report()["submits"]["total"] == 0


async def test_a_key_without_its_scheme_is_refused() -> None:
    async with simulated() as simulator:
        for headers in ({}, {"Authorization": KEY}, {"Authorization": "Token wrong"}):
            answer = await simulator.client.post(f"{ROOT}/predict_async", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["api_request"]["error"]["code"] == "Unauthorized"


async def test_throttling_and_unknown_paths_have_the_envelope() -> None:
    settings = settled(rates={"status": {"per_second": 0.1}})
    async with simulated(settings, headers=HEADERS) as simulator:
        path = f"{ROOT}/documents/queue/none"
        await simulator.client.get(path)
        throttled = await simulator.client.get(path)
        unknown = await simulator.client.get("/v1/workflows/x")
        assert throttled.json()["api_request"]["error"]["code"] == "TooManyRequests"
        assert unknown.json()["api_request"]["status_code"] == 404


@pytest.mark.parametrize("data", [INVOICE, b"%PDF-1.4 broken"])
async def test_every_job_is_pushed_without_api_request_and_signed(data: bytes) -> None:
    calls: list[httpx.Request] = []

    def receive(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(204)

    settings = settled(webhooks={"url": "http://receiver.test/{service}", "secret": "s3"})
    transport = httpx.MockTransport(receive)
    async with simulated(settings, headers=HEADERS, push_transport=transport) as simulator:
        job_id = (await predict(simulator, data=data))["job"]["id"]
        simulator.clock.advance(8)
        assert await simulator.pushes.deliver_due() == 1
        (call,) = calls
        assert str(call.url) == "http://receiver.test/mindee-v1"
        assert call.headers["x-mindee-hmac-signature"] == sign(call.content, "s3")
        assert b"\n" not in call.content
        body = json.loads(call.content)
        good = data is INVOICE
        assert body.keys() == ({"document", "job"} if good else {"job"})
        assert (body["job"]["id"], body["job"]["status"]) == (job_id, "completed" if good else "failed")
