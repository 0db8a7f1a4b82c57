"""What a client meets in front of the services: faults, keys, rate limits, in process and over TCP."""

from __future__ import annotations

import contextlib
import math
import queue
import socket
import threading
import uuid
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from support.simulated import KEY, Simulated, sample, settled, simulated

from prefect_docjobs.simulator.server import Running, _listen, run_in_thread

MODEL = str(uuid.uuid4())
HEADERS = {"Authorization": KEY}
STATUS = f"/v2/jobs/{uuid.uuid4()}"


def submit_fault(**shares: float) -> Any:
    return settled(faults={"submit": shares})


async def enqueue(simulator: Simulated, **changes: Any) -> httpx.Response:
    files = {"file": ("acme.pdf", sample("invoice-brightwater.pdf"))}
    return await simulator.client.post(
        "/v2/products/extraction/enqueue", data={"model_id": MODEL, **changes}, files=files, headers=HEADERS
    )


async def test_503_has_the_services_own_shape_and_the_request_is_not_acted_on() -> None:
    async with simulated(submit_fault(unavailable=1.0)) as simulator:
        answer = await enqueue(simulator)
        assert answer.status_code == 503
        assert answer.json()["status"] == 503
        v1 = await simulator.client.post(
            "/v1/products/mindee/invoices/v4/predict_async", headers={"Authorization": f"Token {KEY}"}
        )
        assert v1.json()["api_request"]["status_code"] == 503
        assert simulator.backend.report()["submits"]["total"] == 0
        assert simulator.backend.stats.given["503"] == 2


async def test_502_is_a_page_of_html_for_every_service() -> None:
    async with simulated(submit_fault(bad_gateway=1.0)) as simulator:
        answer = await simulator.client.post("/v2/products/extraction/enqueue")
        assert answer.status_code == 502
        assert answer.headers["content-type"].startswith("text/html")
        assert simulator.backend.stats.given == {"502": 1}


async def test_a_dropped_connection_looks_like_one_and_nothing_was_acted_on() -> None:
    async with simulated(submit_fault(dropped=1.0)) as simulator:
        with pytest.raises(httpx.RemoteProtocolError):
            await enqueue(simulator)
        assert simulator.backend.report()["submits"]["total"] == 0
        assert simulator.backend.stats.given["dropped"] == 1


async def test_a_lost_answer_hides_a_job_that_was_made() -> None:
    async with simulated(submit_fault(lost=1.0)) as simulator:
        with pytest.raises(httpx.RemoteProtocolError):
            await enqueue(simulator)
        assert simulator.backend.report()["submits"]["total"] == 1
        assert simulator.backend.stats.given["lost"] == 1


async def test_a_refusal_is_never_lost() -> None:
    async with simulated(submit_fault(lost=1.0)) as simulator:
        answer = await enqueue(simulator, model_id="no uuid")
        assert answer.status_code == 422
        assert simulator.backend.stats.given["lost"] == 0


async def test_a_lost_result_is_used_up_when_results_are_read_once() -> None:
    settings = settled(single_use_results=True, faults={"result": {"lost": 1.0}})
    async with simulated(settings, headers=HEADERS) as simulator:
        job_id = (await enqueue(simulator)).json()["job"]["id"]
        simulator.clock.advance(8)
        with pytest.raises(httpx.RemoteProtocolError):
            await simulator.client.get(f"/v2/products/extraction/results/{job_id}")
        simulator.backend.settings = settled(single_use_results=True)
        assert (await simulator.client.get(f"/v2/products/extraction/results/{job_id}")).status_code == 404


async def test_faults_hit_only_the_kind_of_request_that_they_are_set_for() -> None:
    settings = settled(faults={"status": {"unavailable": 1.0}})
    async with simulated(settings, headers=HEADERS) as simulator:
        job_id = (await enqueue(simulator)).json()["job"]["id"]
        simulator.clock.advance(8)
        assert (await simulator.client.get(f"/v2/jobs/{job_id}")).status_code == 503
        assert (await simulator.client.get(f"/v2/products/extraction/results/{job_id}")).status_code == 200
        assert (await simulator.client.get("/v2/search/models")).status_code == 200


async def test_control_routes_need_no_key_and_never_fail() -> None:
    everywhere = {kind: {"dropped": 1.0} for kind in ("submit", "status", "result")}
    async with simulated(settled(faults=everywhere)) as simulator:
        for path in ("", "/report", "/settings", "/documents", "/jobs"):
            assert (await simulator.client.get(f"/_simulator{path}")).status_code == 200


async def test_requests_over_the_rate_get_429_until_the_bucket_fills_again() -> None:
    settings = settled(rates={"status": {"per_second": 2.0, "burst": 2}})
    async with simulated(settings, headers=HEADERS) as simulator:
        codes = [(await simulator.client.get(STATUS)).status_code for _ in range(3)]
        simulator.clock.advance(0.5)
        codes.append((await simulator.client.get(STATUS)).status_code)
        assert codes == [404, 404, 429, 404]
        assert simulator.backend.stats.given["429"] == 1


@pytest.mark.parametrize(("wish", "expected"), [(None, 4), (7.2, 8)])
async def test_retry_after_comes_as_seconds_or_date_or_not_at_all(wish: float | None, expected: int) -> None:
    settings = settled(rates={"status": {"per_second": 0.25}}, retry_after={"seconds": wish})
    async with simulated(settings, headers=HEADERS) as simulator:
        await simulator.client.get(STATUS)
        assert "retry-after" not in (await simulator.client.get(STATUS)).headers
        simulator.backend.settings = settings.merged({"retry_after": {"form": "seconds"}})
        assert (await simulator.client.get(STATUS)).headers["retry-after"] == str(expected)
        simulator.backend.settings = settings.merged({"retry_after": {"form": "date"}})
        date = parsedate_to_datetime((await simulator.client.get(STATUS)).headers["retry-after"])
        now = simulator.backend.wall(simulator.backend.now())
        assert expected <= (date - now).total_seconds() < expected + 1


async def test_a_wrong_key_is_counted_and_costs_nothing_of_the_rate() -> None:
    async with simulated(settled(rates={"status": {"per_second": 1.0}})) as simulator:
        for _ in range(3):
            answer = await simulator.client.get(STATUS, headers={"Authorization": "wrong"})
            assert answer.status_code == 401
        assert simulator.backend.stats.given["unauthorized"] == 3
        assert (await simulator.client.get(STATUS, headers=HEADERS)).status_code == 404


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with run_in_thread(settled()) as simulator:
        yield simulator


def set_status_fault(running: Running, name: str, share: float) -> None:
    patch = {"faults": {"status": {name: share}}}
    httpx.patch(f"{running.base_url}/_simulator/settings", json=patch, trust_env=False).raise_for_status()


@pytest.mark.parametrize("name", ["dropped", "lost"])
def test_over_tcp_a_fault_really_cuts_the_connection(running: Running, name: str) -> None:
    with httpx.Client(base_url=running.base_url, headers=HEADERS, trust_env=False) as client:
        files = {"file": ("acme.pdf", sample("invoice-brightwater.pdf"))}
        submit = client.post("/v2/products/extraction/enqueue", data={"model_id": MODEL}, files=files)
        path = f"/v2/jobs/{submit.json()['job']['id']}"
        set_status_fault(running, name, 1.0)
        try:
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                client.get(path)
        finally:
            set_status_fault(running, name, 0.0)
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(("name", "code"), [("unavailable", 503), ("bad_gateway", 502)])
def test_over_tcp_an_error_keeps_the_connection_usable(running: Running, name: str, code: int) -> None:
    with httpx.Client(base_url=running.base_url, headers=HEADERS, trust_env=False) as client:
        set_status_fault(running, name, 1.0)
        try:
            assert client.get(STATUS).status_code == code
        finally:
            set_status_fault(running, name, 0.0)
        assert client.get(STATUS).status_code == 404


def test_over_tcp_a_large_submit_that_is_refused_still_gets_its_answer(running: Running) -> None:
    files = {"file": ("large.pdf", b"%PDF-1.4 " + bytes(8_000_000))}
    answer = httpx.post(
        f"{running.base_url}/v2/products/extraction/enqueue",
        data={"model_id": MODEL},
        files=files,
        headers={"Authorization": "wrong"},
        trust_env=False,
    )
    assert answer.status_code == 401


def test_a_server_gives_its_port_back_when_its_context_closes() -> None:
    with run_in_thread(settled()) as first:
        port = int(first.base_url.rpartition(":")[2])
    with run_in_thread(settled(), port=port) as second:
        assert httpx.get(f"{second.base_url}/_simulator/report", trust_env=False).status_code == 200


def test_a_job_ends_by_itself_on_a_real_clock() -> None:
    with run_in_thread(settled(duration={"seconds": 0.0})) as running:
        files = {"file": ("acme.pdf", sample("invoice-brightwater.pdf"))}
        with httpx.Client(base_url=running.base_url, headers=HEADERS, trust_env=False) as client:
            submit = client.post("/v2/products/ocr/enqueue", data={"model_id": MODEL}, files=files)
            status = client.get(f"/v2/jobs/{submit.json()['job']['id']}?redirect=false")
        assert status.json()["job"]["status"] == "Processed"
        assert math.isfinite(running.backend.report()["detection_latency"]["max"])


def test_a_taken_port_is_an_error() -> None:
    with run_in_thread(settled()) as first:
        port = int(first.base_url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            run_in_thread(settled(), port=port).__enter__()


def test_the_listener_names_tcp_so_that_no_answer_waits_for_an_acknowledgement() -> None:
    with contextlib.closing(_listen("127.0.0.1", 0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_running_simulator_pushes_by_itself() -> None:
    calls: queue.Queue[str | None] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            calls.put(self.headers["X-Mindee-Hmac-Signature"])

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01}).start()
        url = f"http://127.0.0.1:{receiver.server_port}/"
        with run_in_thread(settled(duration={"seconds": 0.05}, webhooks={"url": url})) as running:
            httpx.post(
                f"{running.base_url}/v1/products/mindee/invoices/v4/predict_async",
                files={"document": ("acme.pdf", sample("invoice-brightwater.pdf"))},
                headers={"Authorization": f"Token {KEY}"},
                trust_env=False,
            ).raise_for_status()
            assert calls.get(timeout=10)
        receiver.shutdown()


async def test_no_answer_needs_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual clock jumps to its next timer while a thread works: an hour would pass within one request."""

    async def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("answered in a thread")

    monkeypatch.setattr("anyio.to_thread.run_sync", refused)
    async with simulated(settled()) as simulator:
        submitted = await enqueue(simulator)
        known = submitted.json()["job"]["id"]
        paths = (f"/v2/jobs/{known}", STATUS, "/v2/nowhere", "/nowhere", "/cast/nowhere", "/jobs/nowhere")
        for path in paths:
            for method in ("GET", "PUT"):
                assert (await simulator.client.request(method, path, headers=HEADERS)).status_code < 500
