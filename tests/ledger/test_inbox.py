"""The inbox: a push is kept once, a result goes where it belongs, and nobody misses one."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Select, event, text
from support.ledgers import dead, deliver, entry, ref

from prefect_docjobs.errors import Reason
from prefect_docjobs.ledger import (
    Account,
    Ledger,
    PushReceipt,
    ReceivedPush,
    Record,
    State,
    database,
    inbox,
    migrate,
)
from prefect_docjobs.models import JobState, Problem

ACME = Account("toy", "https://toy.test", "acme")
OTHER = Account("toy", "https://toy.test", "another")
BODY = b'{"inference": "whole"}'
WEEK = 7 * 86_400.0


async def push(ledger: Ledger, digest: str, **facts: Any) -> PushReceipt:
    """Keep a success of `job-a` with its body, unless `facts` say otherwise."""
    known: dict[str, Any] = {
        "job_id": "job-a",
        "alias": None,
        "state": JobState.SUCCEEDED,
        "raw_state": None,
        "error": None,
        "body": BODY,
        "keep_for": WEEK,
    }
    known.update(facts)
    account = known.pop("account", ACME)
    return await ledger.inbox.keep(account, digest=digest.rjust(64, "0"), **known)


async def received_pushes(ledger: Ledger, **facts: Any) -> list[ReceivedPush]:
    return await ledger.inbox.received(facts.pop("account", ACME), **{"within": 15.0, **facts})


async def submitted(ledger: Ledger, name: str = "a", **facts: Any) -> Record:
    job = ref(f"job-{name}", document_name=f"{name}.pdf", **facts)
    return await ledger.submitted(await ledger.claim(entry(name)), job)


async def run(ledger: Ledger, statement: str) -> None:
    await ledger._database.run(lambda connection: connection.execute(text(statement)), writes=True)


# ------------------------------------------------------------------------------------------- keeping


async def test_a_push_of_an_unknown_job_is_kept_whole(ledger: Ledger, other: Ledger) -> None:
    assert await push(ledger, "1", alias="docjobs-1", raw_state="Processed") == PushReceipt(is_new=True)
    (received,) = await received_pushes(other)
    assert (received.job_id, received.alias, received.state) == ("job-a", "docjobs-1", JobState.SUCCEEDED)
    assert (received.raw_state, received.has_body) == ("Processed", True)
    assert received.received_at.tzinfo is not None
    assert await other.inbox.body(received.id) == BODY


async def test_a_replay_changes_nothing(ledger: Ledger, other: Ledger) -> None:
    await push(ledger, "1")
    for _ in range(3):
        assert await push(other, "1", state=JobState.FAILED, body=None) == PushReceipt(is_new=False)
    assert [it.state for it in await received_pushes(ledger)] == [JobState.SUCCEEDED]


async def test_of_many_equal_pushes_at_once_one_is_new(ledger: Ledger, other: Ledger) -> None:
    kept = await asyncio.gather(*(push(one, "1") for one in (ledger, other) for _ in range(10)))
    assert sum(it.is_new for it in kept) == 1
    assert len(await received_pushes(ledger)) == 1


async def test_a_hint_proves_nothing_and_changes_no_record(ledger: Ledger) -> None:
    record = await submitted(ledger)
    kept = await push(ledger, "1", state=None)
    assert kept.record is not None
    assert kept.record.state is State.SUBMITTED
    assert ledger.holds(record)
    (received,) = await received_pushes(ledger)
    assert received.state is None


async def test_a_failure_is_told_with_what_the_service_said(ledger: Ledger) -> None:
    problem = Problem(message="Inference failed", code="500-012", details=[{"pointer": "#/a"}])
    await push(ledger, "1", state=JobState.FAILED, error=problem, body=None)
    (received,) = await received_pushes(ledger)
    assert (received.state, received.error, received.has_body) == (JobState.FAILED, problem, False)
    assert await ledger.inbox.body(received.id) is None


async def test_text_that_no_database_takes_does_not_keep_a_push_out(ledger: Ledger) -> None:
    problem = Problem(message="\ud800 and \x00", details={"\udfff": "\x00"})
    await push(
        ledger, "1", job_id="a\x00b", alias="\ud800", raw_state="\x00", error=problem, state=JobState.FAILED
    )
    (received,) = await received_pushes(ledger)
    assert (received.job_id, received.alias, received.raw_state) == ("a_b", "_", "_")
    assert received.error is not None
    assert received.error.message.startswith("_ and ")


# ------------------------------------------------------------------------------- results into records


async def test_a_pushed_result_is_kept_in_its_record_until_it_is_read(ledger: Ledger, other: Ledger) -> None:
    record = await submitted(ledger)
    kept = await push(other, "1")
    assert kept.record is not None
    assert (kept.record.id, kept.record.state, kept.record.job_id) == (record.id, State.DONE, "job-a")
    now = await ledger.record(record.id)
    assert now is not None
    assert (now.state, now.body_size, now.content_type) == (State.DONE, len(BODY), "application/json")
    assert (now.version, now.claim, now.done_at is not None) == (record.version + 2, record.claim, True)
    assert now.lease_left > 0.0
    assert (now.ref, now.reason) == (record.ref, None)
    assert await ledger.body(now) == BODY
    (received,) = await received_pushes(ledger)
    assert (received.state, received.has_body) == (JobState.SUCCEEDED, False)
    assert await ledger.inbox.body(received.id) is None


async def test_who_holds_the_record_goes_on_with_it_after_a_push(ledger: Ledger, other: Ledger) -> None:
    record = await submitted(ledger)
    await push(other, "1")
    found = await ledger.kept(record, ref(), b"fetched as well")
    assert (found.state, found.mine) == (State.DONE, True)
    assert await ledger.body(found) == b"fetched as well"
    assert (await ledger.fetched(found, ref())).state is State.FETCHED


async def test_a_push_does_not_replace_bytes_that_are_being_read(ledger: Ledger, other: Ledger) -> None:
    record = await ledger.kept(await submitted(ledger), ref(), b"fetched")
    await push(other, "1")
    assert (await ledger.fetched(record, ref())).state is State.FETCHED
    assert await ledger.body(record) == b"fetched"


async def test_a_push_replaces_bytes_that_could_not_be_read(ledger: Ledger, other: Ledger) -> None:
    record = await ledger.kept(await submitted(ledger), ref(), b"{}")
    await ledger.set_aside(record, "no result")
    kept = await push(other, "1")
    assert kept.record is not None
    assert (kept.record.state, kept.record.reason) == (State.DONE, None)
    assert await ledger.body(kept.record) == BODY


async def test_a_record_that_was_given_up_gets_its_result(ledger: Ledger) -> None:
    failed = await ledger.failed(await submitted(ledger), Reason.TIMEOUT, "our patience ended")
    kept = await push(ledger, "1")
    assert kept.record is not None
    assert (kept.record.id, kept.record.state, kept.record.error) == (failed.id, State.DONE, None)


async def test_a_fetched_record_stays_as_it_is(ledger: Ledger) -> None:
    record = await deliver(ledger, await submitted(ledger), ref(), b"fetched")
    kept = await push(ledger, "1")
    assert kept.record is not None
    assert (kept.record.version, kept.is_new) == (record.version, True)
    assert await ledger.body(record) == b"fetched"


async def test_a_failure_changes_no_record(ledger: Ledger) -> None:
    record = await submitted(ledger)
    kept = await push(ledger, "1", state=JobState.FAILED, error=Problem(message="no"), body=None)
    assert kept.record is not None
    assert (kept.record.state, kept.record.version) == (State.SUBMITTED, record.version)


@pytest.mark.parametrize("account", [OTHER, Account("toy", "https://else.test", "acme")])
async def test_the_push_of_another_account_changes_no_record(ledger: Ledger, account: Account) -> None:
    record = await submitted(ledger)
    assert await push(ledger, "1", account=account) == PushReceipt(is_new=True)
    now = await ledger.record(record.id)
    assert now is not None
    assert (now.state, now.version) == (State.SUBMITTED, record.version)
    assert await received_pushes(ledger) == []
    assert len(await received_pushes(ledger, account=account)) == 1


async def test_a_result_without_a_job_id_finds_its_record_by_the_alias(ledger: Ledger) -> None:
    for name, alias in {"a": "x%_\\'\"é", "b": "x%_\\'\"éé", "c": None}.items():
        await submitted(ledger, name, alias=alias)
    kept = await push(ledger, "1", job_id=None, alias="x%_\\'\"é")
    assert kept.record is not None
    assert (kept.record.job_id, kept.record.state) == ("job-a", State.DONE)
    assert len(await ledger.find(states=[State.SUBMITTED])) == 2


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
@pytest.mark.parametrize("alias", ["docjobs-1", "docjobs-unknown"])
async def test_an_alias_is_found_by_an_index(ledger: Ledger, state: JobState, alias: str) -> None:
    await submitted(ledger, alias="docjobs-1")
    asked: list[tuple[str, Any]] = []

    def note(_1: object, _2: object, statement: str, parameters: Any, *_3: object) -> None:
        if statement.startswith("SELECT") and "docjobs_jobs" in statement:
            asked.append((statement, parameters))

    engine = ledger._database._engine  # type: ignore[attr-defined]
    event.listen(getattr(engine, "sync_engine", engine), "before_cursor_execute", note)
    await push(ledger, "1", job_id=None, alias=alias, state=state)

    def plans(connection: Connection) -> list[str]:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        explain = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
        return [str(connection.exec_driver_sql(f"{explain} {it}", given).all()) for it, given in asked]

    used = await ledger._database.run(plans)
    assert used
    assert "docjobs_jobs_alias" in used[0]
    assert all("docjobs_jobs_" in it for it in used)
    assert not any(scan in it for it in used for scan in ("Seq Scan", "SCAN docjobs_jobs"))


@pytest.mark.parametrize("write", ["submitted", "done", "fetched", "failed", "keep"])
async def test_whatever_writes_the_ref_writes_its_alias(ledger: Ledger, other: Ledger, write: str) -> None:
    named = ref("job-a", alias="docjobs-1")
    record = await ledger.claim(entry("a"))
    if write == "keep":
        taken = await other.take_over(await dead(ledger, record))
        assert taken is not None
        record = await ledger.submitted(record, named)
        assert record.retired
    elif write == "submitted":
        record = await ledger.submitted(record, named)
    else:
        record = await ledger.submitted(record, ref("job-a"))
        assert await aliases(ledger) == [None]
        if write == "failed":
            record = await ledger.failed(record, Reason.TIMEOUT, "late", ref=named)
        elif write == "fetched":
            record = await deliver(ledger, record, named, b"{}")
        else:
            record = await ledger.done(record, named)
    assert "docjobs-1" in await aliases(ledger)
    kept = await push(ledger, "1", job_id=None, alias="docjobs-1")
    assert kept.record is not None
    assert kept.record.id == record.id


async def test_a_job_of_an_older_worker_is_found_while_it_is_open(ledger: Ledger) -> None:
    """It writes the ref, and no column that it does not know."""
    record = await submitted(ledger, "a", alias="docjobs-1")
    await ledger.submitted(await ledger.claim(entry("b")), ref("job-b", document_name="docjobs-1"))
    await submitted(ledger, "c", alias="docjobs-2")
    await run(ledger, "UPDATE docjobs_jobs SET alias = NULL")
    kept = await push(ledger, "1", job_id=None, alias="docjobs-1", state=JobState.FAILED, body=None)
    assert kept.record is not None
    assert kept.record.id == record.id
    kept = await push(ledger, "2", job_id=None, alias="docjobs-1")
    assert kept.record is not None
    assert (kept.record.id, kept.record.state) == (record.id, State.DONE)


async def test_an_alias_that_no_index_takes_costs_no_job(ledger: Ledger) -> None:
    """3,000 characters that do not compress are more than an index of PostgreSQL has room for."""
    alias = random.Random(3).randbytes(1500).hex()
    record = await submitted(ledger, alias=alias)
    assert record.ref is not None
    assert record.ref.alias == alias
    assert await push(ledger, "1", job_id=None, alias=alias) == PushReceipt(is_new=True)


async def test_an_alias_that_two_records_share_finds_none(ledger: Ledger) -> None:
    first = await submitted(ledger, "a", alias="fixed")
    await deliver(ledger, first, ref("job-a", alias="fixed"), b"fetched")
    await submitted(ledger, "b", alias="fixed")
    assert await push(ledger, "1", job_id=None, alias="fixed") == PushReceipt(is_new=True)
    (received,) = await received_pushes(ledger)
    assert received.has_body


async def test_a_failure_finds_its_open_record_by_the_alias(ledger: Ledger) -> None:
    record = await submitted(ledger, alias="docjobs-1")
    kept = await push(ledger, "1", job_id=None, alias="docjobs-1", state=JobState.FAILED, body=None)
    assert kept.record is not None
    assert kept.record.id == record.id


async def test_a_large_result_goes_where_the_ledgers_own_go(ledger: Ledger) -> None:
    body = random.Random(1).randbytes(400_000)
    early = await push(ledger, "1", job_id="job-early", body=body)
    assert early.record is None
    (received,) = await received_pushes(ledger)
    assert await ledger.inbox.body(received.id) == body

    await submitted(ledger)
    kept = await push(ledger, "2", body=body)
    assert kept.record is not None
    assert await ledger.body(kept.record) == body
    files = [path for path in _folder(ledger).glob("*") if path.is_file()]
    assert len(files) == (1 if ledger._bodies else 0)


def _folder(ledger: Ledger) -> Path:
    path = Path(str(ledger._url and ledger._url.database))
    return path.with_name(f"{path.name}.bodies")


# ------------------------------------------------------------------------------------------- pushes


async def test_arrivals_come_oldest_first_and_page_by_page(ledger: Ledger) -> None:
    for number in range(7):
        await push(ledger, str(number), job_id=f"job-{number}")
    seen: list[str | None] = []
    after = 0
    while page := [
        it for it in await received_pushes(ledger, within=0.0, after=after, limit=3) if it.id > after
    ]:
        assert len(page) <= 3
        seen += [it.job_id for it in page]
        after = page[-1].id
    assert seen == [f"job-{number}" for number in range(7)]


async def test_a_push_that_was_committed_late_is_not_missed(ledger: Ledger) -> None:
    """An id that is smaller than one that was seen already: PostgreSQL gives ids before the commit."""
    await push(ledger, "1", job_id="slow")
    await push(ledger, "2", job_id="quick")
    slow, quick = await received_pushes(ledger)
    again = [it.id for it in await received_pushes(ledger, after=quick.id)]
    assert again == ([] if ledger._database.name == "sqlite" else [slow.id, quick.id])
    await run(ledger, "UPDATE docjobs_pushes SET received_at = received_at - 16")
    assert await received_pushes(ledger, after=quick.id) == []
    assert [it.id for it in await received_pushes(ledger, after=slow.id)] == [quick.id]


async def test_concurrent_pushes_all_arrive_at_a_reader_that_never_stops(
    ledger: Ledger, other: Ledger
) -> None:
    known: dict[int, ReceivedPush] = {}

    async def read() -> None:
        pushes = await received_pushes(ledger, after=max(known, default=0))
        known.update({it.id: it for it in pushes})

    async def write(number: int) -> None:
        await push(other if number % 2 else ledger, str(number), job_id=f"job-{number}")

    writing = [asyncio.create_task(write(number)) for number in range(100)]
    while not all(task.done() for task in writing):
        await read()
    await asyncio.gather(*writing)
    await read()
    assert {it.job_id for it in known.values()} == {f"job-{number}" for number in range(100)}


@pytest.mark.parametrize("question", [inbox._NEWER, inbox._AGAIN], ids=["newer", "again"])
async def test_asking_for_arrivals_is_served_by_an_index_and_reads_no_body(
    ledger: Ledger, question: Select[Any]
) -> None:
    asked = {"account": "toy", "after": 5000, "since": 3000, "within": 15.0, "most": 1000}

    def plan(connection: Connection) -> str:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        compiled = question.params(asked).compile(
            dialect=connection.dialect, compile_kwargs={"literal_binds": True}
        )
        explain = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
        return str(connection.exec_driver_sql(f"{explain} {compiled}").all())

    assert "docjobs_pushes_account" in await ledger._database.run(plan)
    assert "body" not in question.selected_columns


# -------------------------------------------------------------------------------------------- pruning


async def test_what_has_expired_is_dropped_and_nothing_else(ledger: Ledger) -> None:
    for number in range(450):
        await push(ledger, f"old{number}", job_id=f"old-{number}", keep_for=-1.0, body=None)
    await push(ledger, "new", job_id="new")
    assert await ledger.inbox.prune() == 450
    assert await ledger.inbox.prune() == 0
    assert [it.job_id for it in await received_pushes(ledger)] == ["new"]


# ---------------------------------------------------------------------------------------- the upgrade


async def test_a_ledger_of_the_first_version_is_upgraded_with_its_rows(url: str) -> None:
    await _make_first_version(url)
    async with Ledger(url) as ledger:
        (record,) = await ledger.find()
        assert (record.document_name, record.state, record.job_id) == ("old.pdf", State.SUBMITTED, "job-a")
        kept = await push(ledger, "1")
        assert kept.record is not None
        assert kept.record.state is State.DONE


async def test_the_upgrade_fills_in_the_aliases_that_a_push_may_find_field(url: str) -> None:
    facts = {
        "open": ("submitted", "docjobs-open"),
        "done": ("done", "docjobs-done"),
        "late": ("failed", "docjobs-late"),
        'x"%': ("submitted", "x%_'\"é"),
        "earlier": ("fetched", "mine"),  # chosen by people, so that a new job may have it, too
        "new": ("submitted", "mine"),
        "long": ("submitted", random.Random(4).randbytes(1500).hex()),
        "none": ("submitted", None),
        "intent": ("intended", None),
    }
    rows = [
        {"key": name, "state": state, "job_id": f"job-{name}", "ref": ref(f"job-{name}", alias=alias)}
        for name, (state, alias) in facts.items()
    ]
    await _make_first_version(url, *rows)
    async with Ledger(url) as ledger:
        for name, (_, alias) in list(facts.items())[:4]:
            kept = await push(ledger, name.encode().hex(), job_id=None, alias=alias)
            assert kept.record is not None
            assert (kept.record.job_id, kept.record.state) == (f"job-{name}", State.DONE)
        assert (await push(ledger, "1", job_id=None, alias="mine")).record is None
        assert sum(it is None for it in await aliases(ledger)) == 4  # the first version's row is one


async def aliases(ledger: Ledger) -> list[str | None]:
    question = text("SELECT alias FROM docjobs_jobs ORDER BY id")
    return await ledger._database.run(lambda connection: list(connection.execute(question).scalars()))


async def _make_first_version(url: str, *more: dict[str, Any]) -> None:
    """The tables as migration 0001 left them, with one submitted job, and more."""

    def upgrade(connection: Connection) -> None:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(migrate.__file__).with_name("migrations")))
        command.upgrade(config, "0001")
        row = {
            "key": "old", "state": "submitted", "attempt": 1, "claim": "c", "version": 1, "owner": "o",
            "lease_until": 0, "provider": "toy", "base_url": "https://toy.test", "tenant": "acme",
            "product": "extraction", "document_name": "old.pdf", "job_id": "job-a",
            "ref": ref(), "intended_at": 1, "updated_at": 1,
        }  # fmt: skip
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        for facts in ({}, *more):
            given = {**row, **facts}
            given["ref"] = given["ref"].model_dump_json(exclude_none=True)
            connection.execute(text(f"INSERT INTO docjobs_jobs ({names}) VALUES ({values})"), given)

    opened = database.open_database(database.parse_address(url))
    await opened.run(upgrade, writes=True)
    await opened.aclose()


def test_an_account_has_one_name_that_the_tables_take() -> None:
    assert ACME.key == "toy https://toy.test acme"
    assert len(Account("toy", "https://toy.test", "x" * 600).key) == 512
