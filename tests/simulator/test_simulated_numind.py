"""The simulated NuMind API on the wire."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from support.simulated import KEY, ORIGIN, Simulated, sample, settled, simulated
from support.virtual_time import virtual_time

from prefect_docjobs.simulator.extraction_schema import InvalidSchema, Leaf, from_json_schema, from_template
from prefect_docjobs.simulator.server import SimulatorTransport, create_app

HEADERS = {"Authorization": f"Bearer {KEY}"}
TEMPLATE = {
    "invoice_number": "verbatim-string",
    "invoice_date": "date",
    "due_date": "date-time",
    "total": "number",
    "currency": ["EUR", "USD"],
    "document_type": [["invoice", "receipt"]],
    "po_number": "integer",
    "paid": "boolean",
    "supplier": {"name": "string", "iban": "string"},
    "customer": {"company": "string"},
    "line_items": [
        {"description": "string", "qty": "integer", "unitPrice": "number", "line_total": "number"}
    ],
    "notes": ["string"],
}
ANSWER = {
    "invoice_number": "BW-10442",
    "invoice_date": "2026-02-03",
    "due_date": "2026-03-05T00:00:00",
    "total": 1452.17,
    "currency": "USD",
    "document_type": ["invoice"],
    "po_number": 88123,
    "paid": None,
    "supplier": {"name": "Brightwater Instruments Inc.", "iban": None},
    "customer": {"company": "Lakeside Dairy Cooperative"},
    "line_items": [
        {"description": "Flow sensor FS-12", "qty": 4, "unitPrice": 86.25, "line_total": 345.0},
        {"description": "Mounting kit", "qty": 4, "unitPrice": 12.4, "line_total": 49.6},
        {"description": "Calibration on site", "qty": 1, "unitPrice": 950.0, "line_total": 950.0},
    ],
    "notes": [],
}
INVOICE = sample("invoice-brightwater.pdf")
STATUS_KEYS = {
    "id",
    "jobType",
    "status",
    "ownerUser",
    "ownerOrganization",
    "startedAt",
    "completedAt",
    "createdAt",
    "updatedAt",
    "timeoutSeconds",
}


async def submit(
    simulator: Simulated, template: Any = TEMPLATE, data: bytes = INVOICE, query: str = "", **manifest: Any
) -> httpx.Response:
    return await simulator.client.post(
        f"/api/structured-extraction/jobs{query}",
        data={"request": json.dumps({"schema": template, **manifest})},
        files={"document": ("document", data, "application/octet-stream")},
    )


async def job_id_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"jobId"}
    job_id: str = answer.json()["jobId"]
    return job_id


async def project_id(simulator: Simulated, **more: Any) -> str:
    body = {"name": "tmp", "description": "", "template": {"total": "number"}, **more}
    answer = await simulator.client.post("/api/structured-extraction", json=body)
    assert answer.status_code == 200
    created: str = answer.json()["id"]
    return created


async def structured(simulator: Simulated, job_id: str) -> dict[str, Any]:
    simulator.clock.advance(8)
    answer = await simulator.client.get(f"/api/structured-extraction/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_template_gives_the_documents_own_values() -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = await structured(simulator, await job_id_of(await submit(simulator)))
        assert body["result"] == ANSWER
        assert json.loads(body["rawModelOutput"]) == ANSWER
        assert (body["error"], body["isTruncated"], body["randomSeed"]) == (None, False, 0)
        assert body["totalTokens"] == body["inputTokens"] + body["outputTokens"]
        assert body.keys() >= {"logprobs", "outputTokenProbability", "selectedExamples", "documentInfo"}


async def test_a_job_runs_until_it_is_completed_and_always_shows_every_status_key() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = await job_id_of(await submit(simulator, query="?timeout=10s"))
        seen = []
        for seconds in (0, 2, 6):
            simulator.clock.advance(seconds)
            body = (await simulator.client.get(f"/api/jobs/{job_id}/status")).json()
            assert body.keys() == STATUS_KEYS
            assert all(isinstance(body[key], str) for key in ("startedAt", "createdAt", "updatedAt"))
            seen.append((body["status"], body["completedAt"] is not None))
        assert seen == [("running", False), ("running", False), ("completed", True)]
        assert (body["jobType"], body["timeoutSeconds"]) == ("structured-extraction", 300)
        assert body["completedAt"] == body["updatedAt"] > body["startedAt"] > body["createdAt"]


async def test_the_whole_job_holds_its_output_doubly_encoded_and_its_input_as_an_empty_object() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = await job_id_of(await submit(simulator))
        early = (await simulator.client.get(f"/api/jobs/{job_id}")).json()
        assert (early["inputData"], "outputData" in early) == ("{}", False)
        simulator.clock.advance(8)
        late = (await simulator.client.get(f"/api/jobs/{job_id}")).json()
        assert json.loads(late["outputData"])["result"] == ANSWER
        assert late.keys().isdisjoint({"errorMessage", "errorCode"})


async def test_a_failed_job_has_its_reason_in_the_whole_job_only() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = await job_id_of(await submit(simulator, data=b"%PDF-1.7 broken"))
        simulator.clock.advance(8)
        status = (await simulator.client.get(f"/api/jobs/{job_id}/status")).json()
        whole = (await simulator.client.get(f"/api/jobs/{job_id}")).json()
        assert (status["status"], status["completedAt"] is not None) == ("failed", True)
        assert ("outputData" in whole, whole["errorCode"]) == (False, "InvalidDocument")
        assert "PDF" in whole["errorMessage"]
        result = await simulator.client.get(f"/api/structured-extraction/jobs/{job_id}")
        assert (result.status_code, result.json()["code"]) == (400, "JobNotCompleted")


async def test_a_result_that_is_fetched_too_early_is_refused() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = await job_id_of(await submit(simulator))
        answer = await simulator.client.get(f"/api/structured-extraction/jobs/{job_id}")
        assert (answer.status_code, answer.json()["code"]) == (400, "JobNotCompleted")


async def test_a_model_that_does_not_finish_gives_206_with_what_was_recovered() -> None:
    settings = settled(numind={"truncated_share": 1.0})
    async with simulated(settings, headers=HEADERS) as simulator:
        job_id = await job_id_of(await submit(simulator, {"invoice_number": "string", "total": "number"}))
        simulator.clock.advance(8)
        answer = await simulator.client.get(f"/api/structured-extraction/jobs/{job_id}")
        body = answer.json()
        assert (answer.status_code, body["isTruncated"]) == (206, True)
        assert body["error"].keys() == {"message", "errorCode"}
        assert body["result"] == {"invoice_number": "BW-10442", "total": None}
        assert not body["rawModelOutput"].endswith("}")


@pytest.mark.parametrize("content_type", ["application/octet-stream", "image/png", None])
async def test_a_project_takes_a_document_as_a_raw_body_or_as_a_part(content_type: str | None) -> None:
    async with simulated(headers=HEADERS) as simulator:
        path = f"/api/structured-extraction/{await project_id(simulator)}/jobs"
        receipt = sample("receipt-green-leaf.png")
        if content_type is None:
            answer = await simulator.client.post(path, files={"file": ("receipt.png", receipt)})
        else:
            answer = await simulator.client.post(
                path, content=receipt, headers={"Content-Type": content_type}
            )
        body = await structured(simulator, await job_id_of(answer))
        assert body["result"] == {"total": 25.5}


async def test_a_project_takes_text_and_uploaded_documents() -> None:
    async with simulated(headers=HEADERS) as simulator:
        root = f"/api/structured-extraction/{await project_id(simulator)}/jobs"
        text = await job_id_of(await simulator.client.post(f"{root}/text", json={"text": "Total: 7.25"}))
        file = await simulator.client.post("/api/files", content=INVOICE, headers={"x-file-name": "acme.pdf"})
        assert (file.json()["fileName"], file.json()["contentType"]) == ("acme.pdf", "application/pdf")
        converted = await simulator.client.post(
            f"/api/files/{file.json()['fileId']}/convert-to-document", json={"rasterizationDPI": 150}
        )
        document = converted.json()["docInfo"]
        assert (document["type"], document["fileName"]) == ("image", "acme.pdf")
        path = f"{root}/document/{document['documentId']}"
        uploaded = await job_id_of(await simulator.client.post(path))
        results = [(await structured(simulator, job_id))["result"] for job_id in (text, uploaded)]
        assert results == [{"total": 7.25}, {"total": 1452.17}]


async def test_a_project_shows_the_types_of_the_sdk_that_made_it_and_can_be_deleted() -> None:
    async with simulated(headers=HEADERS) as simulator:
        older = await project_id(simulator)
        newer = await project_id(simulator, instructions="Be short")
        shown = [
            (await simulator.client.get(f"/api/structured-extraction/{each}")).json()
            for each in (older, newer)
        ]
        assert "instructions" not in shown[0]
        assert shown[1]["instructions"] == "Be short"
        assert [type(each["settings"]["maxOutputTokens"]) for each in shown] == [int, str]
        assert (await simulator.client.delete(f"/api/structured-extraction/{older}")).status_code == 200
        gone = await simulator.client.get(f"/api/structured-extraction/{older}")
        assert (gone.status_code, gone.json().keys()) == (404, {"code", "message"})


async def test_an_example_is_taken_for_a_document_that_exists() -> None:
    async with simulated(headers=HEADERS) as simulator:
        path = f"/api/structured-extraction/{await project_id(simulator)}/examples"
        made = await simulator.client.post("/api/documents/text", json={"text": "Total: 1.00"})
        example = {"documentId": made.json()["docInfo"]["documentId"], "result": {"total": 1.0}}
        taken = await simulator.client.post(path, json=example)
        assert taken.json()["result"] == {"information": {"total": 1.0}, "type": "information"}
        missing = await simulator.client.post(path, json={"documentId": "nothing", "result": {}})
        assert missing.status_code == 404


@pytest.mark.parametrize("as_part", [True, False])
async def test_content_extraction_gives_the_text_as_markdown(as_part: bool) -> None:
    async with simulated(headers=HEADERS) as simulator:
        path = "/api/content-extraction/jobs"
        if as_part:
            answer = await simulator.client.post(path, files={"file": ("acme.pdf", INVOICE)})
        else:
            answer = await simulator.client.post(path, content=INVOICE)
        job_id = await job_id_of(answer)
        simulator.clock.advance(8)
        body = (await simulator.client.get(f"/api/content-extraction/jobs/{job_id}")).json()
        lines = body["result"].splitlines()
        assert lines[0] == "# Brightwater Instruments Inc."
        assert "| Flow sensor FS-12 | 4 | 86.25 | 345.00 |" in lines
        assert body.keys().isdisjoint({"error", "documentInfo", "selectedExamples"})
        crossed = await simulator.client.get(f"/api/structured-extraction/jobs/{job_id}")
        assert crossed.status_code == 404


async def test_the_list_pages_through_whole_jobs() -> None:
    async with simulated(headers=HEADERS) as simulator:
        ids = [await job_id_of(await submit(simulator)) for _ in range(3)]
        simulator.clock.advance(8)
        page = (await simulator.client.get("/api/jobs?skip=1&perPage=1&organization=o")).json()
        assert (page["totalCount"], page["skip"], page["perPage"]) == (3, 1, 1)
        assert [item["id"] for item in page["items"]] == ids[1:2]
        assert json.loads(page["items"][0]["outputData"])["result"]["total"] == 1452.17
        assert (await simulator.client.get("/api/jobs")).json()["perPage"] == 30
        report = simulator.backend.report()
        assert (report["fetches"], report["polls_per_job"]["max"]) == (0, 0)


@pytest.mark.parametrize("query", ["skip=-1", "skip=x", "perPage=0", "perPage=101", "perPage=1.5"])
async def test_a_bad_page_is_refused_with_plain_text(query: str) -> None:
    async with simulated(headers=HEADERS) as simulator:
        answer = await simulator.client.get(f"/api/jobs?{query}")
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text == f"Invalid value for: query parameter {query.partition('=')[0]}"


@pytest.mark.parametrize("query", ["temperature=3", "rasterizationDPI=900", "timeout=5", "randomSeed=a"])
async def test_a_bad_option_is_refused_and_makes_no_job(query: str) -> None:
    async with simulated(headers=HEADERS) as simulator:
        answer = await submit(simulator, query=f"?{query}")
        assert (answer.status_code, "query parameter" in answer.text) == (400, True)
        assert simulator.backend.report()["jobs"]["total"] == 0


@pytest.mark.parametrize(
    ("query", "seconds"),
    [("", 3600), ("?timeout=2h", 7200), ("?timeout=1000ms", 300), ("?timeout=10m", 600)],
)
async def test_a_timeout_is_read_and_raised_to_the_minimum(query: str, seconds: int) -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = await job_id_of(await submit(simulator, query=query))
        status = (await simulator.client.get(f"/api/jobs/{job_id}/status")).json()
        assert status["timeoutSeconds"] == seconds


async def test_a_cancel_ends_a_running_job_and_leaves_an_ended_one_alone() -> None:
    async with simulated(headers=HEADERS) as simulator:
        running, ended = [await job_id_of(await submit(simulator)) for _ in range(2)]
        path = f"/api/jobs/{running}"
        assert [(await simulator.client.post(f"{path}/cancel")).status_code for _ in range(2)] == [200, 200]
        status = (await simulator.client.get(f"{path}/status")).json()
        assert (status["status"], status["completedAt"] is not None) == ("cancelled", True)
        simulator.clock.advance(8)
        await simulator.client.post(f"/api/jobs/{ended}/cancel")
        assert (await simulator.client.get(f"/api/jobs/{ended}/status")).json()["status"] == "completed"
        assert (await simulator.client.post("/api/jobs/nothing/cancel")).status_code == 404


async def test_a_completed_job_has_one_report() -> None:
    async with simulated(headers=HEADERS) as simulator:
        job_id = await job_id_of(await submit(simulator))
        assert (await simulator.client.get(f"/api/jobs/{job_id}/reports")).json() == []
        simulator.clock.advance(8)
        (report,) = (await simulator.client.get(f"/api/jobs/{job_id}/reports")).json()
        assert (report["jobId"], report["report"]["usedFallback"]) == (job_id, False)


def events(text: str) -> list[tuple[str, str]]:
    blocks = (block.splitlines() for block in text.split("\n\n") if block)
    return [(lines[0].removeprefix("event: "), lines[1].removeprefix("data:").strip()) for lines in blocks]


async def streamed(seconds: float, query: str = "", **settings: Any) -> tuple[list[tuple[str, str]], float]:
    """The events of a job that takes that long, and the time until the stream ended; on virtual time."""
    loop = asyncio.get_running_loop()
    app = create_app(settled(duration={"seconds": seconds}, **settings), clock=loop.time)
    async with httpx.AsyncClient(
        transport=SimulatorTransport(app), base_url=ORIGIN, headers=HEADERS, trust_env=False, timeout=None
    ) as client:
        answer = await client.post(
            f"/api/structured-extraction/jobs{query}",
            data={"request": json.dumps({"schema": {"total": "number"}})},
            files={"document": INVOICE},
        )
        begun = loop.time()
        stream = await client.get(f"/api/jobs/{answer.json()['jobId']}/stream")
        assert stream.headers["content-type"].startswith("text/event-stream")
        return events(stream.text), loop.time() - begun


@virtual_time
async def test_a_stream_pings_every_half_minute_and_ends_with_the_result() -> None:
    events, took = await streamed(70.0)
    assert [name for name, _ in events] == ["ping", "ping", "result"]
    assert events[0][1] == ""
    assert json.loads(json.loads(events[-1][1])["outputData"])["result"] == {"total": 1452.17}
    assert took == pytest.approx(70.0, abs=0.1)


@virtual_time
async def test_a_stream_of_a_failed_job_ends_with_a_result_without_output() -> None:
    events, _ = await streamed(1.0, failed_share=1.0)
    job = json.loads(events[-1][1])
    assert (events[-1][0], job["status"], "outputData" in job) == ("result", "failed", False)


@virtual_time
async def test_a_stream_of_a_stuck_job_ends_when_the_jobs_time_is_over() -> None:
    events, took = await streamed(1.0, "?timeout=5m", stuck_share=1.0)
    assert events[-1][0] == "error"
    assert json.loads(events[-1][1])["code"] == "JobTimeout"
    assert took == pytest.approx(300.0, abs=1.1)


async def test_a_spent_quota_is_403_and_an_unknown_job_is_404() -> None:
    async with simulated(settled(numind={"quota": 1}), headers=HEADERS) as simulator:
        await job_id_of(await submit(simulator))
        spent = await submit(simulator)
        unknown = await simulator.client.get("/api/jobs/nothing/status")
        assert [spent.status_code, unknown.status_code] == [403, 404]
        assert spent.json().keys() == unknown.json().keys() == {"code", "message"}


@pytest.mark.parametrize("header", ["", KEY, f"Token {KEY}", "Bearer wrong"])
async def test_only_the_key_as_bearer_token_is_let_in(header: str) -> None:
    async with simulated(headers={"Authorization": header}) as simulator:
        answer = await simulator.client.get("/api/jobs")
        assert (answer.status_code, answer.json()["code"]) == (401, "Unauthorized")


@pytest.mark.parametrize(
    ("template", "manifest"),
    [
        ("number", {}),
        ({"a": 1}, {}),
        ({"a": []}, {}),
        ({"a": ["x", {"b": "string"}]}, {}),
        (None, {}),
        ({"a": "string"}, {"examples": [{}]}),
        ({"a": "string"}, {"examples": [{"result": {}}]}),
    ],
)
async def test_a_template_or_example_that_makes_no_sense_is_refused(template: Any, manifest: Any) -> None:
    async with simulated(headers=HEADERS) as simulator:
        assert (await submit(simulator, template, **manifest)).status_code == 400


async def test_examples_with_their_files_and_instructions_are_taken() -> None:
    async with simulated(headers=HEADERS) as simulator:
        manifest = {
            "schema": {"total": "number"},
            "instructions": "Totals only",
            "settings": {"randomSeed": 7},
            "examples": [{"result": {"total": 1}}, {"result": {"total": 2}}],
        }
        answer = await simulator.client.post(
            "/api/structured-extraction/jobs",
            data={"request": json.dumps(manifest)},
            files=[("document", ("document", INVOICE)), ("exampleFiles", b"one"), ("exampleFiles", b"two")],
        )
        body = await structured(simulator, await job_id_of(answer))
        assert (body["result"], body["randomSeed"]) == ({"total": 1452.17}, 7)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"text": 1}', b'{"text": ""}'])
async def test_a_text_that_is_none_is_refused(body: bytes) -> None:
    async with simulated(headers=HEADERS) as simulator:
        path = f"/api/structured-extraction/{await project_id(simulator)}/jobs/text"
        assert (await simulator.client.post(path, content=body)).status_code == 400


async def test_empty_and_missing_documents_are_refused() -> None:
    async with simulated(headers=HEADERS) as simulator:
        path = f"/api/structured-extraction/{await project_id(simulator)}/jobs"
        answers = [
            await simulator.client.post(path, content=b""),
            await simulator.client.post(path, files={"other": b"x"}),
            await submit(simulator, data=b""),
            await simulator.client.post("/api/structured-extraction/jobs", json={"schema": {}}),
            await simulator.client.post("/api/structured-extraction/unknown/jobs", content=INVOICE),
        ]
        assert [answer.status_code for answer in answers] == [400, 400, 400, 400, 404]
        assert all(answer.json().keys() == {"code", "message"} for answer in answers)


def test_a_schema_nested_too_deeply_or_into_itself_is_refused() -> None:
    loop = {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/a"}}}},
    }
    deep: Any = "string"
    for _ in range(40):
        deep = [deep]
    with pytest.raises(InvalidSchema, match="deep"):
        from_json_schema(loop)
    with pytest.raises(InvalidSchema, match="deep"):
        from_template(deep)
    with pytest.raises(InvalidSchema, match="does not define"):
        from_json_schema({"$ref": "#/$defs/missing"})


@pytest.mark.parametrize(
    ("template", "result"),
    [
        (
            {"purchases": [{"article": "string", "price": "number"}]},
            {"article": "Mounting kit", "price": 12.4},
        ),
        ({"rows": [{"name": "string"}]}, {"name": "Mounting kit"}),
        ({"people": [{"name": "string", "role": "string"}]}, None),
    ],
)
async def test_a_list_asks_for_items_by_its_name_or_by_its_columns(template: Any, result: Any) -> None:
    async with simulated(headers=HEADERS) as simulator:
        body = await structured(simulator, await job_id_of(await submit(simulator, template)))
        (rows,) = body["result"].values()
        assert rows[1:2] == ([] if result is None else [result])


async def test_the_name_of_one_party_never_answers_for_the_other() -> None:
    template = {"customer": {"company": "string", "address": "string"}, "total": {"supplier": "string"}}
    text = b"Supplier: Blue Door Ltd\nCustomer: Red Gate Ltd\nSupplier address: 1 Hill Road"
    async with simulated(headers=HEADERS) as simulator:
        body = await structured(simulator, await job_id_of(await submit(simulator, template, text)))
        assert body["result"] == {
            "customer": {"company": "Red Gate Ltd", "address": None},
            "total": {"supplier": "Blue Door Ltd"},
        }


def test_a_schema_may_offer_null_and_dates() -> None:
    assert from_json_schema({"anyOf": [{"type": "null"}, {"type": "number"}]}) == Leaf("number")
    assert from_json_schema({"type": ["null", "string"], "format": "date"}) == Leaf("date")
    assert from_json_schema({"type": "string", "enum": ["a", None]}) == Leaf("string", ("a",))
