"""Answers that no service documents: each costs one document its row at most, and tells no secret."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import httpx
import pytest
from support.services import connected, invoice, says
from support.virtual_time import virtual_time

from prefect_docjobs.errors import ForeignOrigin, Reason, Unreadable
from prefect_docjobs.extraction import extract_many
from prefect_docjobs.http import Answer, Http, Limits, Request, parse_retry_after
from prefect_docjobs.models import Document, JobRef, Outcome, Phase
from prefect_docjobs.providers.base import Provider

HUGE_ZONE = "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"
KEY = 'k/e"y'


def test_a_date_beyond_all_calendars_is_no_date() -> None:
    assert parse_retry_after(HUGE_ZONE, now=datetime.now(timezone.utc)) is None


def test_half_a_surrogate_pair_can_be_written_down_and_endless_nesting_is_refused() -> None:
    told = Answer(200, httpx.Headers(), b'{"\\ud800n": ["\\udfff"]}').json()
    assert told == {"\ufffdn": ["\ufffd"]}
    with pytest.raises(Unreadable, match="deeper"):
        Answer(200, httpx.Headers(), b"[" * 300 + b"]" * 300).json()


@pytest.mark.parametrize("echo", [json.dumps(KEY), json.dumps(KEY).replace("/", "\\/"), '"\\u006b/e\\"y"'])
@virtual_time
async def test_an_escaped_key_is_masked_too(echo: str) -> None:
    def service(request: httpx.Request) -> httpx.Response:
        body = f'{{"detail": {echo}}}'
        return httpx.Response(400, content=body, headers={"x-request-id": KEY, "content-type": f"a/{KEY}"})

    def verbose(answer: Answer) -> ForeignOrigin:
        return ForeignOrigin(answer.json()["detail"], status=400, request_id=answer.request_id)

    http = Http(
        provider="test",
        base_url="https://service.test",
        headers={},
        secrets=[KEY],
        read_error=verbose,
        limits=Limits(attempts=1),
        transport=httpx.MockTransport(service),
    )
    async with http:
        with pytest.raises(ForeignOrigin) as caught:
            await http.send(Request("GET", "/x"))
    assert KEY not in str(caught.value)
    assert KEY not in str(vars(caught.value))


def test_a_ref_can_always_be_written_down_and_its_date_has_a_zone() -> None:
    known = {"provider": "p", "base_url": "b", "tenant": "t", "product": "x", "job_id": "1"}
    ref = JobRef.model_validate(
        {**known, "document_name": "a\ud800", "alias": "\udfff", "submitted_at": "2026-02-03T10:15:00"}
    )
    assert ref.submitted_at.tzinfo is not None
    assert JobRef.model_validate_json(ref.model_dump_json()) == ref


@pytest.mark.parametrize("verb", ["submit", "status", "fetch"])
@virtual_time
async def test_a_fault_of_ours_is_one_row_and_not_the_end_of_the_batch(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected("mindee") as at:
        kept = getattr(Provider, verb)

        async def broken(self: Provider, http: Http, what: Any, **options: Any) -> Any:
            name = what.name if isinstance(what, Document) else what.document_name
            if name == "invoice-00001.png":
                raise ZeroDivisionError("a fault of ours")
            return await kept(self, http, what, **options)

        monkeypatch.setattr(Provider, verb, broken)
        rows = {
            o.document: o async for _, o in extract_many(at.provider, at.http, [invoice(n) for n in range(4)])
        }

    odd = rows.pop("invoice-00001.png")
    assert odd.reason is (Reason.UNAVAILABLE if verb == "submit" else Reason.TIMEOUT)
    assert [row.reason for row in rows.values()] == [None] * 3


@virtual_time
async def test_one_job_id_for_two_documents_never_crosses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected("mindee") as at:
        kept, first = Provider.submit, []

        async def same(self: Provider, http: Http, document: Document, **options: Any) -> JobRef:
            ref = await kept(self, http, document, **options)
            first.append(ref.job_id)
            return ref.model_copy(update={"job_id": first[0]})

        monkeypatch.setattr(Provider, "submit", same)
        rows = [o async for _, o in extract_many(at.provider, at.http, [invoice(n) for n in range(3)])]

    assert sorted(str(row.reason) for row in rows) == ["None", "uncertain", "uncertain"]
    [done] = [row for row in rows if row.result]
    assert done.result
    assert done.document == f"invoice-{says(done.result)[0][2:]}.png"


@virtual_time
async def test_an_observer_that_breaks_costs_nothing() -> None:
    def broken(index: int, outcome: Outcome) -> None:
        raise RuntimeError("no log today")

    async with connected("numind") as at:
        rows = [o async for _, o in extract_many(at.provider, at.http, [invoice(1)], observe=broken)]
    assert [row.phase for row in rows] == [Phase.DONE]
