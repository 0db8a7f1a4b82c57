"""What every provider must do, whoever wrote it: run over the registry, against the simulator."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.services import KEY, SETTINGS, connected, invoice, png, provider, says
from support.virtual_time import virtual_time

from prefect_docjobs.errors import (
    DocJobsError,
    ForeignOrigin,
    InvalidDocument,
    InvalidPush,
    JobCancelled,
    JobFailed,
    JobTimeout,
    NotFound,
    Reason,
    RefMismatch,
    ResultLost,
    SubmitUncertain,
    Throttled,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from prefect_docjobs.extraction import Terms, extract_many, fetch_one, submit_many, submit_one, wait_one
from prefect_docjobs.http import Limits, Request
from prefect_docjobs.models import Document, JobRef, JobState, Phase
from prefect_docjobs.providers import provider_class
from prefect_docjobs.providers.base import sign
from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.simulator import samples

pytestmark = pytest.mark.parametrize("name", list(BUILT_IN))
FIXED: dict[str, Any] = {"duration": {"law": "fixed", "seconds": 8.0, "queue_share": 0.25}}


def test_every_provider_is_set_up_for_this_suite(name: str) -> None:
    assert list(BUILT_IN) == sorted(BUILT_IN)
    assert set(SETTINGS) == set(BUILT_IN)
    kind = provider_class(name)
    assert (kind.name, kind.title, kind.env_key) == (name, kind.title.strip(), kind.env_key.upper())
    assert kind.default_base_url.startswith("https://")
    assert all(word == word.lower() for word in kind.states)


# The way of a document.


@virtual_time
async def test_a_document_goes_from_submit_to_result(name: str) -> None:
    async with connected(name, **FIXED) as at:
        document = invoice(42)
        ref = await submit_one(at.provider, at.http, document)
        status = await wait_one(at.provider, at.http, ref)
        result = await fetch_one(at.provider, at.http, status.ref)

    assert (ref.provider, ref.base_url, ref.tenant) == (name, "http://localhost", "acme")
    assert (ref.document_name, ref.document_sha256) == (document.name, document.sha256)
    assert JobRef.model_validate_json(ref.model_dump_json()) == ref
    assert KEY not in ref.model_dump_json()
    assert status.state is JobState.SUCCEEDED
    assert says(result) == ("N-00042", 42.5)
    assert result.raw
    assert result.ref.job_id == ref.job_id


@virtual_time
async def test_a_result_can_be_fetched_with_the_submits_own_ref(name: str) -> None:
    async with connected(name, **FIXED) as at:
        ref = await submit_one(at.provider, at.http, invoice(7))
        await wait_one(at.provider, at.http, ref)
        assert says(await fetch_one(at.provider, at.http, ref)) == ("N-00007", 7.5)


@virtual_time
async def test_every_sample_document_gives_its_own_values_or_is_refused_by_type(name: str) -> None:
    folder = files(samples)
    paths = sorted(Path(str(item)) for item in folder.iterdir() if not item.name.startswith("_"))
    documents = [Document.from_path(path) for path in paths]
    totals = {
        "invoice-brightwater.pdf": 1452.17,
        "invoice-cascade-3-pages.pdf": 4177.38,
        "receipt-green-leaf.png": 25.5,
        "rechnung-bergmann.pdf": 1432.4,
    }
    async with connected(name) as at:
        outcomes = [outcome async for _, outcome in extract_many(at.provider, at.http, documents)]

    assert len(outcomes) == len(documents) >= 6
    told = {
        o.document: o.result.fields["total_amount"].value
        for o in outcomes
        if o.result and o.document in totals
    }
    assert told == totals
    for outcome in outcomes:
        assert outcome.ok or outcome.reason is Reason.INVALID_DOCUMENT


@virtual_time
async def test_states_are_seen_in_order_and_in_our_words(name: str) -> None:
    seen: list[JobState] = []
    async with connected(name, **FIXED) as at:
        ref = await submit_one(at.provider, at.http, invoice(1))
        for _ in range(10):
            status = await at.provider.status(at.http, ref)
            assert status.raw_state is not None or status.state is JobState.SUCCEEDED
            if not seen or seen[-1] is not status.state:
                seen.append(status.state)
            await asyncio.sleep(1)

    assert seen in (
        [JobState.QUEUED, JobState.PROCESSING, JobState.SUCCEEDED],
        [JobState.PROCESSING, JobState.SUCCEEDED],
        [JobState.UNKNOWN, JobState.PROCESSING, JobState.SUCCEEDED],
    )


@virtual_time
async def test_a_failed_job_is_a_row_with_what_the_service_said(name: str) -> None:
    async with connected(name, failed_share=1.0) as at:
        ref = await submit_one(at.provider, at.http, invoice(1))
        with pytest.raises(JobFailed) as caught:
            await wait_one(at.provider, at.http, ref)

    error = caught.value
    assert error.ref
    assert error.ref.job_id == ref.job_id
    assert error.job_status
    assert error.job_status.state is JobState.FAILED
    assert "invoice-00001.png" in str(error)
    assert error.job_status.error
    assert "could not be processed" in str(error.job_status.error)


@virtual_time
async def test_a_job_that_never_ends_times_out_and_its_ref_can_be_waited_for_again(name: str) -> None:
    async with connected(name, duration={"law": "fixed", "seconds": 100.0}) as at:
        ref = await submit_one(at.provider, at.http, invoice(1))
        with pytest.raises(JobTimeout) as caught:
            await wait_one(at.provider, at.http, ref, timeout=30)
        assert caught.value.ref
        assert (await wait_one(at.provider, at.http, caught.value.ref)).state is JobState.SUCCEEDED
        assert at.backend.report()["submits"]["total"] == 1


# Bad requests.


@virtual_time
async def test_a_wrong_key_is_unauthorized_at_every_verb(name: str) -> None:
    async with connected(name, key="wrong-key-0815") as at:
        with pytest.raises(Unauthorized) as caught:
            await submit_one(at.provider, at.http, invoice(1))
        ref = _ref(at.provider, at.http.base_url)
        with pytest.raises(Unauthorized):
            await at.provider.status(at.http, ref)
        assert len(at.requests) == 2
    assert caught.value.provider == name
    assert caught.value.status == 401
    assert "wrong-key-0815" not in "".join(traceback.format_exception(caught.value)) + repr(
        vars(caught.value)
    )
    assert b"wrong-key-0815" not in pickle.dumps(caught.value)


@virtual_time
async def test_an_unknown_job_is_not_found(name: str) -> None:
    async with connected(name) as at:
        with pytest.raises(NotFound):
            await at.provider.status(at.http, _ref(at.provider, at.http.base_url))


@pytest.mark.parametrize("job_id", ["../../../api/jobs", "a/b", "a?b=c", "a#b", "a b", "ü", "%2e%2e"])
@virtual_time
async def test_a_job_id_never_leads_to_another_route(name: str, job_id: str) -> None:
    async with connected(name) as at:
        ref = _ref(at.provider, at.http.base_url, job_id=job_id)
        with pytest.raises(DocJobsError):
            await at.provider.status(at.http, ref)
        for request in at.requests:
            assert request.url.raw_path.count(b"/") <= _status_slashes(at.provider)
            assert b"?b=c" not in request.url.raw_path


def _status_slashes(of: Any) -> int:
    request: Request = of.status_request(_ref(of, "http://localhost", job_id="x"))
    return request.path.count("/")


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (Document.from_path("/nowhere/a.pdf"), InvalidDocument),
        (Document.from_path("/"), InvalidDocument),
        (Document.from_bytes(b"", name="a.pdf"), InvalidDocument),
        (Document.from_url("http://example.org/a.pdf"), InvalidDocument),
        (Document.from_bytes(b"PK", name="a.zip", media_type="application/zip"), InvalidDocument),
    ],
    ids=["missing", "folder", "empty", "http-url", "zip"],
)
@virtual_time
async def test_a_bad_document_is_a_clear_error_and_nothing_is_sent(
    name: str, document: Document, kind: type[DocJobsError]
) -> None:
    if document.media_type == "application/zip" and provider(name).capabilities.media_types is None:
        kind = DocJobsError  # the service does not say what it takes: it decides itself
    async with connected(name) as at:
        outcomes = [o async for _, o in submit_many(at.provider, at.http, [document, invoice(1)])]
        if kind is InvalidDocument:
            assert len(at.requests) == 1
            failed = next(o for o in outcomes if not o.ok)
            assert failed.reason is Reason.INVALID_DOCUMENT
            assert document.name in (failed.error or "")
            assert (failed.document, failed.phase) == (document.name, Phase.SUBMIT)
    assert sum(o.ok for o in outcomes if o.document == "invoice-00001.png") == 1


@virtual_time
async def test_a_url_is_submitted_as_a_url_or_refused_loudly(name: str) -> None:
    url = "https://files.example.org/in/invoice.png?token=s3cret"
    async with connected(name) as at:
        at.backend.documents[url] = png("INVOICE\nInvoice number: U-1\nTotal amount: 9.50 EUR\n")
        document = Document.from_url(url)
        if not at.provider.capabilities.url_input:
            with pytest.raises(Unsupported, match="URL"):
                await submit_one(at.provider, at.http, document)
            assert at.requests == []
            return
        ref = await submit_one(at.provider, at.http, document)
        status = await wait_one(at.provider, at.http, ref)
        result = await fetch_one(at.provider, at.http, status.ref)
    assert says(result) == ("U-1", 9.5)
    assert (ref.document_sha256, ref.document_size) == (None, None)
    assert "s3cret" not in ref.model_dump_json()


@virtual_time
async def test_a_document_that_the_service_cannot_read_is_a_failed_row(name: str) -> None:
    broken = Document.from_bytes(b"%PDF-1.7\nthis is no PDF", name="broken.pdf")
    async with connected(name) as at:
        outcomes = [o async for _, o in extract_many(at.provider, at.http, [broken, invoice(1)])]
    assert {o.document: o.reason for o in outcomes} == {
        "broken.pdf": Reason.FAILED,
        "invoice-00001.png": None,
    }


# Requests that go wrong.


@pytest.mark.parametrize("form", ["none", "seconds"])
@virtual_time
async def test_throttling_slows_down_and_loses_nothing(name: str, form: str) -> None:
    rates = {kind: {"per_second": 1.0, "burst": 2} for kind in ("submit", "status", "result")}
    async with connected(name, rates=rates, retry_after={"form": form}) as at:
        outcomes = [o async for _, o in extract_many(at.provider, at.http, [invoice(n) for n in range(12)])]
        report = at.backend.report()
    assert [o.reason for o in outcomes] == [None] * 12
    assert report["given"]["429"] > 0
    assert report["submits"]["repeated"] == []


@pytest.mark.parametrize("fault", ["dropped", "bad_gateway"])
@virtual_time
async def test_a_submit_whose_answer_is_lost_is_uncertain_and_never_repeated(name: str, fault: str) -> None:
    async with connected(name, faults={"submit": {fault: 1.0}}) as at:
        with pytest.raises(SubmitUncertain) as caught:
            await submit_one(at.provider, at.http, invoice(1))
        assert at.backend.report()["submits"]["repeated"] == []
        sent = sum(request.method == "POST" for request in at.requests)
        assert sent == 1 or at.provider.capabilities.list_jobs  # which shows that nothing was accepted
    assert caught.value.reason is Reason.UNCERTAIN
    assert "invoice-00001.png" in str(caught.value)


@virtual_time
async def test_a_service_that_is_down_is_tried_a_few_times_and_then_unavailable(name: str) -> None:
    async with connected(name, faults={"submit": {"unavailable": 1.0}}) as at:
        with pytest.raises(Unavailable):
            await submit_one(at.provider, at.http, invoice(1))
        assert len(at.requests) == Limits().attempts
        assert at.backend.report()["submits"]["total"] == 0


@virtual_time
async def test_an_uncertain_submit_is_repeated_only_when_told(name: str) -> None:
    async with connected(name, faults={"submit": {"lost": 1.0}}) as at:
        with pytest.raises(SubmitUncertain):
            await submit_one(at.provider, at.http, invoice(1), terms=Terms(on_uncertain="resubmit"))
        assert at.backend.report()["submits"]["total"] == 2


@virtual_time
async def test_a_request_for_too_much_patience_is_a_typed_refusal(name: str) -> None:
    rates = {"submit": {"per_second": 0.001, "burst": 1}}
    async with connected(name, rates=rates, retry_after={"form": "seconds"}) as at:
        await submit_one(at.provider, at.http, invoice(1))
        with pytest.raises(Throttled) as caught:
            await submit_one(at.provider, at.http, invoice(2))
    assert caught.value.retry_after
    assert caught.value.retry_after > 60


@virtual_time
async def test_a_result_that_is_used_up_is_lost_and_says_so(name: str) -> None:
    if name == "unsiloed":
        pytest.skip("the service answers each status request with the result: it cannot be single-use")
    async with connected(name, single_use_results=True) as at:
        ref = await submit_one(at.provider, at.http, invoice(1))
        status = await wait_one(at.provider, at.http, ref)
        assert says(await fetch_one(at.provider, at.http, status.ref)) == ("N-00001", 1.5)
        with pytest.raises(ResultLost) as caught:
            await fetch_one(at.provider, at.http, status.ref)
    assert caught.value.ref == status.ref


# Credentials.


@virtual_time
async def test_a_ref_of_another_service_host_account_or_product_is_refused(name: str) -> None:
    async with connected(name) as at:
        ref = _ref(at.provider, at.http.base_url)
        for change in (
            {"provider": "x"},
            {"base_url": "https://evil.test"},
            {"tenant": "b"},
            {"product": "x"},
        ):
            for verb in (at.provider.status, at.provider.fetch):
                with pytest.raises(RefMismatch, match=next(iter(change)).replace("provider", "service")):
                    await verb(at.http, ref.model_copy(update=change))
        assert at.requests == []


@virtual_time
async def test_credentials_are_never_taken_to_a_result_url_elsewhere(name: str) -> None:
    async with connected(name) as at:
        ref = await submit_one(at.provider, at.http, invoice(1))
        status = await wait_one(at.provider, at.http, ref)
        lured = status.ref.model_copy(update={"result_url": "https://evil.test/result"})
        if status.ref.result_url:
            with pytest.raises(ForeignOrigin):
                await at.provider.fetch(at.http, lured)
        assert {request.url.host for request in at.requests} == {"localhost"}


@virtual_time
async def test_every_request_carries_the_services_own_key_header(name: str) -> None:
    expected = {k.lower(): v for k, v in provider_class(name).auth_headers(KEY).items()}
    async with connected(name) as at:
        ref = await submit_one(at.provider, at.http, invoice(1))
        await fetch_one(at.provider, at.http, (await wait_one(at.provider, at.http, ref)).ref)
        for request in at.requests:
            assert expected.items() <= dict(request.headers).items()


# Cancelling.


@virtual_time
async def test_cancelling_the_calling_task_leaves_nothing_running(name: str) -> None:
    async with connected(name, duration={"law": "fixed", "seconds": 1e6}) as at:
        documents = [invoice(n) for n in range(30)]

        async def consume() -> None:
            async for _ in extract_many(at.provider, at.http, documents):
                pass

        task = asyncio.create_task(consume())
        await asyncio.sleep(20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sent = len(at.requests)
        await asyncio.sleep(1000)
        assert len(at.requests) == sent
        assert len(asyncio.all_tasks()) == 1


@virtual_time
async def test_a_job_is_cancelled_remotely_or_that_is_refused_loudly(name: str) -> None:
    async with connected(name, duration={"law": "fixed", "seconds": 100.0}) as at:
        ref = await submit_one(at.provider, at.http, invoice(1))
        if not at.provider.capabilities.cancel:
            with pytest.raises(Unsupported):
                await at.provider.cancel(at.http, ref)
            return
        await at.provider.cancel(at.http, ref)
        with pytest.raises((JobCancelled, JobFailed)):
            await wait_one(at.provider, at.http, ref)


# Lists, streams, pushes: as declared.


@virtual_time
async def test_a_list_tells_jobs_or_is_refused_loudly(name: str) -> None:
    async with connected(name, **FIXED) as at:
        if not at.provider.capabilities.list_jobs:
            with pytest.raises(Unsupported):
                await at.provider.list_jobs(at.http)
            return
        refs = [await submit_one(at.provider, at.http, invoice(n)) for n in range(3)]
        await asyncio.sleep(20)
        page = await at.provider.list_jobs(at.http)
    assert {ref.job_id for ref in refs} == set(page.rows)
    assert {row.state for row in page.rows.values()} == {JobState.SUCCEEDED}


@virtual_time
async def test_a_stream_tells_the_end_of_a_job_or_is_refused_loudly(name: str) -> None:
    async with connected(name, **FIXED) as at:
        ref = await submit_one(at.provider, at.http, invoice(1))
        if not at.provider.capabilities.stream:
            with pytest.raises(Unsupported):
                at.provider.stream(at.http, ref)
            return
        await asyncio.sleep(20)
        told = [status async for status in at.provider.stream(at.http, ref)]
    assert [status.state for status in told] == [JobState.SUCCEEDED]
    assert told[0].ref.job_id == ref.job_id


@pytest.mark.parametrize("failed", [False, True])
@virtual_time
async def test_a_push_is_verified_and_names_its_job_or_pushes_are_refused_loudly(
    name: str, failed: bool
) -> None:
    calls: list[httpx.Request] = []

    def receiver(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(204)

    webhooks = {"url": "http://receiver.test/{service}", "secret": "new"}
    async with connected(
        name, push_transport=httpx.MockTransport(receiver), webhooks=webhooks, failed_share=float(failed)
    ) as at:
        kind = type(at.provider)
        if not at.provider.capabilities.push:
            with pytest.raises(Unsupported):
                kind.verify_push({}, b"{}", ["secret"])
            return
        ref = await submit_one(at.provider, at.http, invoice(5))
        await asyncio.sleep(60)
    assert len(calls) == 1
    body, headers = calls[0].content, dict(calls[0].headers)
    kind.verify_push(headers, body, ["old", "new"])
    push = kind.read_push(body)
    assert ref.job_id == push.job_id or (ref.alias and ref.alias == push.alias)
    if failed:
        assert push.state is JobState.FAILED
        assert push.error
    else:
        assert push.state is JobState.SUCCEEDED
        assert says(at.provider.map_result(ref, push.payload)) == ("N-00005", 5.5)
    _refuses_forged(kind, headers, body)


def _refuses_forged(kind: Any, headers: dict[str, str], body: bytes) -> None:
    signature = next(key for key, value in headers.items() if value == sign(body, "new"))
    forged: list[tuple[dict[str, str], bytes, list[str]]] = [
        (headers, body + b" ", ["new"]),
        (headers, body, ["old"]),
        (headers, body, []),
        ({k: v for k, v in headers.items() if k != signature}, body, ["new"]),
        ({**headers, signature: ""}, body, ["new"]),
        ({**headers, signature: "ü"}, body, ["new"]),
        ({**headers, signature: headers[signature][:-1]}, body, ["new"]),
    ]
    for bad_headers, bad_body, secrets in forged:
        with pytest.raises(InvalidPush):
            kind.verify_push(bad_headers, bad_body, secrets)
    for nonsense in (b"", b"[]", b"{}", b"null", b"\xff", b'{"job": 1}', b"[" * 100_000):
        with pytest.raises(InvalidPush):
            kind.read_push(nonsense)


def _ref(of: Any, base_url: str, **changes: Any) -> JobRef:
    known = {
        "provider": of.name,
        "base_url": base_url,
        "tenant": "acme",
        "product": of.product,
        "job_id": "99999999-9999-4999-8999-999999999999",
        "document_name": "a.pdf",
        "submitted_at": "2026-02-03T10:15:00Z",
        "result_url": f"{base_url}/v2/results/9",
        "document_id": "99999999-9999-4999-8999-999999999999",
    }
    return JobRef.model_validate({**known, **changes})
