"""Mindee's own OpenAPI of its job route, against the simulated service and against our requests.

``mindee_v2_jobs.yaml`` is Mindee's text word for word. Its formats ``uuid4`` and ``uri`` are checked too.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openapi_core import Config, OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse
from support.services import MODEL, Recorder
from support.simulated import KEY, HandClock, Simulated, sample, settled, simulated

from prefect_docjobs.http import Http
from prefect_docjobs.models import Document, JobState
from prefect_docjobs.providers.mindee import Mindee
from prefect_docjobs.simulator.server import SimulatorTransport, create_app

ORIGIN = "https://api-v2.mindee.net"
INVOICE = sample("invoice-brightwater.pdf")


def is_uuid4(value: Any) -> bool:
    """Whether a text is a UUID of version 4; a format says nothing about other types than text."""
    try:
        return not isinstance(value, str) or uuid.UUID(value).version == 4
    except ValueError:
        return False


def is_uri(value: Any) -> bool:
    """Whether a text is an absolute address."""
    return not isinstance(value, str) or httpx.URL(value).is_absolute_url


OPENAPI = OpenAPI.from_dict(
    yaml.safe_load(Path(__file__).with_name("mindee_v2_jobs.yaml").read_text(encoding="utf-8")),
    config=Config(extra_format_validators={"uuid4": is_uuid4, "uri": is_uri}),
)


def as_request(request: httpx.Request) -> MockRequest:
    return MockRequest(
        ORIGIN,
        request.method,
        request.url.path,
        args=dict(request.url.params),
        headers=dict(request.headers),
    )


def check(answer: httpx.Response, request: httpx.Request | None = None, status: int | None = None) -> None:
    """Raise unless an answer is one that the OpenAPI describes for its request."""
    response = MockResponse(
        answer.content,
        status or answer.status_code,
        dict(answer.headers),
        answer.headers["content-type"],
    )
    OPENAPI.validate_response(as_request(request or answer.request), response)


@asynccontextmanager
async def service(**settings: Any) -> AsyncIterator[Simulated]:
    """A simulator at Mindee's address whose jobs take 8 seconds."""
    headers = {"Authorization": KEY}
    receiver = httpx.MockTransport(
        lambda request: httpx.Response(500 if request.url.path == "/broken" else 200)
    )
    async with simulated(settled(**settings), headers=headers, push_transport=receiver) as simulator:
        simulator.client.base_url = httpx.URL(ORIGIN)
        yield simulator


async def submitted(simulator: Simulated, data: bytes = INVOICE, hooks: Iterable[str] = ()) -> httpx.Response:
    form = {"model_id": MODEL, "alias": "order-42", "webhook_ids": list(hooks)}
    answer = await simulator.client.post(
        "/v2/products/extraction/enqueue", data=form, files={"file": ("acme.pdf", data)}
    )
    assert answer.status_code == 202
    return answer


async def looked_at(
    simulator: Simulated, seconds: float, data: bytes = INVOICE, **params: str
) -> httpx.Response:
    """The answer to a poll of a fresh job, some seconds after its submit."""
    job = (await submitted(simulator, data)).json()["job"]
    simulator.clock.advance(seconds)
    return await simulator.client.get(f"/v2/jobs/{job['id']}", params=params)


@pytest.mark.parametrize(
    ("seconds", "data", "params", "status", "word"),
    [
        (0, INVOICE, {}, 200, "Processing"),
        (8, b"%PDF-1.4 broken", {}, 200, "Failed"),
        (8, INVOICE, {}, 302, "Processed"),
        (8, INVOICE, {"redirect": "true"}, 302, "Processed"),
        (8, INVOICE, {"redirect": "false"}, 200, "Processed"),
    ],
)
async def test_each_state_of_a_job_is_answered_as_described(
    seconds: float, data: bytes, params: dict[str, str], status: int, word: str
) -> None:
    async with service() as simulator:
        answer = await looked_at(simulator, seconds, data, **params)
        assert (answer.status_code, answer.json()["job"]["status"]) == (status, word)
        assert (answer.json()["job"]["error"] is None) is (word != "Failed")
        check(answer)


async def test_an_unknown_job_is_answered_as_described() -> None:
    async with service() as simulator:
        answer = await simulator.client.get(f"/v2/jobs/{uuid.uuid4()}")
        assert answer.status_code == 404
        check(answer)


async def test_a_wrong_id_is_answered_as_described() -> None:
    async with service() as simulator:
        answer = await simulator.client.get("/v2/jobs/not-a-uuid")
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/job_id")
        check(answer)


async def test_a_wrong_parameter_is_answered_as_described() -> None:
    async with service() as simulator:
        answer = await looked_at(simulator, 0, redirect="perhaps")
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/redirect")
        check(answer)


async def test_too_many_requests_are_answered_as_described() -> None:
    async with service(rates={"status": {"per_second": 0.01, "burst": 1}}) as simulator:
        path = f"/v2/jobs/{uuid.uuid4()}"
        await simulator.client.get(path)
        answer = await simulator.client.get(path)
        assert answer.status_code == 429
        check(answer)


@pytest.mark.parametrize("receiver", ["http://receiver.test/", "http://receiver.test/broken"])
async def test_called_webhooks_are_shown_as_described(receiver: str) -> None:
    async with service(webhooks={"url": receiver}) as simulator:
        job = (await submitted(simulator, hooks=[str(uuid.uuid4())])).json()["job"]
        simulator.clock.advance(8)
        await simulator.pushes.deliver_due()
        answer = await simulator.client.get(f"/v2/jobs/{job['id']}")
        (hook,) = answer.json()["job"]["webhooks"]
        word = "Failed" if receiver.endswith("broken") else "Processed"
        assert (hook["status"], hook["attempts_count"]) == (word, 1)
        check(answer)


async def test_the_job_of_a_submit_is_as_described() -> None:
    async with service() as simulator:
        answer = await submitted(simulator)
        poll = httpx.Request("GET", f"{ORIGIN}/v2/jobs/{answer.json()['job']['id']}")
        check(answer, poll, status=200)


@pytest.mark.parametrize(
    "flaw",
    [
        {"status": "Waiting"},
        {"polling_url": "/v2/jobs/1"},
        {"id": "1"},
        {"created_at": "2026-02-03T10:15:00.123456"},
        {"webhooks": [{"status": "Processed"}]},
        {"error": {"status": 500}},
    ],
)
async def test_a_wrong_answer_would_be_found(flaw: dict[str, Any]) -> None:
    async with service() as simulator:
        answer = await looked_at(simulator, 0)
        check(answer)
        job = {**answer.json()["job"], **flaw}
        with pytest.raises(OpenAPIError):
            check(httpx.Response(200, json={"job": job}), answer.request)


async def test_our_poll_of_a_job_is_a_request_as_described() -> None:
    recorder = Recorder(SimulatorTransport(create_app(settled(), clock=HandClock())))
    provider = Mindee(model_id=MODEL)
    async with Http(
        provider="mindee",
        base_url=ORIGIN,
        headers=Mindee.auth_headers(KEY),
        tenant="acme",
        secrets=[KEY],
        read_error=Mindee.read_error,
        transport=recorder,
    ) as http:
        ref = await provider.submit(http, Document.from_bytes(INVOICE, name="acme.pdf"))
        status = await provider.status(http, ref)
    poll = recorder.requests[-1]
    assert (status.state, poll.method) == (JobState.PROCESSING, "GET")
    OPENAPI.validate_request(as_request(poll))


@pytest.mark.parametrize(
    ("headers", "params"),
    [({}, {"redirect": "false"}), ({"Authorization": KEY}, {"redirect": "perhaps"})],
)
def test_a_wrong_request_would_be_found(headers: dict[str, str], params: dict[str, str]) -> None:
    poll = httpx.Request("GET", f"{ORIGIN}/v2/jobs/{uuid.uuid4()}", headers=headers, params=params)
    with pytest.raises(OpenAPIError):
        OPENAPI.validate_request(as_request(poll))
