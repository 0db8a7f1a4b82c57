"""Documents that a service does not deliver go on to the next one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from prefect import flow
from support.blocks import make_job
from support.ledgers import ref
from support.proxies import in_front
from support.services import invoice

from prefect_docjobs import aextract_documents, asubmit_documents
from prefect_docjobs.blocks import DocJob
from prefect_docjobs.comparison import Acceptance
from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.models import Attempt, Document, Outcome, Phase
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings
from prefect_docjobs.tasks.fallback import FALL_BACK_ON, aextract_with_fallback, billed, extract_with_fallback

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Simulators with settings of their own, closed at the end."""
    opened: list[Any] = []

    def start(**changes: Any) -> Running:
        settings = Settings(duration=Duration(law="fixed", seconds=0.0)).merged(changes)
        context = run_in_thread(settings)
        opened.append(context)
        running: Running = context.__enter__()
        return running

    yield start
    for context in opened:
        context.__exit__(None, None, None)


def submits(service: Running) -> int:
    return int(service.backend.report()["submits"]["total"])


def trail(tried: tuple[Attempt, ...]) -> list[tuple[str, str]]:
    return [(attempt.job, str(attempt.reason or "succeeded")) for attempt in tried]


async def test_only_what_the_first_service_does_not_deliver_goes_to_the_second(
    serve: Callable[..., Running],
) -> None:
    service = serve()
    first, second = make_job("mindee", service.base_url), make_job("numind", service.base_url)
    text = Document.from_path(SAMPLES / "order-alpine-tools.txt")  # which Mindee does not take
    broken = Document.from_bytes(b"", name="empty.pdf")
    done = await aextract_with_fallback([first, second], [invoice(1), text, broken])
    labels = {attempt.job for row in done.heads for attempt in row.tried}
    assert labels == {f"{job.provider().name}/{job.provider().product}" for job in (first, second)}
    assert [[reason for _, reason in trail(row.tried)] for row in done.heads] == [
        ["succeeded"],
        ["invalid_document", "succeeded"],
        ["invalid_document", "invalid_document"],
    ]
    assert [row.ref.provider if row.ref else None for row in done] == ["mindee", "numind", None]
    assert [attempt.billed for row in done.heads for attempt in row.tried] == ["yes", "no", "yes", "no", "no"]
    assert done.rows()[1]["tried"][0].endswith(": invalid_document")
    assert submits(service) == 2


@asynccontextmanager
async def under_way(call: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """A call that goes on meanwhile, and is cancelled at the end."""
    going = asyncio.create_task(call)
    try:
        yield
        assert not going.done()
    finally:
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for a service; the limit is for a call that hangs."""
    with anyio.fail_after(30):
        while not is_so():  # noqa: ASYNC110 (another thread changes it)
            await anyio.sleep(0.05)


def fetched(service: Running) -> int:
    return sum(job.fetches > 0 for job in service.backend.all_jobs())


async def test_what_is_refused_at_once_does_not_wait_for_a_neighbour_whose_job_is_stuck(
    serve: Callable[..., Running],
) -> None:
    stuck, good = serve(stuck_share=1.0), serve()
    jobs = [make_job("mindee", stuck.base_url), make_job("numind", good.base_url)]
    text = Document.from_path(SAMPLES / "order-alpine-tools.txt")  # which Mindee does not take
    async with under_way(aextract_with_fallback(jobs, [invoice(1), text], document_timeout=None)):
        await until(lambda: fetched(good) == 1)
        assert submits(stuck) == 1


async def test_a_document_whose_job_failed_does_not_wait_for_its_neighbour_either(
    serve: Callable[..., Running],
) -> None:
    first, second = serve(stuck_share=1.0), serve()
    jobs = [make_job("mindee", first.base_url), make_job("unsiloed", second.base_url)]
    await asubmit_documents(jobs[0], [invoice(1)])
    first.backend.settings = first.backend.settings.merged({"stuck_share": 0.0, "failed_share": 1.0})
    async with under_way(aextract_with_fallback(jobs, [invoice(1), invoice(2), invoice(3)])):
        await until(lambda: fetched(second) == 2)
    assert (submits(first), submits(second)) == (3, 2)
    first.backend.settings = first.backend.settings.merged({"failed_share": 0.0})
    done = await aextract_with_fallback(jobs, [invoice(2), invoice(3)])
    assert [row.ref.provider for row in done if row.ref] == ["unsiloed"] * 2
    assert (submits(first), submits(second)) == (3, 2)


async def test_no_more_documents_than_allowed_are_under_way(serve: Callable[..., Running]) -> None:
    stuck, good = serve(stuck_share=1.0), serve()
    jobs = [make_job("mindee", stuck.base_url), make_job("numind", good.base_url)]
    text = Document.from_path(SAMPLES / "order-alpine-tools.txt")
    documents = [invoice(1), text, invoice(2), invoice(3)]
    async with under_way(aextract_with_fallback(jobs, documents, concurrency=2)):
        await until(lambda: fetched(good) == 1 and submits(stuck) == 2)
    assert submits(stuck) == 2
    with pytest.raises(ConfigurationError, match="concurrency"):
        await aextract_with_fallback(jobs, documents, concurrency=0)


async def test_failed_jobs_fall_back_and_may_be_billed(serve: Callable[..., Running]) -> None:
    bad, good = serve(failed_share=1.0), serve()
    jobs = [make_job("mindee", bad.base_url), make_job("unsiloed", good.base_url)]
    done = await aextract_with_fallback(jobs, [invoice(number) for number in range(3)])
    assert [row.ok for row in done] == [True] * 3
    assert {attempt.billed for row in done.heads for attempt in row.tried[:1]} == {"maybe"}
    again = await aextract_with_fallback(jobs, [invoice(number) for number in range(3)])
    assert [row.ok for row in again] == [True] * 3
    assert (submits(bad), submits(good)) == (3, 3)


async def test_a_lost_answer_falls_back_and_says_that_money_may_be_spent(
    serve: Callable[..., Running], records: list[logging.LogRecord]
) -> None:
    lossy, good = serve(faults={"submit": {"lost": 1.0}}), serve()
    jobs = [make_job("mindee", lossy.base_url), make_job("numind", good.base_url)]

    @flow
    async def lossy_first() -> Any:
        return await aextract_with_fallback(jobs, [invoice(1)])

    done = await lossy_first()
    (tried,) = (row.tried for row in done.heads)
    assert [reason for _, reason in trail(tried)] == ["uncertain", "succeeded"]
    assert str(tried[0]).endswith(": uncertain, perhaps billed")
    assert any("1 uncertain; going on to the next job" in record.getMessage() for record in records)


async def test_a_budget_and_what_is_not_wanted_do_not_fall_back(serve: Callable[..., Running]) -> None:
    bad, good = serve(failed_share=1.0), serve()
    jobs = [make_job("mindee", bad.base_url), make_job("numind", good.base_url)]
    assert Reason.BUDGET not in FALL_BACK_ON
    spent = await aextract_with_fallback(jobs, [invoice(1)], max_submits=0)
    assert [trail(row.tried)[-1][1] for row in spent.heads] == ["budget"]
    kept = await aextract_with_fallback(jobs, [invoice(2)], fall_back_on={Reason.REJECTED})
    assert [[reason for _, reason in trail(row.tried)] for row in kept.heads] == [["failed"]]
    assert submits(good) == 0


async def test_one_budget_holds_for_all_services(serve: Callable[..., Running]) -> None:
    bad, good = serve(failed_share=1.0), serve()
    jobs = [make_job("mindee", bad.base_url), make_job("numind", good.base_url)]
    done = await aextract_with_fallback(jobs, [invoice(number) for number in range(3)], max_submits=5)
    assert sorted(str(row.reason) for row in done) == ["None", "None", "budget"]
    assert (submits(bad), submits(good)) == (3, 2)


async def test_a_job_that_takes_too_long_is_cancelled_where_the_service_can(
    serve: Callable[..., Running],
) -> None:
    slow, good = serve(duration={"seconds": 600.0}), serve()
    jobs = [make_job("numind", slow.base_url), make_job("mindee", good.base_url)]
    done = await aextract_with_fallback(jobs, [invoice(1)], document_timeout=1.0)
    (tried,) = (row.tried for row in done.heads)
    assert [reason for _, reason in trail(tried)] == ["timeout", "succeeded"]
    assert tried[0].billed == "maybe"
    assert [job.cancelled_at is not None for job in slow.backend.all_jobs()] == [True]
    again = await aextract_with_fallback(jobs, [invoice(1)], document_timeout=1.0)
    assert [reason for _, reason in trail(again[0].tried)] == ["succeeded"]  # the one that is paid for
    assert (submits(slow), submits(good)) == (1, 1)


async def test_a_late_job_that_another_run_waits_for_is_not_cancelled(serve: Callable[..., Running]) -> None:
    slow, good = serve(duration={"seconds": 6.0}), serve()
    jobs = [make_job("numind", slow.base_url), make_job("mindee", good.base_url)]
    other = asyncio.create_task(aextract_documents(jobs[0], [invoice(1)]))
    await until(lambda: submits(slow) == 1)
    done = await aextract_with_fallback(jobs, [invoice(1)], document_timeout=1.0)
    assert [reason for _, reason in trail(done[0].tried)] == ["timeout", "succeeded"]
    assert [job.cancelled_at for job in slow.backend.all_jobs()] == [None]
    assert [row.reason for row in await other] == [None]
    assert submits(slow) == 1


@pytest.mark.parametrize("timeout", [4.0, None])
async def test_a_cancel_that_hangs_does_not_hold_up_the_call(
    timeout: float | None, serve: Callable[..., Running]
) -> None:
    slow, good = serve(duration={"seconds": 600.0}), serve()
    async with in_front(slow, hangs="/cancel") as url:
        jobs = [make_job("numind", url), make_job("mindee", good.base_url)]
        with anyio.fail_after(30):
            done = await aextract_with_fallback(jobs, [invoice(1)], timeout=timeout, document_timeout=1.0)
        assert (str(done[0].tried[0].reason), done[0].tried[0].billed) == ("timeout", "yes")
        assert [row.ok for row in done] == [timeout is None]  # else the time of the call is over
        await aextract_documents(jobs[0], [invoice(1)], timeout=0.5)
        assert submits(slow) == 1  # it is waited for again


@pytest.mark.parametrize("name", ["mindee", "numind"])
async def test_a_job_that_was_accepted_is_billed_also_when_its_key_is_refused_later(
    name: str, serve: Callable[..., Running]
) -> None:
    first, good = serve(), serve()
    async with in_front(first, refuses=["/"]) as url:
        jobs = [make_job(name, url), make_job("unsiloed", good.base_url)]
        done = await aextract_with_fallback(jobs, [invoice(1)])
        assert submits(first) == 1
        assert (done[0].tried[0].reason, done[0].tried[0].billed) == (Reason.UNAUTHORIZED, "yes")


REFUSED = [Reason.UNAUTHORIZED, Reason.QUOTA, Reason.BUDGET, Reason.THROTTLED, Reason.UNAVAILABLE]


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_refused_is_billed_once_there_is_a_job(reason: Reason) -> None:
    for phase in (Phase.WAIT, Phase.FETCH):
        outcome = Outcome(document="a.pdf", ref=ref(), phase=phase, reason=reason, error="Said.")
        assert billed(outcome) == "yes"
    assert billed(Outcome(document="a.pdf", phase=Phase.SUBMIT, reason=reason, error="Said.")) == "no"


async def test_a_job_that_cannot_be_cancelled_is_billed_and_the_next_run_waits_for_it(
    serve: Callable[..., Running],
) -> None:
    slow, bad = serve(duration={"seconds": 3.0}), serve(failed_share=1.0)
    jobs = [make_job("mindee", slow.base_url), make_job("unsiloed", bad.base_url)]
    done = await aextract_with_fallback(jobs, [invoice(1)], document_timeout=1.0)
    assert [(str(each.reason), each.billed) for each in done[0].tried] == [
        ("timeout", "yes"),
        ("failed", "maybe"),
    ]
    again = await aextract_with_fallback(jobs, [invoice(1)])
    assert [reason for _, reason in trail(again[0].tried)] == ["succeeded"]
    assert submits(slow) == 1


async def test_nothing_goes_on_when_the_time_of_the_call_is_over(serve: Callable[..., Running]) -> None:
    slow, good = serve(duration={"seconds": 600.0}), serve()
    jobs = [make_job("numind", slow.base_url), make_job("mindee", good.base_url)]
    done = await aextract_with_fallback(jobs, [invoice(1)], timeout=1.0)
    assert [[reason for _, reason in trail(row.tried)] for row in done.heads] == [["timeout"]]
    assert [job.cancelled_at for job in slow.backend.all_jobs()] == [None]  # it may be waited for again
    assert submits(good) == 0


async def test_a_job_that_has_no_next_one_is_not_cancelled(serve: Callable[..., Running]) -> None:
    slow = serve(duration={"seconds": 600.0})
    await aextract_with_fallback([make_job("numind", slow.base_url)], [invoice(1)], document_timeout=1.0)
    assert [job.cancelled_at for job in slow.backend.all_jobs()] == [None]


async def test_a_result_that_is_not_good_enough_falls_back_and_the_best_is_kept(
    jobs: Mapping[str, DocJob],
) -> None:
    wanted = Acceptance(required=("supplier_name", "total_amount"), min_confidence=0.95, of=("total_amount",))
    names: dict[str, list[str]] = {"total_amount": [], "supplier_name": []}
    document = Document.from_path(SAMPLES / "invoice-brightwater.pdf")
    order = [jobs["unsiloed"], jobs["mindee_v1"], jobs["mindee"]]
    done = await aextract_with_fallback(order, [document, invoice(1)], accept=wanted, names=names)
    sure, unsure = (row.tried for row in done.heads)
    assert [attempt.doubts for attempt in sure] == [("supplier_name: missing",), ()]
    assert "succeeded with doubts (supplier_name: missing), billed" in str(sure[0])
    assert len(unsure) == 3  # nobody is sure of a picture
    assert [row.ref.provider for row in done if row.ref] == ["mindee_v1", "unsiloed"]


def test_the_plain_twin_does_the_same_in_sync_code(jobs: Mapping[str, DocJob]) -> None:
    done = extract_with_fallback([jobs["mindee"]], [invoice(1)])
    assert len(done) == 1
    assert done[0].ok


async def test_what_a_later_service_has_delivered_is_used_before_anything_is_bought(
    serve: Callable[..., Running],
) -> None:
    service = serve()
    first, second = make_job("mindee", service.base_url), make_job("numind", service.base_url)
    await aextract_documents(second, [invoice(1)])
    done = await aextract_with_fallback([first, second], [invoice(1), invoice(2)])
    assert [row.ref.provider for row in done if row.ref] == ["numind", "mindee"]
    assert submits(service) == 2


async def test_without_a_job_nothing_can_be_done() -> None:
    with pytest.raises(ConfigurationError, match="one job at least"):
        await aextract_with_fallback([], [invoice(1)])


async def test_jobs_of_the_same_service_have_names_of_their_own(jobs: Mapping[str, DocJob]) -> None:
    broken = Document.from_bytes(b"", name="empty.pdf")
    done = await aextract_with_fallback([jobs["mindee"], jobs["mindee"]], [broken])
    assert [attempt.job for attempt in done[0].tried] == ["mindee/extraction", "mindee/extraction (2)"]
