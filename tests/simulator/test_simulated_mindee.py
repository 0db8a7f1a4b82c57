"""The simulated Mindee V2 API on the wire."""

from __future__ import annotations

import base64
import json
import re
import uuid
from datetime import datetime
from typing import Any

import httpx
import pytest
from support.simulated import KEY, ORIGIN, Simulated, sample, settled, simulated

from prefect_docjobs.providers.base import sign

MODEL = str(uuid.uuid4())
HEADERS = {"Authorization": KEY}
INVOICE = sample("invoice-brightwater.pdf")
JOB_KEYS = {
    "id",
    "model_id",
    "filename",
    "alias",
    "created_at",
    "completed_at",
    "status",
    "polling_url",
    "result_url",
    "webhooks",
    "error",
}


class Receiver(httpx.AsyncBaseTransport):
    """A webhook receiver that keeps what it gets and answers with the given codes."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self.codes.pop(0) if self.codes else 200)


async def enqueue(simulator: Simulated, slug: str = "extraction", **fields: Any) -> dict[str, Any]:
    files = {"file": (fields.pop("name", "acme.pdf"), fields.pop("data", INVOICE))}
    answer = await simulator.client.post(
        f"/v2/products/{slug}/enqueue", data={"model_id": MODEL, **fields}, files=files
    )
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()["job"]
    return job


async def result_of(simulator: Simulated, slug: str, **fields: Any) -> dict[str, Any]:
    job = await enqueue(simulator, slug, **fields)
    simulator.clock.advance(8)
    answer = await simulator.client.get(f"/v2/products/{slug}/results/{job['id']}")
    assert answer.status_code == 200, answer.text
    inference: dict[str, Any] = answer.json()["inference"]
    return inference


async def test_an_enqueued_job_is_processing_and_has_every_key() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job = await enqueue(simulator, alias="order-42")
        assert job.keys() == JOB_KEYS
        assert uuid.UUID(job["id"]).version == 4
        assert job["model_id"] == MODEL
        assert (job["filename"], job["alias"], job["status"]) == ("acme.pdf", "order-42", "Processing")
        assert job["polling_url"] == f"{ORIGIN}/v2/jobs/{job['id']}"
        assert (job["completed_at"], job["result_url"], job["error"], job["webhooks"]) == (
            None,
            None,
            None,
            [],
        )


async def test_a_finished_job_redirects_with_its_json_unless_redirect_is_off() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job = await enqueue(simulator)
        path = f"/v2/jobs/{job['id']}"
        assert (await simulator.client.get(path)).status_code == 200
        simulator.clock.advance(8)
        redirected = await simulator.client.get(path)
        plain = await simulator.client.get(path, params={"redirect": "false"})
        assert (redirected.status_code, plain.status_code) == (302, 200)
        assert redirected.json() == plain.json()
        assert redirected.headers["location"] == redirected.json()["job"]["result_url"]
        assert redirected.json()["job"].keys() == JOB_KEYS
        assert redirected.json()["job"]["status"] == "Processed"
        created, completed = (
            datetime.fromisoformat(plain.json()["job"][key].replace("Z", "+00:00"))
            for key in ("created_at", "completed_at")
        )
        assert (completed - created).total_seconds() == 8
        wrong = await simulator.client.get(path, params={"redirect": "perhaps"})
        assert wrong.json()["errors"][0]["pointer"] == "#/redirect"


async def test_dates_can_leave_out_their_zone() -> None:
    async with simulated(settled(mindee={"dates_without_zone": True}), headers=HEADERS) as simulator:
        job = await enqueue(simulator)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", job["created_at"])


async def test_a_failed_job_is_a_200_with_a_problem_and_has_no_result() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job = await enqueue(simulator, data=b"%PDF-1.4 broken")
        simulator.clock.advance(8)
        answer = await simulator.client.get(f"/v2/jobs/{job['id']}")
        failed = answer.json()["job"]
        assert (answer.status_code, failed["status"], failed["result_url"]) == (200, "Failed", None)
        assert failed["error"].keys() == {"status", "title", "detail", "code", "errors"}
        assert failed["error"]["code"] == "500-012"
        result = await simulator.client.get(f"/v2/products/extraction/results/{job['id']}")
        assert result.status_code == 404


async def test_an_extraction_answers_with_the_documents_own_values_and_places() -> None:
    async with simulated(headers=HEADERS) as simulator:
        inference = await result_of(simulator, "extraction", alias="a-1")
        assert inference["file"] == {
            "name": "acme.pdf",
            "alias": "a-1",
            "page_count": 1,
            "mime_type": "application/pdf",
        }
        number = inference["result"]["fields"]["invoice_number"]
        assert (number["value"], number["confidence"]) == ("BW-10442", "Certain")
        (location,) = number["locations"]
        assert location["page"] == 0
        assert len(location["polygon"]) == 4
        assert all(0 <= value <= 1 for point in location["polygon"] for value in point)
        item = inference["result"]["fields"]["line_items"]["items"][0]["fields"]
        assert {"description", "quantity", "unit_price"} <= item.keys()
        assert inference["result"]["raw_text"] is None
        assert inference["active_options"] == {
            "raw_text": False,
            "polygon": True,
            "confidence": True,
            "rag": False,
            "text_context": False,
            "data_schema": {"replace": False},
        }


async def test_switches_change_what_an_extraction_holds() -> None:
    async with simulated(headers=HEADERS) as simulator:
        sent = {
            "raw_text": "true",
            "rag": "true",
            "polygon": "false",
            "confidence": "false",
            "text_context": "x",
        }
        inference = await result_of(simulator, "extraction", **sent)
        number = inference["result"]["fields"]["invoice_number"]
        assert (number["confidence"], number["locations"]) == (None, [])
        assert "BW-10442" in inference["result"]["raw_text"]["pages"][0]["content"]
        assert inference["result"]["rag"] == {"retrieved_document_id": None}
        assert inference["active_options"]["text_context"] is True


async def test_a_data_schema_names_the_fields_to_find_field() -> None:
    fields = [
        {"name": "invoice_number", "title": "No", "type": "string", "is_array": False},
        {"name": "total_amount", "title": "Total", "type": "number", "is_array": False},
        {"name": "favourite_colour", "title": "Colour", "type": "string", "is_array": False},
        {
            "name": "supplier",
            "type": "nested_object",
            "is_array": False,
            "nested_fields": [{"name": "name", "type": "string"}],
        },
        {
            "name": "lines",
            "type": "nested_object",
            "is_array": True,
            "nested_fields": [{"name": "unit_price", "type": "number"}],
        },
        {"name": "po_number", "type": "string", "is_array": True},
    ]
    async with simulated(headers=HEADERS) as simulator:
        schema = json.dumps({"replace": {"fields": fields}})
        inference = await result_of(simulator, "extraction", data_schema=schema)
        found = inference["result"]["fields"]
        assert list(found) == [field["name"] for field in fields]
        assert found["invoice_number"]["value"] == "BW-10442"
        assert isinstance(found["total_amount"]["value"], float)
        assert found["favourite_colour"] == {"value": None, "confidence": None, "locations": []}
        assert found["supplier"]["fields"]["name"]["value"] == "Brightwater Instruments Inc."
        assert all(isinstance(row["fields"]["unit_price"]["value"], float) for row in found["lines"]["items"])
        assert [item["value"] for item in found["po_number"]["items"]] == ["88123"]
        assert inference["active_options"]["data_schema"] == {"replace": True}


async def test_the_other_products_answer_in_their_own_shapes() -> None:
    async with simulated(headers=HEADERS) as simulator:
        long = sample("invoice-cascade-3-pages.pdf")
        ocr = (await result_of(simulator, "ocr", data=long))["result"]
        assert len(ocr["pages"]) == 3
        words = ocr["pages"][0]["words"]
        assert all(len(word["polygon"]) == 4 for word in words)
        assert words[0]["content"] in ocr["pages"][0]["content"]
        split = (await result_of(simulator, "split", data=long))["result"]
        assert split == {"splits": [{"page_range": [0, 2], "document_type": "invoice"}]}
        crop = (await result_of(simulator, "crop", data=long))["result"]
        assert [crop["location"]["page"] for crop in crop["crops"]] == [0, 1, 2]
        inference = await result_of(simulator, "classification")
        assert inference["result"] == {"classification": {"document_type": "invoice"}}
        assert "active_options" not in inference


async def test_a_result_is_not_found_before_the_end_for_another_product_or_a_second_time() -> None:
    async with simulated(settled(single_use_results=True), headers=HEADERS) as simulator:
        job = await enqueue(simulator)
        path = f"/v2/products/extraction/results/{job['id']}"
        assert (await simulator.client.get(path)).status_code == 404
        simulator.clock.advance(8)
        assert (await simulator.client.get(path.replace("extraction", "ocr"))).status_code == 404
        assert (await simulator.client.get(path)).status_code == 200
        assert (await simulator.client.get(path)).status_code == 404


async def test_the_older_routes_work_for_extraction() -> None:
    async with simulated(headers=HEADERS) as simulator:
        files = {"file": ("acme.pdf", INVOICE)}
        submit = await simulator.client.post("/v2/inferences/enqueue", data={"model_id": MODEL}, files=files)
        simulator.clock.advance(8)
        result = await simulator.client.get(f"/v2/inferences/{submit.json()['job']['id']}")
        assert result.json()["inference"]["result"]["fields"]["invoice_number"]["value"] == "BW-10442"


async def test_a_document_comes_as_url_form_or_as_json() -> None:
    async with simulated(headers=HEADERS) as simulator:
        url = "https://files.example/in/acme.pdf"
        table = {url: {"base64": base64.b64encode(INVOICE).decode()}}
        assert (await simulator.client.put("/_simulator/documents", json=table)).json() == {url: len(INVOICE)}
        path = "/v2/products/extraction/enqueue"
        answers = [
            await simulator.client.post(path, data={"model_id": MODEL, "url": url}),
            await simulator.client.post(path, json={"model_id": MODEL, "url": url, "filename": "acme.pdf"}),
            await simulator.client.post(
                path, json={"model_id": MODEL, "file_base64": table[url]["base64"], "filename": "acme.pdf"}
            ),
        ]
        simulator.clock.advance(8)
        for answer in answers:
            job = answer.json()["job"]
            result = await simulator.client.get(f"/v2/products/extraction/results/{job['id']}")
            assert job["filename"] == "acme.pdf"
            assert result.json()["inference"]["result"]["fields"]["invoice_number"]["value"] == "BW-10442"


async def test_a_url_that_is_not_in_the_table_fails_as_a_job() -> None:
    async with simulated(headers=HEADERS) as simulator:
        form = {"model_id": MODEL, "url": "https://files.example/none.pdf"}
        submit = await simulator.client.post("/v2/products/extraction/enqueue", data=form)
        simulator.clock.advance(8)
        status = await simulator.client.get(f"/v2/jobs/{submit.json()['job']['id']}")
        assert status.json()["job"]["status"] == "Failed"


@pytest.mark.parametrize(
    ("pointer", "form", "data"),
    [
        ("#/model_id", {"model_id": "123"}, INVOICE),
        ("#/model_id", {"model_id": ""}, INVOICE),
        ("#/file", {}, b""),
        ("#/file", {}, None),
        ("#/file", {"url": "https://a.example/x.pdf"}, INVOICE),
        ("#/file", {}, b"plain text is not taken"),
        ("#/url", {"url": "http://a.example/x.pdf"}, None),
        ("#/url", {"url": f"https://a.example/{'x' * 2048}"}, None),
        ("#/file_base64", {"file_base64": "short"}, None),
        ("#/file_base64", {"file_base64": "not base64 at all!!"}, None),
        ("#/polygon", {"polygon": "perhaps"}, INVOICE),
        ("#/webhook_ids", {"webhook_ids": "one,two"}, INVOICE),
        ("#/data_schema", {"data_schema": "{"}, INVOICE),
        ("#/data_schema", {"data_schema": '{"replace": {"fields": [1]}}'}, INVOICE),
    ],
)
async def test_a_bad_field_is_a_422_that_points_to_it(
    pointer: str, form: dict[str, str], data: bytes | None
) -> None:
    async with simulated(headers=HEADERS) as simulator:
        files = None if data is None else {"file": ("acme.pdf", data)}
        answer = await simulator.client.post(
            "/v2/products/extraction/enqueue", data={"model_id": MODEL, **form}, files=files
        )
        problem = answer.json()
        assert (answer.status_code, problem["status"], problem["code"]) == (422, 422, "422-001")
        assert [error["pointer"] for error in problem["errors"]] == [pointer]
        assert simulator.backend.report()["submits"]["total"] == 0


async def test_unknown_ids_bad_ids_and_unknown_products_are_problems() -> None:
    async with simulated(headers=HEADERS) as simulator:
        answers = {
            404: [
                "/v2/jobs/" + str(uuid.uuid4()),
                "/v2/products/magic/results/" + str(uuid.uuid4()),
                "/v2/jobs/",
            ],
            422: ["/v2/jobs/nonsense", "/v2/jobs/" + str(uuid.uuid1()), "/v2/search/models?page=0"],
            405: ["/v2/products/extraction/enqueue"],
        }
        for code, paths in answers.items():
            for path in paths:
                answer = await simulator.client.get(path)
                assert (answer.status_code, answer.json()["status"]) == (code, code)


async def test_a_body_of_no_known_form_is_a_400_problem() -> None:
    async with simulated(headers=HEADERS) as simulator:
        for content_type in ("application/pdf", "application/json", "multipart/form-data; boundary=x"):
            answer = await simulator.client.post(
                "/v2/products/ocr/enqueue", content=b"%PDF", headers={"Content-Type": content_type}
            )
            assert (answer.status_code, answer.json()["status"]) == (400, 400)


async def test_half_a_surrogate_pair_in_json_is_refused_and_not_stored() -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = {"model_id": MODEL, "url": "https://files.example/a.pdf", "alias": "\ud800"}
        answer = await simulator.client.post(
            "/v2/products/ocr/enqueue",
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 400


async def test_a_missing_key_and_a_wrong_key_have_codes_of_their_own() -> None:
    async with simulated() as simulator:
        path = f"/v2/jobs/{uuid.uuid4()}"
        missing = await simulator.client.get(path)
        wrong = await simulator.client.get(path, headers={"Authorization": f"Bearer {KEY}"})
        assert (missing.status_code, missing.json()["code"]) == (401, "401-008")
        assert (wrong.status_code, wrong.json()["code"]) == (401, "401-001")


async def test_models_are_searched_by_name_and_type_in_pages() -> None:
    async with simulated(headers=HEADERS) as simulator:
        everything = (await simulator.client.get("/v2/search/models?per_page=2&page=3")).json()
        assert len(everything["models"]) == 1
        assert everything["pagination"] == {
            "per_page": 2,
            "page": 3,
            "total_items": 5,
            "total_pages": 3,
            "total_items_unfiltered": 5,
        }
        ocr = (await simulator.client.get("/v2/search/models?name=OCR&model_type=ocr")).json()["models"]
        assert [model["model_type"] for model in ocr] == ["ocr"]
        assert uuid.UUID(ocr[0]["id"]).version == 4


def webhook_form(kind: str, ids: list[str]) -> Any:
    return {"repeated": ids, "comma": ",".join(ids), "json": json.dumps(ids)}[kind]


@pytest.mark.parametrize("kind", ["repeated", "comma", "json"])
async def test_webhooks_named_by_the_submit_are_called_signed_and_shown(kind: str) -> None:
    receiver, ids = Receiver(200, 500), [str(uuid.uuid4()), str(uuid.uuid4())]
    settings = settled(webhooks={"url": "http://receiver.test/{service}", "secret": "s3"})
    async with simulated(settings, headers=HEADERS, push_transport=receiver) as simulator:
        job = await enqueue(simulator, webhook_ids=webhook_form(kind, ids))
        await enqueue(simulator)
        assert await simulator.pushes.deliver_due() == 0
        simulator.clock.advance(8)
        await simulator.pushes.deliver_due()
        assert [str(request.url) for request in receiver.requests] == ["http://receiver.test/mindee"] * 2
        for request in receiver.requests:
            assert request.headers["x-signature"] == sign(request.content, "s3")
        status = (await simulator.client.get(f"/v2/jobs/{job['id']}?redirect=false")).json()["job"]
        result = (await simulator.client.get(f"/v2/products/extraction/results/{job['id']}")).json()
        assert json.loads(receiver.requests[0].content) == result
        assert [(hook["id"], hook["status"], hook["attempts_count"]) for hook in status["webhooks"]] == [
            (ids[0], "Processed", 1),
            (ids[1], "Failed", 1),
        ]
        assert status["webhooks"][1]["error"]["title"]
        assert simulator.backend.report()["detection_latency"]["count"] == 1


async def test_a_failed_push_is_flat_and_names_no_job() -> None:
    receiver = Receiver()
    settings = settled(webhooks={"url": "http://receiver.test/"})
    async with simulated(settings, headers=HEADERS, push_transport=receiver) as simulator:
        await enqueue(simulator, webhook_ids=str(uuid.uuid4()), data=b"%PDF-1.4 broken", alias="k-1")
        simulator.clock.advance(8)
        await simulator.pushes.deliver_due()
        body = json.loads(receiver.requests[0].content)
        assert body.keys() == {"inference_id", "model_id", "file_name", "file_alias", "error", "created_at"}
        assert (body["file_alias"], body["error"]["code"]) == ("k-1", "500-012")


@pytest.mark.parametrize(
    ("webhooks", "codes", "at_the_end", "later"),
    [
        ({"lost_share": 1.0}, [], 0, 0),
        ({"twice_share": 1.0}, [], 2, 2),
        ({"late_share": 1.0, "late_seconds": 3.0}, [], 0, 1),
        ({"attempts": 3, "retry_seconds": 3.0}, [500, 200], 1, 2),
        ({"attempts": 1}, [500], 1, 1),
    ],
)
async def test_pushes_can_be_lost_repeated_late_or_tried_again(
    webhooks: dict[str, Any], codes: list[int], at_the_end: int, later: int
) -> None:
    receiver = Receiver(*codes)
    settings = settled(webhooks={"url": "http://receiver.test/", **webhooks})
    async with simulated(settings, headers=HEADERS, push_transport=receiver) as simulator:
        await enqueue(simulator, webhook_ids=str(uuid.uuid4()))
        simulator.clock.advance(8)
        await simulator.pushes.deliver_due()
        assert len(receiver.requests) == at_the_end
        simulator.clock.advance(3)
        await simulator.pushes.deliver_due()
        assert len(receiver.requests) == later


async def test_a_reset_through_the_control_route_drops_waiting_pushes_and_patches_settings() -> None:
    receiver = Receiver()
    settings = settled(webhooks={"url": "http://receiver.test/"})
    async with simulated(settings, headers=HEADERS, push_transport=receiver) as simulator:
        job = await enqueue(simulator, webhook_ids=str(uuid.uuid4()))
        answer = await simulator.client.post("/_simulator/reset", json={"failed_share": 1.0})
        assert answer.json()["failed_share"] == 1.0
        simulator.clock.advance(8)
        assert (await simulator.client.post("/_simulator/pushes")).json() == {"taken_up": 0}
        assert (await simulator.client.get(f"/v2/jobs/{job['id']}")).status_code == 404


async def test_control_routes_change_settings_and_documents_and_refuse_what_is_wrong() -> None:
    async with simulated(headers=HEADERS) as simulator:
        control = simulator.client
        patched = await control.patch("/_simulator/settings", json={"duration": {"seconds": 1.0}})
        assert patched.json()["duration"]["seconds"] == 1.0
        for wrong in ({"durations": 1}, [1], {"failed_share": 2}):
            assert (await control.patch("/_simulator/settings", json=wrong)).status_code == 400
        table = {
            "https://a.example/1": {"text": "Total: 4.00"},
            "https://a.example/2": {"fields": {"total_amount": 118.5}},
        }
        assert (await control.put("/_simulator/documents", json=table)).json().keys() == table.keys()
        assert simulator.backend.documents["https://a.example/2"] == b"Total Amount: 118.5"
        gone = await control.put("/_simulator/documents", json={"https://a.example/1": None})
        assert gone.json().keys() == {"https://a.example/2"}
        for entry in ({"base64": "!"}, {"bytes": "x"}, 3):
            assert (await control.put("/_simulator/documents", json={"https://x": entry})).status_code == 400


async def test_the_list_of_jobs_tells_what_was_seen_of_each() -> None:
    async with simulated(headers=HEADERS) as simulator:
        jobs = [await enqueue(simulator, name=f"{number}.pdf") for number in range(3)]
        simulator.clock.advance(10)
        await simulator.client.get(f"/v2/jobs/{jobs[1]['id']}")
        listed = (await simulator.client.get("/_simulator/jobs?service=mindee&skip=1&limit=1")).json()
        (seen,) = listed["jobs"]
        assert (listed["total"], seen["name"], seen["polls"], seen["detection_latency"]) == (
            3,
            "1.pdf",
            1,
            2.0,
        )
        assert (await simulator.client.get("/_simulator/jobs?skip=-1")).status_code == 400
