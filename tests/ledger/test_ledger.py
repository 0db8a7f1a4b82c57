"""The ledger's protocol: who holds what, what is written when, and what nobody can overwrite."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest
from support.ledgers import dead, deliver, entry, later, ref

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger import ClaimLost, Ledger, Record, State, Step, Totals, next_step

BODY = b'{"total": 12.5}'


async def fetched(ledger: Ledger, name: str = "a", **facts: str) -> Record:
    record = await ledger.claim(entry(name, **facts))
    job = ref(f"job-{name}")
    record = await ledger.done(await ledger.submitted(record, job), job)
    return await deliver(ledger, record, job, BODY, pages=3, credits=1.5, quota_remaining=97.5)


# -- the way of one document


async def test_a_document_goes_its_way_and_every_step_is_there_for_others(
    ledger: Ledger, other: Ledger
) -> None:
    record = await ledger.claim(entry(document_sha256="ab" * 32, document_size=7, task_run_id="t"))
    assert (record.state, record.mine, record.attempt, record.owner) == (
        State.INTENDED,
        True,
        1,
        ledger.owner,
    )
    assert (record.document_sha256, record.document_size, record.task_run_id) == ("ab" * 32, 7, "t")
    assert 0.0 < record.lease_left <= 60.0
    record = await ledger.submitted(record, ref())
    assert await other.record(record.id) is not None
    complete = ref(result_url="https://toy.test/results/1")
    record = await ledger.done(record, complete)
    record = await deliver(
        ledger, record, complete, BODY, content_type="application/json", pages=3, credits=1.5
    )
    seen = await other.record(record.id)
    assert seen is not None
    assert not seen.mine
    assert (seen.state, seen.ref, seen.job_id) == (State.FETCHED, complete, "job-a")
    assert (seen.pages, seen.credits, seen.body_size, seen.content_type) == (3, 1.5, 15, "application/json")
    assert seen.lease_left <= 0.0
    assert await other.body(seen) == BODY


async def test_times_are_the_databases_in_utc_and_in_order(ledger: Ledger) -> None:
    record = await fetched(ledger)
    times = [record.intended_at, record.submitted_at, record.done_at, record.fetched_at]
    known = [time for time in times if time is not None]
    assert len(known) == 4
    assert known == sorted(known)
    assert abs(datetime.now(timezone.utc) - known[0]) < timedelta(minutes=1)
    assert record.updated_at == record.fetched_at or record.updated_at > known[2]


async def test_what_no_database_takes_as_text_is_written_all_the_same(ledger: Ledger) -> None:
    record = await ledger.claim(entry(document_name="a\x00b\ud800.pdf"))
    record = await ledger.failed(record, Reason.REJECTED, "nul \x00 and \udfff")
    assert (record.document_name, record.error) == ("a_b_.pdf", "nul _ and _")


# -- one holder


async def test_of_many_claims_at_once_one_is_mine(ledger: Ledger, other: Ledger) -> None:
    records = await asyncio.gather(*(one.claim(entry()) for one in (ledger, other) for _ in range(20)))
    assert sum(record.mine for record in records) == 1
    assert len({record.id for record in records}) == 1
    steps = [next_step(it, mine=it.mine, reuse_for=None, on_uncertain="fail") for it in records]
    assert sorted(steps) == [Step.STAND_BY] * 39 + [Step.SUBMIT]


async def test_a_held_record_cannot_be_taken_over(ledger: Ledger, other: Ledger) -> None:
    record = await ledger.claim(entry())
    assert await other.take_over(record) is None
    assert await other.renew(record) is None
    assert (await ledger.submitted(record, ref())).state is State.SUBMITTED


@pytest.mark.parametrize("as_new", [False, True])
async def test_of_many_takers_one_gets_it(ledger: Ledger, other: Ledger, as_new: bool) -> None:
    record = await dead(ledger, await ledger.claim(entry()))
    takers = [(one.renew if as_new else one.take_over)(record) for one in (ledger, other) for _ in range(10)]
    taken = [it for it in await asyncio.gather(*takers) if it is not None]
    assert len(taken) == 1
    assert taken[0].mine
    assert taken[0].attempt == (2 if as_new else 1)


async def test_a_record_that_changed_since_it_was_read_is_not_taken_over(
    ledger: Ledger, other: Ledger
) -> None:
    read = await dead(ledger, await ledger.claim(entry()))
    taken = await ledger.take_over(read)
    assert taken is not None
    await dead(ledger, await ledger.submitted(taken, ref()))
    assert await other.take_over(read) is None
    assert await other.renew(read) is None


async def test_work_that_is_taken_over_keeps_its_state(ledger: Ledger, other: Ledger) -> None:
    mine = await ledger.submitted(await ledger.claim(entry()), ref())
    taken = await other.take_over(await dead(ledger, mine))
    assert taken is not None
    assert (taken.state, taken.ref, taken.owner) == (State.SUBMITTED, ref(), other.owner)
    assert (await other.done(taken, ref())).state is State.DONE
    with pytest.raises(ClaimLost, match=r"a\.pdf: somebody else"):
        await ledger.done(mine, ref())
    with pytest.raises(ClaimLost):
        await ledger.failed(mine, Reason.TIMEOUT, "late")


async def test_a_failed_record_that_is_taken_over_is_open_again(ledger: Ledger) -> None:
    job = await ledger.submitted(await ledger.claim(entry("a")), ref())
    timed_out = await ledger.failed(job, Reason.TIMEOUT, "our patience ended")
    uncertain = await ledger.failed(
        await ledger.claim(entry("b")), Reason.UNCERTAIN, "lost", candidates=["x", "y"]
    )
    assert (timed_out.job_id, timed_out.reason, timed_out.error) == (
        "job-a",
        Reason.TIMEOUT,
        "our patience ended",
    )
    assert uncertain.candidates == ("x", "y")
    one = await ledger.take_over(timed_out)
    two = await ledger.take_over(uncertain)
    assert one is not None
    assert two is not None
    assert (one.state, one.reason, one.error) == (State.SUBMITTED, None, None)
    assert (two.state, two.candidates) == (State.INTENDED, ("x", "y"))


async def test_buying_again_keeps_the_old_record_as_history(ledger: Ledger, other: Ledger) -> None:
    old = await fetched(ledger, flow_run_id="monday")
    new = await other.renew(old, entry(flow_run_id="tuesday", document_name="b.pdf"))
    assert new is not None
    assert (new.state, new.attempt, new.key, new.has_body) == (State.INTENDED, 2, old.key, False)
    assert (new.flow_run_id, new.document_name) == ("tuesday", "b.pdf")
    history = await ledger.record(old.id)
    assert history is not None
    assert history.retired
    assert (history.key, history.flow_run_id) == (f"{old.key}#{old.id}", "monday")
    assert await ledger.body(history) == BODY
    assert (await ledger.claim(entry())).id == new.id


async def test_history_is_not_bought_again_nor_is_another_key(ledger: Ledger) -> None:
    old = await fetched(ledger)
    with pytest.raises(ValueError, match="under that key"):
        await ledger.renew(old, entry("another"))
    assert await ledger.renew(old) is not None
    history = await ledger.record(old.id)
    assert history is not None
    with pytest.raises(ValueError, match="under that key"):
        await ledger.renew(history)


# -- nothing that was bought is lost


async def test_a_job_of_a_retired_intent_is_kept_in_its_history(ledger: Ledger, other: Ledger) -> None:
    slow = await ledger.claim(entry())
    taken = await other.renew(await dead(ledger, slow))
    assert taken is not None
    kept = await ledger.submitted(slow, ref("job-slow"))
    assert (kept.id, kept.retired, kept.mine, kept.job_id) == (slow.id, True, True, "job-slow")
    assert (await other.submitted(taken, ref("job-new"))).job_id == "job-new"
    assert (await deliver(ledger, kept, ref("job-slow"), BODY)).state is State.FETCHED


async def test_a_job_of_an_intent_that_somebody_reconciles_gets_a_row_of_its_own(
    ledger: Ledger, other: Ledger
) -> None:
    slow = await ledger.claim(entry(flow_run_id="f"))
    taken = await other.take_over(await dead(ledger, slow))
    assert taken is not None
    kept = await ledger.submitted(slow, ref("job-slow"))
    assert (kept.state, kept.retired, kept.mine) == (State.SUBMITTED, True, True)
    assert (kept.ref, kept.flow_run_id) == (ref("job-slow"), "f")
    assert kept.id != taken.id
    assert await other.known_jobs("toy", "https://toy.test", "acme", ["job-slow"]) == {"job-slow"}


async def test_a_job_that_somebody_found_meanwhile_is_his(ledger: Ledger, other: Ledger) -> None:
    slow = await ledger.claim(entry())
    taken = await other.take_over(await dead(ledger, slow))
    assert taken is not None
    await other.submitted(taken, ref())
    with pytest.raises(ClaimLost):
        await ledger.submitted(slow, ref())
    assert len(await ledger.find(job_ids=["job-a"])) == 1


async def test_a_result_that_the_former_holder_fetched_is_kept_in_the_record(
    ledger: Ledger, other: Ledger
) -> None:
    slow = await ledger.submitted(await ledger.claim(entry()), ref())
    taken = await other.take_over(await dead(ledger, slow))
    assert taken is not None
    await deliver(ledger, slow, ref(), BODY)
    with pytest.raises(ClaimLost):
        await other.failed(taken, Reason.LOST_RESULT, "the service gave it to somebody else")
    now = await other.resume(taken)
    assert now is not None
    assert (now.state, now.mine, now.has_body) == (State.DONE, True, True)
    assert await other.body(now) == BODY


async def test_a_result_of_another_job_does_not_end_a_record(ledger: Ledger, other: Ledger) -> None:
    slow = await ledger.submitted(await ledger.claim(entry()), ref("job-slow"))
    failed = await ledger.failed(slow, Reason.CANCELLED, "given up")
    taken = await other.renew(failed)
    assert taken is not None
    await other.submitted(taken, ref("job-new"))
    with pytest.raises(ClaimLost):
        await deliver(ledger, taken, ref("job-slow"), BODY)


async def test_a_write_that_is_made_again_is_recognised(ledger: Ledger) -> None:
    record = await ledger.claim(entry())
    once = await ledger.submitted(record, ref())
    again = await ledger.submitted(record, ref())
    assert (again.version, again.job_id) == (once.version, once.job_id)
    with pytest.raises(ClaimLost):
        await ledger.failed(record, Reason.THROTTLED, "but it was submitted")


# -- giving back


async def test_a_released_intent_leaves_nothing(ledger: Ledger, other: Ledger) -> None:
    record = await ledger.claim(entry())
    await ledger.delete_intent(record)
    assert await ledger.record(record.id) is None
    again = await other.claim(entry())
    assert again.mine
    assert again.id > record.id


async def test_a_job_cannot_be_released(ledger: Ledger) -> None:
    record = await ledger.claim(entry())
    await ledger.submitted(record, ref())
    with pytest.raises(ClaimLost):
        await ledger.delete_intent(record)


async def test_work_that_is_let_go_is_free_at_once(ledger: Ledger, other: Ledger) -> None:
    record = await ledger.submitted(await ledger.claim(entry()), ref())
    await ledger.release_lease(record)
    seen = await other.claim(entry())
    assert seen.lease_left <= 0.0
    assert await other.take_over(seen) is not None


async def test_a_closed_ledger_has_let_go_of_everything(url: str) -> None:
    async with Ledger(url) as first:
        intended = await first.claim(entry("a"))
        submitted = await first.submitted(await first.claim(entry("b")), ref("job-b"))
        assert submitted.lease_left > 0.0
    async with Ledger(url) as second:
        for record in (intended, submitted):
            now = await second.record(record.id)
            assert now is not None
            assert now.lease_left <= 0.0
            assert now.state is record.state


async def test_the_heart_beats_for_work_in_hand_and_for_nothing_else(ledger: Ledger, other: Ledger) -> None:
    held = await ledger.claim(entry("held"))
    let_go = await ledger.claim(entry("let go"))
    await ledger.release_lease(let_go)
    lost = await ledger.claim(entry("lost"))
    for record in (held, lost):
        await later(ledger, record, 59.0)
    lost = await dead(ledger, lost)
    assert await other.take_over(lost) is not None
    await ledger._extend_leases()
    now = await other.records([held.id, let_go.id, lost.id])
    assert now[held.id].lease_left > 55.0
    assert now[let_go.id].lease_left <= 0.0
    assert now[lost.id].owner == other.owner
    assert ledger.holds(held)
    assert not ledger.holds(lost)


async def test_a_holder_is_sure_of_what_it_holds_only(ledger: Ledger, other: Ledger) -> None:
    record = await ledger.claim(entry())
    assert ledger.holds(record)
    assert not other.holds(await other.claim(entry()))
    record = await ledger.submitted(record, ref())
    assert ledger.holds(record)
    await ledger.release_lease(record)
    assert not ledger.holds(record)
    taken = await other.take_over(record)
    assert taken is not None
    assert other.holds(taken)
    assert not other.holds(await other.failed(taken, Reason.TIMEOUT, "late"))


# -- callers who are cancelled


async def test_a_claim_whose_caller_is_cancelled_leaves_nothing(ledger: Ledger, other: Ledger) -> None:
    for steps in range(40):
        claim = asyncio.ensure_future(ledger.claim(entry("x")))
        for _ in range(steps):
            await asyncio.sleep(0)
        if claim.done():
            await ledger.delete_intent(claim.result())
            continue
        claim.cancel()
        await asyncio.wait([claim])
        await ledger._commits.flush()
        assert await other.find() == []


async def test_news_of_a_paid_job_is_written_though_the_caller_is_cancelled(
    ledger: Ledger, other: Ledger
) -> None:
    record = await ledger.claim(entry())
    news = asyncio.ensure_future(ledger.submitted(record, ref()))
    await asyncio.sleep(0)
    news.cancel()
    await asyncio.wait([news])
    await ledger._commits.flush()
    seen = await other.claim(entry())
    assert (seen.state, seen.job_id) == (State.SUBMITTED, "job-a")
    assert seen.lease_left <= 0.0  # nobody waits for the job, so anybody may


# -- questions


async def test_records_are_found_by_all_that_is_asked(ledger: Ledger) -> None:
    await fetched(ledger, "a", flow_run_id="one")
    await ledger.submitted(await ledger.claim(entry("b", flow_run_id="one", tenant="evil")), ref("job-b"))
    await ledger.failed(await ledger.claim(entry("c", flow_run_id="two")), Reason.THROTTLED, "429")

    async def names(**asked: object) -> list[str]:
        return [record.document_name for record in await ledger.find(**asked)]  # type: ignore[arg-type]

    assert await names() == ["a.pdf", "b.pdf", "c.pdf"]
    assert await names(flow_run_id="one") == ["a.pdf", "b.pdf"]
    assert await names(flow_run_id="one", tenant="evil") == ["b.pdf"]
    assert await names(states=[State.FETCHED, State.FAILED]) == ["a.pdf", "c.pdf"]
    assert await names(reasons=[Reason.THROTTLED]) == ["c.pdf"]
    assert await names(job_ids=["job-b", "job-x"]) == ["b.pdf"]
    assert await names(keys=[entry("a").key, entry("b").key], job_ids=["job-b"]) == ["b.pdf"]
    assert await names(keys=[]) == []
    assert await names(provider="toy", base_url="https://other.test") == []
    assert await names(since=datetime.now(timezone.utc) + timedelta(minutes=1)) == []
    assert await names(since=datetime.now(timezone.utc) - timedelta(minutes=1)) == ["a.pdf", "b.pdf", "c.pdf"]


async def test_records_are_found_page_by_page_and_in_long_lists(ledger: Ledger) -> None:
    entries = [entry(f"{number:04}") for number in range(1201)]
    claimed = await asyncio.gather(*map(ledger.claim, entries))
    assert all(record.mine for record in claimed)
    first = await ledger.find(limit=700)
    rest = await ledger.find(limit=700, after_id=first[-1].id)
    assert [record.id for record in first + rest] == sorted(record.id for record in claimed)
    listed = await ledger.find(keys=[one.key for one in entries], limit=5000)
    assert {record.key for record in listed} == {one.key for one in entries}
    assert len(await ledger.records(record.id for record in claimed)) == 1201
    assert await ledger.known_jobs("toy", "https://toy.test", "acme", map(str, range(1201))) == set()


async def test_known_jobs_are_those_of_the_account(ledger: Ledger) -> None:
    await fetched(ledger, "a")
    assert await ledger.known_jobs("toy", "https://toy.test", "acme", ["job-a", "job-b"]) == {"job-a"}
    assert await ledger.known_jobs("toy", "https://toy.test", "evil", ["job-a"]) == set()


async def test_totals_count_documents_once_and_every_bill(ledger: Ledger) -> None:
    first = await fetched(ledger, "a", flow_run_id="f")
    await fetched(ledger, "b", flow_run_id="f")
    await fetched(ledger, "c", flow_run_id="another")
    again = await ledger.renew(first)
    assert again is not None
    await ledger.failed(again, Reason.THROTTLED, "429")
    assert await ledger.totals("f") == Totals(
        documents={State.FETCHED: 1, State.FAILED: 1}, pages=6, credits=3.0, quota_remaining=97.5
    )
    assert await ledger.totals("nobody") == Totals()
