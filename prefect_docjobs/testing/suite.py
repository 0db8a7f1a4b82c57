"""What every provider must do; each test runs against the package's simulated service."""

from __future__ import annotations

import asyncio
import json
import pickle
import traceback
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from prefect_docjobs.errors import (
    DocJobsError,
    ForeignOrigin,
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
from prefect_docjobs.http import Limits
from prefect_docjobs.ledger import entry_for
from prefect_docjobs.models import Batch, Document, JobRef, JobState, Outcome, Phase
from prefect_docjobs.providers import Provider, provider_class
from prefect_docjobs.providers.base import sign
from prefect_docjobs.testing.clock import virtual_time
from prefect_docjobs.testing.hostile import HostileAnswers
from prefect_docjobs.testing.service import TENANT, Connected, Fault, SimulatedService, connected, png

_BAD_DAY: dict[Fault, float] = {"unavailable": 0.10, "dropped": 0.05, "bad_gateway": 0.05}
_ODD_IDS = ["../../../api/jobs", "a/b", "a?b=c", "a#b", "a b", "ü", "%2e%2e"]


class ProviderSuite(HostileAnswers):
    """All cases. A module with a subclass and a fixture `service` is a test module of a package."""

    # -------------------------------------------------------------------------- what the class says

    def test_the_class_is_registered_under_its_name(self, service: SimulatedService) -> None:
        kind = type(service.provider)
        assert provider_class(kind.name) is kind
        assert kind.title == kind.title.strip() != ""
        assert kind.env_key == kind.env_key.upper()
        assert httpx.URL(kind.default_base_url).scheme in {"http", "https"}
        assert all(word == word.lower() for word in kind.states)
        assert kind.key_required or service.key is None

    def test_equal_settings_are_the_same_purchase(self, service: SimulatedService) -> None:
        one, other = (_purchase(provider) for provider in (service.provider, service.provider))
        assert one == other
        others = [provider for provider in service.products if provider.product != service.provider.product]
        assert one not in map(_purchase, others)

    # ------------------------------------------------------------------------ the way of a document

    @virtual_time
    async def test_a_document_goes_from_submit_to_result(self, service: SimulatedService) -> None:
        async with connected(service) as at:
            document = service.document(42)
            ref = await submit_one(at.provider, at.http, document)
            status = await wait_one(at.provider, at.http, ref)
            result = await fetch_one(at.provider, at.http, status.ref)
        assert (ref.provider, ref.base_url, ref.tenant) == (at.provider.name, at.http.base_url, TENANT)
        assert (ref.document_name, ref.document_sha256) == (document.name, document.sha256)
        assert JobRef.model_validate_json(ref.model_dump_json()) == ref
        assert service.key is None or service.key not in ref.model_dump_json()
        assert status.state is JobState.SUCCEEDED
        assert service.found(result) == service.expected(42)
        assert result.raw
        assert result.ref.job_id == ref.job_id
        json.dumps([result.row(), result.line_items(), result.block_rows()])

    @virtual_time
    async def test_a_result_can_be_fetched_by_the_ref_of_the_submit(self, service: SimulatedService) -> None:
        async with connected(service) as at:
            ref = await submit_one(at.provider, at.http, service.document(7))
            await wait_one(at.provider, at.http, ref)
            assert service.found(await fetch_one(at.provider, at.http, ref)) == service.expected(7)

    @virtual_time
    async def test_every_product_gives_a_result(self, service: SimulatedService) -> None:
        for provider in service.products:
            async with connected(service, provider=provider) as at:
                batch = await _extracted(at, [service.document(1)])
            assert [outcome.error for outcome in batch] == [None], provider.product
            assert batch.results[0].fields or batch.results[0].text is not None

    @virtual_time
    async def test_states_are_seen_in_order_and_in_our_words(self, service: SimulatedService) -> None:
        seen: list[JobState] = []
        async with connected(service) as at:
            ref = await at.provider.submit(at.http, service.document(1))
            for _ in range(10):
                status = await at.provider.status(at.http, ref)
                assert status.raw_state is not None or status.state is JobState.SUCCEEDED
                if not seen or seen[-1] is not status.state:
                    seen.append(status.state)
                await asyncio.sleep(1)
        assert seen[-1] is JobState.SUCCEEDED
        assert seen[-2:-1] == [JobState.PROCESSING]
        assert seen[:-2] in ([], [JobState.QUEUED], [JobState.UNKNOWN])

    @virtual_time
    async def test_a_job_that_never_ends_times_out_and_can_be_waited_for_again(
        self, service: SimulatedService
    ) -> None:
        async with connected(service, seconds=100.0) as at:
            ref = await submit_one(at.provider, at.http, service.document(1))
            with pytest.raises(JobTimeout) as caught:
                await wait_one(at.provider, at.http, ref, timeout=30)
            assert caught.value.ref
            assert (await wait_one(at.provider, at.http, caught.value.ref)).state is JobState.SUCCEEDED
            assert at.wire.submits == 1

    # ----------------------------------------------------------------------------- failed documents

    @virtual_time
    async def test_a_failed_job_says_what_the_service_said(self, service: SimulatedService) -> None:
        async with connected(service) as at:
            document = service.unreadable_document()
            ref = await submit_one(at.provider, at.http, document)
            with pytest.raises(JobFailed) as caught:
                await wait_one(at.provider, at.http, ref)
        error = caught.value
        assert error.ref
        assert error.ref.job_id == ref.job_id
        assert error.job_status
        assert error.job_status.state is JobState.FAILED
        assert error.job_status.error
        assert error.job_status.error.message in str(error)
        assert document.name in str(error)

    @virtual_time
    async def test_a_document_that_the_service_cannot_read_is_one_failed_row(
        self, service: SimulatedService
    ) -> None:
        documents = [service.unreadable_document(), service.document(1)]
        async with connected(service) as at:
            batch = await _extracted(at, documents)
        assert [outcome.reason for outcome in batch] == [Reason.FAILED, None]

    @pytest.mark.parametrize(
        "document",
        [
            Document.from_path("/nowhere/a.pdf"),
            Document.from_path("/"),
            Document.from_bytes(b"", name="a.pdf"),
            Document.from_url("http://example.org/a.pdf"),
            Document.from_bytes(b"PK", name="a.zip", media_type="application/zip"),
        ],
        ids=["missing", "folder", "empty", "http-url", "zip"],
    )
    @virtual_time
    async def test_a_bad_document_is_a_clear_error_and_is_not_sent(
        self, service: SimulatedService, document: Document
    ) -> None:
        if document.media_type == "application/zip" and service.provider.capabilities.media_types is None:
            pytest.skip("The service does not say what it takes: it decides itself.")
        good = service.document(1)
        async with connected(service) as at:
            outcomes = [o async for _, o in submit_many(at.provider, at.http, [document, good])]
            assert at.wire.submits == 1
        failed, fine = sorted(outcomes, key=lambda outcome: outcome.document != document.name)
        assert (failed.document, failed.phase, failed.reason) == (
            document.name,
            Phase.SUBMIT,
            Reason.INVALID_DOCUMENT,
        )
        assert document.name in (failed.error or "")
        assert fine.ok

    @virtual_time
    async def test_a_url_is_submitted_as_a_url_or_refused(self, service: SimulatedService) -> None:
        url = "https://files.example.org/in/invoice.png?token=s3cret"
        document = Document.from_url(url)
        page = png("INVOICE\nInvoice number: U-1\nTotal amount: 9.50 EUR\n")
        async with connected(service, downloads={url: page}) as at:
            if not at.provider.capabilities.url_input:
                with pytest.raises(Unsupported, match="URL"):
                    await submit_one(at.provider, at.http, document)
                assert at.wire.requests == []
                return
            ref = await submit_one(at.provider, at.http, document)
            status = await wait_one(at.provider, at.http, ref)
            result = await fetch_one(at.provider, at.http, status.ref)
        assert result.fields or result.text
        assert (ref.document_sha256, ref.document_size) == (None, None)
        assert "s3cret" not in ref.model_dump_json()

    # ----------------------------------------------------------------------- requests that go wrong

    @virtual_time
    async def test_a_wrong_key_is_unauthorized_at_every_verb(self, service: SimulatedService) -> None:
        if service.key is None:
            pytest.skip("The service asks for no key.")
        async with connected(service, key="wrong-key-0815") as at:
            with pytest.raises(Unauthorized) as caught:
                await submit_one(at.provider, at.http, service.document(1))
            with pytest.raises(Unauthorized):
                await at.provider.status(at.http, _unknown_job(at))
            assert len(at.wire.requests) == 2
        error = caught.value
        assert (error.provider, error.status) == (at.provider.name, 401)
        assert "wrong-key-0815" not in "".join(traceback.format_exception(error)) + repr(vars(error))
        assert b"wrong-key-0815" not in pickle.dumps(error)

    @virtual_time
    async def test_an_unknown_job_is_not_found(self, service: SimulatedService) -> None:
        async with connected(service) as at:
            with pytest.raises(NotFound):
                await at.provider.status(at.http, _unknown_job(at))

    @pytest.mark.parametrize("job_id", _ODD_IDS)
    @virtual_time
    async def test_a_job_id_never_leads_to_another_route(
        self, service: SimulatedService, job_id: str
    ) -> None:
        async with connected(service) as at:
            slashes = at.provider.status_request(_unknown_job(at, job_id="x")).path.count("/")
            with pytest.raises(DocJobsError):
                await at.provider.status(at.http, _unknown_job(at, job_id=job_id))
            for request in at.wire.requests:
                assert request.url.raw_path.count(b"/") <= slashes
                assert b"?b=c" not in request.url.raw_path

    @pytest.mark.parametrize("retry_after", [False, True])
    @virtual_time
    async def test_throttling_slows_down_and_loses_nothing(
        self, service: SimulatedService, retry_after: bool
    ) -> None:
        per_second = {"submit": 1.0, "read": 1.0}
        async with connected(service, per_second=per_second, retry_after=retry_after) as at:
            batch = await _extracted(at, [service.document(number) for number in range(12)])
            assert at.wire.given["throttled"] > 0
            assert at.wire.accepted == 12
        assert [outcome.reason for outcome in batch] == [None] * 12

    @virtual_time
    async def test_a_long_retry_after_is_a_typed_refusal(self, service: SimulatedService) -> None:
        async with connected(service, per_second={"submit": 0.001}) as at:
            await submit_one(at.provider, at.http, service.document(1))
            with pytest.raises(Throttled) as caught:
                await submit_one(at.provider, at.http, service.document(2))
        assert (caught.value.retry_after or 0) > 60

    @pytest.mark.parametrize("fault", ["dropped", "bad_gateway"])
    @virtual_time
    async def test_a_submit_whose_answer_is_lost_is_uncertain_and_never_repeated(
        self, service: SimulatedService, fault: Fault
    ) -> None:
        document = service.document(1)
        async with connected(service, faults={"submit": {fault: 1.0}}) as at:
            with pytest.raises(SubmitUncertain) as caught:
                await submit_one(at.provider, at.http, document)
            # Where a list shows that there is no such job, it is not uncertain any more.
            assert at.wire.submits == 1 or at.provider.capabilities.list_jobs
        assert caught.value.reason is Reason.UNCERTAIN
        assert document.name in str(caught.value)

    @virtual_time
    async def test_an_uncertain_submit_is_repeated_only_on_request(self, service: SimulatedService) -> None:
        terms = Terms(on_uncertain="resubmit")
        async with connected(service, faults={"submit": {"lost": 1.0}}) as at:
            with pytest.raises(SubmitUncertain):
                await submit_one(at.provider, at.http, service.document(1), terms=terms)
            assert at.wire.accepted == 2

    @virtual_time
    async def test_a_service_that_is_down_gets_a_few_requests_and_is_unavailable(
        self, service: SimulatedService
    ) -> None:
        async with connected(service, faults={"submit": {"unavailable": 1.0}}) as at:
            with pytest.raises(Unavailable):
                await submit_one(at.provider, at.http, service.document(1))
            assert (at.wire.submits, at.wire.accepted) == (Limits().attempts, 0)

    @virtual_time
    async def test_a_result_that_is_used_up_is_lost_and_says_so(self, service: SimulatedService) -> None:
        if not service.can_delete_results:
            pytest.skip("The service keeps its results.")
        async with connected(service, single_use_results=True) as at:
            ref = await submit_one(at.provider, at.http, service.document(1))
            status = await wait_one(at.provider, at.http, ref)
            result = await fetch_one(at.provider, at.http, status.ref)
            assert service.found(result) == service.expected(1)
            with pytest.raises(ResultLost) as caught:
                await fetch_one(at.provider, at.http, status.ref)
        assert caught.value.ref == status.ref

    # ---------------------------------------------------------------------------------- credentials

    @virtual_time
    async def test_a_ref_of_another_service_host_account_or_product_is_refused(
        self, service: SimulatedService
    ) -> None:
        elsewhere = {
            "provider": "x",
            "base_url": "https://evil.test",
            "tenant": "somebody-else",
            "product": "x",
        }
        async with connected(service) as at:
            for name, value in elsewhere.items():
                ref = _unknown_job(at, **{name: value})
                for verb in (at.provider.status, at.provider.fetch):
                    with pytest.raises(RefMismatch, match="service" if name == "provider" else name):
                        await verb(at.http, ref)
            assert at.wire.requests == []

    @virtual_time
    async def test_credentials_are_never_sent_to_another_origin(self, service: SimulatedService) -> None:
        async with connected(service) as at:
            ref = await submit_one(at.provider, at.http, service.document(1))
            status = await wait_one(at.provider, at.http, ref)
            if status.ref.result_url:
                elsewhere = status.ref.model_copy(update={"result_url": "https://evil.test/result"})
                with pytest.raises(ForeignOrigin):
                    await at.provider.fetch(at.http, elsewhere)
            assert {request.url.host for request in at.wire.requests} == {"localhost"}

    @virtual_time
    async def test_every_request_carries_the_key_and_none_without_one(
        self, service: SimulatedService
    ) -> None:
        key = service.key
        headers = service.provider.auth_headers(key or "some-key")
        async with connected(service) as at:
            ref = await submit_one(at.provider, at.http, service.document(1))
            await fetch_one(at.provider, at.http, (await wait_one(at.provider, at.http, ref)).ref)
        for request in at.wire.requests:
            for name, value in headers.items():
                assert request.headers.get(name) == (value if key else None)

    # ----------------------------------------------------------------------------------- cancelling

    @virtual_time
    async def test_cancelling_the_calling_task_leaves_nothing_running(
        self, service: SimulatedService
    ) -> None:
        async with connected(service, seconds=1e6) as at:
            documents = [service.document(number) for number in range(30)]
            task = asyncio.create_task(_extracted(at, documents))
            await asyncio.sleep(20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            sent = len(at.wire.requests)
            await asyncio.sleep(1000)
            assert len(at.wire.requests) == sent
            assert len(asyncio.all_tasks()) == 1

    @virtual_time
    async def test_a_job_is_cancelled_at_the_service_or_that_is_refused(
        self, service: SimulatedService
    ) -> None:
        async with connected(service, seconds=100.0) as at:
            ref = await submit_one(at.provider, at.http, service.document(1))
            if not at.provider.capabilities.cancel:
                with pytest.raises(Unsupported):
                    await at.provider.cancel(at.http, ref)
                return
            await at.provider.cancel(at.http, ref)
            with pytest.raises((JobCancelled, JobFailed)):
                await wait_one(at.provider, at.http, ref)

    # ----------------------------------------------------------------------- lists, streams, pushes

    @virtual_time
    async def test_a_list_has_every_job_or_is_refused(self, service: SimulatedService) -> None:
        async with connected(service) as at:
            if not at.provider.capabilities.list_jobs:
                with pytest.raises(Unsupported):
                    await at.provider.list_jobs(at.http)
                return
            refs = [await submit_one(at.provider, at.http, service.document(n)) for n in range(3)]
            await asyncio.sleep(20)
            page = await at.provider.list_jobs(at.http)
        assert {ref.job_id for ref in refs} == set(page.rows)
        assert {row.state for row in page.rows.values()} == {JobState.SUCCEEDED}

    @virtual_time
    async def test_a_stream_reports_the_end_of_a_job_or_is_refused(self, service: SimulatedService) -> None:
        async with connected(service) as at:
            ref = await submit_one(at.provider, at.http, service.document(1))
            if not at.provider.capabilities.stream:
                with pytest.raises(Unsupported):
                    at.provider.stream(at.http, ref)
                return
            await asyncio.sleep(20)
            statuses = [status async for status in at.provider.stream(at.http, ref)]
        assert [status.state for status in statuses] == [JobState.SUCCEEDED]
        assert statuses[0].ref.job_id == ref.job_id

    @pytest.mark.parametrize("fails", [False, True], ids=["succeeded", "failed"])
    @virtual_time
    async def test_a_push_is_verified_and_names_its_job_or_pushes_are_refused(
        self, service: SimulatedService, fails: bool
    ) -> None:
        calls: list[httpx.Request] = []

        def receiver(request: httpx.Request) -> httpx.Response:
            calls.append(request)
            return httpx.Response(204)

        kind = type(service.provider)
        if not kind.capabilities.push:
            with pytest.raises(Unsupported):
                kind.verify_push({}, b"{}", ["secret"])
            return
        async with connected(service, receiver=receiver) as at:
            document = service.unreadable_document() if fails else service.document(5)
            ref = await submit_one(at.provider, at.http, document)
            await asyncio.sleep(60)
        (call,) = calls
        kind.verify_push(call.headers, call.content, ["old", service.secret])
        push = kind.read_push(call.content)
        assert ref.job_id == push.job_id or (ref.alias and ref.alias == push.alias)
        if fails:
            assert push.state is JobState.FAILED
            assert push.error
        else:
            assert push.state is JobState.SUCCEEDED
            assert service.found(at.provider.map_result(ref, push.payload)) == service.expected(5)
        _refuses_forged(kind, dict(call.headers), call.content, service.secret)

    # ------------------------------------------------------------------------------------- bad days

    @virtual_time
    async def test_two_hundred_documents_on_a_bad_day_are_two_hundred_true_rows(
        self, service: SimulatedService
    ) -> None:
        """10 % 503, 5 % dropped, 5 % HTML 502 on everything but submits; 3 % of the documents fail."""
        documents = [service.document(n) if n % 33 else service.unreadable_document() for n in range(1, 201)]
        async with connected(service, faults={"read": _BAD_DAY}) as at:
            batch = await _extracted(at, documents)
            assert at.wire.submits == at.wire.accepted <= 200
            assert sum(at.wire.given.values()) > 50
        for number, outcome in enumerate(batch, start=1):
            if number % 33 == 0:
                assert outcome.reason is Reason.FAILED
            else:
                assert outcome.result, outcome.error
                assert service.found(outcome.result) == service.expected(number)

    @virtual_time
    async def test_lost_answers_to_submits_are_reported_one_by_one_and_paid_once(
        self, service: SimulatedService
    ) -> None:
        async with connected(service, faults={"submit": {"lost": 0.10}}) as at:
            batch = await _extracted(at, [service.document(number) for number in range(200)])
            lost = at.wire.given["lost"]
            assert at.wire.submits == at.wire.accepted == 200
        assert 8 <= lost <= 35
        assert {outcome.reason for outcome in batch.failures} <= {Reason.UNCERTAIN}
        assert all(outcome.document in (outcome.error or "") for outcome in batch.failures)
        if not service.provider.capabilities.list_jobs:  # a list may show what became of them
            assert len(batch.failures) == lost

    @virtual_time
    async def test_single_use_results_whose_answers_are_lost_are_named(
        self, service: SimulatedService
    ) -> None:
        if not service.can_delete_results:
            pytest.skip("The service keeps its results.")
        async with connected(service, single_use_results=True, faults={"read": {"lost": 0.2}}) as at:
            batch = await _extracted(at, [service.document(number) for number in range(50)])
            assert at.wire.accepted == 50
        assert batch.failures
        assert {outcome.reason for outcome in batch.failures} == {Reason.LOST_RESULT}
        assert all(service.found(result) for result in batch.results)

    @virtual_time
    async def test_a_time_limit_leaves_every_document_with_a_row(self, service: SimulatedService) -> None:
        async with connected(service, seconds=100.0) as at:
            documents = [service.document(number) for number in range(20)]
            outcomes = [o async for _, o in extract_many(at.provider, at.http, documents, timeout=40)]
            assert asyncio.get_running_loop().time() < 60
        assert [outcome.reason for outcome in outcomes] == [Reason.TIMEOUT] * 20
        assert all(outcome.ref for outcome in outcomes)


async def _extracted(at: Connected, documents: Sequence[Document]) -> Batch:
    outcomes: dict[int, Outcome] = {}
    async with aclosing(extract_many(at.provider, at.http, documents)) as rows:
        async for index, outcome in rows:
            assert index not in outcomes
            outcomes[index] = outcome
    return Batch.of(outcomes[index] for index in range(len(documents)))


def _purchase(provider: Provider) -> str:
    facts: dict[str, Any] = {"base_url": "https://x.test", "tenant": "t", "name": "a", "size": 1}
    return entry_for(provider, sha256="ab" * 32, **facts).key


def _unknown_job(at: Connected, **changes: Any) -> JobRef:
    """A job that the service does not know."""
    unknown = "99999999-9999-4999-8999-999999999999"
    known = {
        "provider": at.provider.name,
        "base_url": at.http.base_url,
        "tenant": TENANT,
        "product": at.provider.product,
        "job_id": unknown,
        "document_name": "a.pdf",
        "submitted_at": "2026-02-03T10:15:00Z",
        "result_url": f"{at.http.base_url}/results/9",
        "document_id": unknown,
    }
    return JobRef.model_validate({**known, **changes})


def _refuses_forged(kind: type[Provider], headers: dict[str, str], body: bytes, secret: str) -> None:
    signature = kind.signature_header.lower()
    assert headers[signature] == sign(body, secret)
    forged: list[tuple[dict[str, str], bytes, list[str]]] = [
        (headers, body + b" ", [secret]),
        (headers, body, ["old"]),
        (headers, body, []),
        ({name: value for name, value in headers.items() if name != signature}, body, [secret]),
        ({**headers, signature: ""}, body, [secret]),
        ({**headers, signature: "ü"}, body, [secret]),
        ({**headers, signature: headers[signature][:-1]}, body, [secret]),
    ]
    for bad_headers, bad_body, secrets in forged:
        with pytest.raises(InvalidPush):
            kind.verify_push(bad_headers, bad_body, secrets)
    for nonsense in (b"", b"[]", b"{}", b"null", b"\xff", b'{"job": 1}', b"[" * 100_000):
        with pytest.raises(InvalidPush):
            kind.read_push(nonsense)
