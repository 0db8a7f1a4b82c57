"""The jobs that a service lists, held against the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.services import Connected, connected, invoice
from support.toy import BEGAN, URL, Account, Listed

from prefect_docjobs.errors import Reason, Unsupported
from prefect_docjobs.extraction import Terms, fetch_many, submit_many, wait_many
from prefect_docjobs.extraction.reconcile import Action, Reconciliation, Standing, reconcile
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Ledger, State, entry_for
from prefect_docjobs.models import JobRef


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with Ledger(str(tmp_path / "l.db")) as opened:
        yield opened


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Connected]:
    async with connected("numind", duration={"law": "fixed", "seconds": 3600.0}) as connection:
        yield connection


async def submit(service: Connected, numbers: range, ledger: Ledger | None = None) -> list[JobRef]:
    documents = [invoice(number) for number in numbers]
    outcomes = submit_many(service.provider, service.http, documents, terms=Terms(), ledger=ledger)
    return [outcome.ref async for _, outcome in outcomes if outcome.ref]


async def reconciled(
    service: Connected, ledger: Ledger, action: Action = "report", **options: Any
) -> Reconciliation:
    known = {"settled_after": 0.0, **options}
    return await reconcile(service.provider, service.http, ledger, action=action, **known)


def of(found: Reconciliation, standing: Standing) -> set[str]:
    return {job.ref.job_id for job in found.jobs if job.standing is standing}


def ids(refs: list[JobRef]) -> set[str]:
    return {ref.job_id for ref in refs}


async def test_jobs_that_the_ledger_does_not_know_are_orphans(service: Connected, ledger: Ledger) -> None:
    ours, theirs = await submit(service, range(3), ledger), await submit(service, range(10, 12))
    found = await reconciled(service, ledger)
    assert of(found, Standing.KNOWN) == ids(ours)
    assert of(found, Standing.ORPHANED) == ids(theirs)
    assert found.complete
    assert {job.ref.document_name for job in found.jobs if job.standing is Standing.KNOWN} == {
        f"invoice-0000{number}.png" for number in range(3)
    }


async def test_all_pages_of_the_list_are_read(service: Connected, ledger: Ledger) -> None:
    theirs = await submit(service, range(230))
    assert of(await reconciled(service, ledger), Standing.ORPHANED) == ids(theirs)


async def test_a_job_whose_submit_may_be_under_way_is_no_orphan(service: Connected, ledger: Ledger) -> None:
    young = ids(await submit(service, range(1)))
    for action in ("report", "adopt", "cancel"):
        found = await reconciled(service, ledger, action, settled_after=600.0)
        assert of(found, Standing.NEW) == young
    assert not await ledger.find()


async def test_jobs_from_before_are_left_out(service: Connected, ledger: Ledger) -> None:
    await submit(service, range(2))
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    assert (await reconciled(service, ledger, since=later)).jobs == ()
    assert len((await reconciled(service, ledger, since=later - timedelta(hours=2))).jobs) == 2


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_jobs_are_in_the_order_of_the_service(oldest_first: bool, ledger: Ledger) -> None:
    at = Account(oldest_first=oldest_first, takes=(0.0, 0.0))
    at.add_old(345)
    http = Http(provider="toy", base_url=URL, headers={}, tenant="acme")
    found = await reconcile(Listed(account=at), http, ledger, since=BEGAN - timedelta(minutes=300))
    made = [job.created_at for job in found.jobs]
    assert made == sorted(made, reverse=not oldest_first)  # type: ignore[type-var]
    assert len(made) == 240


async def test_a_report_changes_nothing(service: Connected, ledger: Ledger) -> None:
    await submit(service, range(2))
    await reconciled(service, ledger)
    assert not await ledger.find()
    assert not [request for request in service.requests if "cancel" in request.url.path]


async def test_an_adopted_job_is_known_from_then_on_and_can_be_fetched(ledger: Ledger) -> None:
    async with connected("numind", duration={"law": "fixed", "seconds": 0.0}) as service:
        [theirs] = await submit(service, range(1))
        adopted = await reconciled(service, ledger, "adopt")
        assert of(adopted, Standing.ADOPTED) == {theirs.job_id}
        assert of(await reconciled(service, ledger, "adopt"), Standing.KNOWN) == {theirs.job_id}
        refs = [job.ref for job in adopted.jobs]
        async for _, outcome in wait_many(service.provider, service.http, refs, ledger=ledger):
            assert outcome.ok
        async for _, outcome in fetch_many(service.provider, service.http, refs, ledger=ledger):
            assert outcome.result
    [record] = await ledger.find()
    assert record.state is State.FETCHED


async def test_a_job_without_a_result_is_not_adopted(ledger: Ledger) -> None:
    async with connected("numind", duration={"law": "fixed", "seconds": 0.0}, failed_share=1.0) as service:
        failed = ids(await submit(service, range(1)))
        assert of(await reconciled(service, ledger, "adopt"), Standing.ORPHANED) == failed


async def test_orphans_are_cancelled_and_known_jobs_are_not(service: Connected, ledger: Ledger) -> None:
    await submit(service, range(2), ledger)
    theirs = ids(await submit(service, range(10, 12)))
    found = await reconciled(service, ledger, "cancel")
    assert of(found, Standing.CANCELLED) == theirs
    assert sum("cancel" in request.url.path for request in service.requests) == 2
    assert {job.state.value for job in (await reconciled(service, ledger)).jobs} >= {"cancelled"}


async def test_an_orphan_that_may_be_an_uncertain_document_s_says_so(
    service: Connected, ledger: Ledger
) -> None:
    [theirs] = await submit(service, range(1))
    http = service.http
    lost = entry_for(
        service.provider, base_url=http.base_url, tenant=http.tenant, name="lost.pdf", sha256="0" * 64, size=1
    )
    await ledger.failed(await ledger.claim(lost), Reason.UNCERTAIN, "No answer.", candidates=[theirs.job_id])
    [job] = (await reconciled(service, ledger)).jobs
    assert job.note == "may be the job of lost.pdf"


async def test_a_service_without_a_list_says_so(ledger: Ledger) -> None:
    async with connected("mindee") as service:
        with pytest.raises(Unsupported, match="has no list of jobs"):
            await reconciled(service, ledger)
