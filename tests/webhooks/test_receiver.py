"""The receiver: what is accepted, what is refused, and when the service is told that its push is kept."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Mount
from support.ledgers import entry, ref
from support.receiver import (
    ACCOUNTS,
    MINDEE,
    MINDEE_V1,
    ORIGIN,
    PATHS,
    SECRET,
    TOKEN,
    UNSILOED,
    client_of,
    failure,
    in_process,
    on_a_port,
    push,
    received_pushes,
    signed,
    success,
    tenant,
)
from support.virtual_time import virtual_time

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.ledger import Ledger, Record, State
from prefect_docjobs.models import JobState
from prefect_docjobs.webhooks import ReceiverLimits, WebhookAccount, create_app

SIGNING = pytest.mark.parametrize("account", [MINDEE, MINDEE_V1], ids=lambda it: it.provider)


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with Ledger(str(tmp_path / "ledger.db")) as opened:
        yield opened


async def submitted(ledger: Ledger, account: WebhookAccount, job_id: str, alias: str | None = None) -> Record:
    facts = {"provider": account.provider, "base_url": account.base_url, "tenant": account.tenant}
    record = await ledger.claim(entry(f"{account.tenant}-{job_id}", flow_run_id="f", **facts))
    return await ledger.submitted(record, ref(job_id, alias=alias, **facts))


async def state(ledger: Ledger, record: Record) -> State:
    now = await ledger.record(record.id)
    assert now is not None
    return now.state


# ------------------------------------------------------------------------------------------- signatures


@SIGNING
async def test_a_signed_push_is_a_result(ledger: Ledger, account: WebhookAccount) -> None:
    record = await submitted(ledger, account, "job-1")
    body = success(account.provider, "job-1")
    async with on_a_port(ledger) as client:
        assert await push(client, account.provider, body) == 200
    assert await state(ledger, record) is State.DONE
    assert await ledger.body(record) == body


@SIGNING
async def test_the_old_and_the_new_secret_fit_while_they_are_rotated(
    ledger: Ledger, account: WebhookAccount
) -> None:
    rotating = replace(account, secrets=("the-old-one", "the-new-one"))
    async with in_process(ledger, [rotating]) as client:
        for number, (secret, status) in enumerate(
            {"the-old-one": 200, "the-new-one": 200, "an-older-one": 401}.items()
        ):
            body = success(account.provider, f"job-{number}")
            assert await push(client, account.provider, body, secret=secret) == status


@SIGNING
async def test_forged_and_unknown_look_the_same(ledger: Ledger, account: WebhookAccount) -> None:
    body = success(account.provider, "job-1")
    right, wrong = signed(account.provider, body), signed(account.provider, body, "a guess")
    path = PATHS[account.provider]
    async with in_process(ledger) as client:
        answers = [
            await client.post(path, content=body, headers=wrong),
            await client.post(path, content=body),
            await client.post(path, content=body + b" ", headers=right),
            await client.post(f"{path}/token", content=body, headers=right),
            await client.post(path.replace("main", "another"), content=body, headers=right),
            await client.post("/webhooks/nobody/main", content=body, headers=right),
            await client.post("/webhooks/unsiloed/main", content=body, headers=right),
            await client.post(PATHS["unsiloed"] + "x", content=body, headers=right),
        ]
    assert {(it.status_code, it.content, tuple(it.headers.multi_items())) for it in answers} == {
        (401, b"", (("connection", "close"), ("content-length", "0")))
    }
    assert await received_pushes(ledger, account) == []


async def test_a_signature_that_comes_twice_is_none(ledger: Ledger) -> None:
    body = success("mindee", "job-1")
    right, wrong = signed("mindee", body)["X-Signature"], "0" * 64
    async with in_process(ledger) as client:
        for pair in ([right, wrong], [wrong, right], [right, right]):
            headers = [("X-Signature", value) for value in pair]
            answer = await client.post(PATHS["mindee"], content=body, headers=headers)
            assert answer.status_code == 401


async def test_what_is_signed_for_one_account_is_not_anothers(ledger: Ledger) -> None:
    theirs = replace(tenant(MINDEE, "theirs"), secrets=("their-own-secret",))
    mine = await submitted(ledger, MINDEE, "job-1")
    body = success("mindee", "job-1")
    async with in_process(ledger, [MINDEE, theirs]) as client:
        path = "/webhooks/mindee/theirs"
        assert await push(client, "mindee", body, path=path) == 401
        assert await push(client, "mindee", body, path=path, secret="their-own-secret") == 200
    assert await state(ledger, mine) is State.SUBMITTED
    assert await received_pushes(ledger, MINDEE) == []
    assert [it.job_id for it in await received_pushes(ledger, theirs)] == ["job-1"]


# --------------------------------------------------------------------------------------- what is pushed


async def test_a_thousand_replays_change_nothing(ledger: Ledger) -> None:
    record = await submitted(ledger, MINDEE, "job-1")
    body, early = success("mindee", "job-1"), success("mindee", "job-2")
    async with in_process(ledger) as client:
        assert [await push(client, "mindee", it) for it in (body, early)] == [200, 200]
        before = await ledger.record(record.id), await received_pushes(ledger)
        for _ in range(500):
            assert [await push(client, "mindee", it) for it in (body, early)] == [200, 200]
        metrics = (await client.get("/metrics")).text
    after = await ledger.record(record.id), await received_pushes(ledger)
    assert before[0] is not None
    assert after[0] is not None
    assert (after[0].version, after[0].updated_at) == (before[0].version, before[0].updated_at)
    assert after[1] == before[1]
    assert 'docjobs_pushes_total{outcome="kept",provider="mindee"} 2.0' in metrics
    assert 'docjobs_pushes_total{outcome="replayed",provider="mindee"} 1000.0' in metrics


async def test_a_push_that_is_earlier_than_its_job_waits_for_it(ledger: Ledger) -> None:
    body = success("mindee", "job-1")
    async with in_process(ledger) as client:
        assert await push(client, "mindee", body) == 200
    (received,) = await received_pushes(ledger)
    assert (received.job_id, received.state, received.has_body) == ("job-1", JobState.SUCCEEDED, True)
    assert await ledger.inbox.body(received.id) == body


@SIGNING
async def test_a_failure_is_told_and_changes_no_record(ledger: Ledger, account: WebhookAccount) -> None:
    record = await submitted(ledger, account, "job-1", alias="job-1")
    async with in_process(ledger) as client:
        assert await push(client, account.provider, failure(account.provider, "job-1")) == 200
    (received,) = await received_pushes(ledger, account)
    assert (received.state, received.has_body) == (JobState.FAILED, False)
    assert "job-1" in (received.job_id, received.alias)
    assert received.error is not None
    assert await state(ledger, record) is State.SUBMITTED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"not json",
        b'{"inference"',
        b'{"inference": {}}\xff',
        success("mindee", "job-1").decode().encode("utf-16"),
        success("mindee", "job-1").decode().encode("utf-16-le"),
        success("mindee", "job-1").decode().encode("utf-32-be"),
        b"[" * 200_000,
        b'{"inference":' * 50_000,
    ],
    ids=lambda body: repr(body[:12]),
)
async def test_what_is_signed_but_not_the_services_json_is_400(ledger: Ledger, body: bytes) -> None:
    async with in_process(ledger) as client:
        assert await push(client, "mindee", body) == 400
    assert await received_pushes(ledger) == []


async def test_the_content_type_does_not_matter(ledger: Ledger) -> None:
    body = success("mindee", "job-1")
    headers = {**signed("mindee", body), "Content-Type": "image/png; charset=utf-7"}
    async with in_process(ledger) as client:
        assert (await client.post(PATHS["mindee"], content=body, headers=headers)).status_code == 200


# --------------------------------------------------------------------------------- hints, and no secret


@pytest.mark.parametrize(
    "payload",
    [
        {"job_id": "job-1", "status": "completed", "result_url": "https://evil.test/x"},
        {"data": {"job_id": "job-1"}},
        {"job": {"job_id": "job-1", "result": {"total": 1}}, "job_id": None},
    ],
)
async def test_unsiloed_can_hint_and_no_more(ledger: Ledger, payload: object) -> None:
    record = await submitted(ledger, UNSILOED, "job-1")
    async with in_process(ledger) as client:
        assert await push(client, "unsiloed", json.dumps(payload).encode()) == 200
    (received,) = await received_pushes(ledger, UNSILOED)
    assert (received.job_id, received.state, received.raw_state) == ("job-1", None, None)
    assert (received.error, received.has_body) == (None, False)
    assert await state(ledger, record) is State.SUBMITTED


@pytest.mark.parametrize("token", ["", "x" * 40, TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "%00", "é"])
async def test_without_the_path_token_nothing_is_taken(ledger: Ledger, token: str) -> None:
    async with in_process(ledger) as client:
        answer = await client.post(f"/webhooks/unsiloed/main/{token}", content=b'{"job_id": "job-1"}')
    assert answer.status_code in (401, 404)
    assert await received_pushes(ledger, UNSILOED) == []


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"1", b'{"job_id": 5}', b'{"job_id": " "}', b"[" * 99_999, b"\xff"]
)
async def test_a_hint_names_a_job(ledger: Ledger, body: bytes) -> None:
    async with in_process(ledger) as client:
        assert await push(client, "unsiloed", body) == 400
        assert await push(client, "unsiloed", json.dumps({"job_id": "x" * 513}).encode()) == 400


@pytest.mark.parametrize("account", [replace(MINDEE, secrets=("",)), replace(UNSILOED, path_token=None)])
async def test_without_a_secret_it_does_not_start_unless_told(
    ledger: Ledger, account: WebhookAccount, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigurationError, match=r"main has no (webhook secret|path token)"):
        create_app([account], ledger=ledger)
    record = await submitted(ledger, account, "job-1")
    body = success("mindee", "job-1") if account.secrets == () and account.provider == "mindee" else b""
    body = body or b'{"job_id": "job-1"}'
    async with in_process(ledger, [account], insecure=True) as client:
        path = f"/webhooks/{account.provider}/main"
        assert (await client.post(path, content=body)).status_code == 200
    assert "Anybody can push" in caplog.text
    (received,) = await received_pushes(ledger, account)
    assert (received.job_id, received.state, received.has_body) == ("job-1", None, False)
    assert await state(ledger, record) is State.SUBMITTED


async def test_insecure_does_not_concern_accounts_with_a_secret(ledger: Ledger) -> None:
    async with in_process(ledger, insecure=True) as client:
        assert await push(client, "mindee", success("mindee", "job-1"), secret="a guess") == 401


async def test_a_forged_hint_is_not_taken_for_the_signed_push(ledger: Ledger) -> None:
    body = success("mindee", "job-1")
    async with in_process(ledger, [replace(MINDEE, secrets=())], insecure=True) as client:
        assert (await client.post(PATHS["mindee"], content=body)).status_code == 200
    async with in_process(ledger) as client:
        assert await push(client, "mindee", body) == 200
    assert [it.state for it in await received_pushes(ledger)] == [None, JobState.SUCCEEDED]


@pytest.mark.parametrize(
    ("accounts", "said"),
    [
        ([], "nothing to receive"),
        ([MINDEE, replace(MINDEE, tenant="other")], "same name"),
        ([MINDEE, tenant(MINDEE, "theirs")], "accounts main and theirs of Mindee V2 have a webhook secret"),
        (
            [replace(MINDEE, secrets=("old", SECRET)), replace(tenant(MINDEE, "b"), secrets=("new", SECRET))],
            "main and b",
        ),
        ([replace(MINDEE_V1, name="a"), replace(MINDEE_V1, name="b")], "a and b of Mindee V1"),
    ],
)
def test_accounts_that_make_no_sense_are_refused(accounts: list[WebhookAccount], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        create_app(accounts, ledger="unused.db")
    assert SECRET not in str(refused.value)


def test_one_secret_twice_in_one_account_is_none_of_another() -> None:
    create_app([replace(MINDEE, secrets=(SECRET, SECRET)), MINDEE_V1], ledger="unused.db")


@pytest.mark.parametrize(
    ("length", "status"),
    [(512, 200), (513, 400), (3000, 400)],
)
@SIGNING
async def test_a_job_id_has_a_bound(
    ledger: Ledger, account: WebhookAccount, length: int, status: int
) -> None:
    """None of 3,000 characters fits in an index of PostgreSQL, so sent again it would be no better."""
    async with in_process(ledger) as client:
        job_id = "é" * length
        assert await push(client, account.provider, success(account.provider, job_id)) == status
        assert await push(client, account.provider, failure(account.provider, job_id)) == status
    assert len(await received_pushes(ledger, account)) == (2 if status == 200 else 0)


@pytest.mark.parametrize("character", ["\x00", "\n", "\x1b", "\x7f", "\x85"])
async def test_a_job_id_has_no_control_characters(ledger: Ledger, character: str) -> None:
    job_id = f"job{character}1"
    async with in_process(ledger) as client:
        for provider in ("mindee", "mindee_v1"):
            assert await push(client, provider, success(provider, job_id)) == 400
        assert await push(client, "unsiloed", json.dumps({"job_id": job_id}).encode()) == 400
        body = success("mindee", "job-1", file={"alias": f"a{character}"})
        assert await push(client, "mindee", body) == 200  # the id finds it
    assert [(it.job_id, it.alias) for it in await received_pushes(ledger)] == [("job-1", None)]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"provider": "numind"}, "calls no webhooks"),
        ({"provider": "nobody"}, "There is no service"),
        ({"name": "a/b"}, "part of a path"),
        ({"name": ""}, "part of a path"),
        ({"path_token": "too-short"}, "at least 32"),
        ({"path_token": "/" * 40}, "at least 32"),
        ({"base_url": "ftp://x"}, "http"),
    ],
)
def test_an_account_is_checked_when_it_is_made(facts: dict[str, str], said: str) -> None:
    known = {"name": "main", "provider": "mindee", "base_url": ORIGIN, "tenant": "acme"}
    with pytest.raises(ConfigurationError, match=said):
        WebhookAccount(**{**known, **facts})  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------- bounds

FORGED = {"X-Signature": "0" * 64}  # without one, no body is read
SMALL = ReceiverLimits(body_bytes=1000, body_seconds=10.0, memory_bytes=2500, requests=2)


async def test_a_body_that_is_announced_as_too_large_is_not_read(ledger: Ledger) -> None:
    reads = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal reads
        reads += 1
        yield b"x"

    async with in_process(ledger, limits=SMALL) as client:
        for length in ("1001", "9" * 5000):
            headers = {"Content-Length": length}
            answer = await client.post(PATHS["mindee"], content=endless(), headers=headers)
            assert answer.status_code == 413
        answer = await client.post(PATHS["mindee"], content=endless(), headers={"Content-Length": "-1"})
        assert answer.status_code == 400
    assert reads == 0


async def test_a_body_without_an_end_is_read_up_to_the_limit(ledger: Ledger) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 100
            yield b"x" * 100

    async with in_process(ledger, limits=SMALL) as client:
        assert (await client.post(PATHS["mindee"], content=endless(), headers=FORGED)).status_code == 413
    assert read <= 1200


@virtual_time
async def test_a_body_that_drips_is_not_waited_for() -> None:
    """No ledger is opened for it either."""

    async def dripping() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(1.0)
            yield b"x"

    loop = asyncio.get_running_loop()
    app = create_app(ACCOUNTS, ledger="/nonexistent/never/ledger.db", limits=SMALL, events=False)
    async with client_of(app) as client:
        began = loop.time()
        answer = await client.post(PATHS["mindee"], content=dripping(), headers=FORGED)
    assert answer.status_code == 408
    assert loop.time() - began == pytest.approx(10.0, abs=1.1)


async def test_more_requests_than_there_is_room_for_are_told_to_come_again(ledger: Ledger) -> None:
    go_on, waiting = asyncio.Event(), asyncio.Semaphore(0)

    async def held(size: int) -> AsyncIterator[bytes]:
        yield b"x" * size
        waiting.release()
        await go_on.wait()

    async def post(client: httpx.AsyncClient, size: int) -> httpx.Response:
        return await client.post(PATHS["mindee"], content=held(size), headers=FORGED)

    async with in_process(ledger, limits=SMALL) as client:
        holding = [asyncio.create_task(post(client, 900)) for _ in range(2)]
        for _ in holding:
            await waiting.acquire()
        body = success("mindee", "job-1")
        answer = await client.post(PATHS["mindee"], content=body, headers=signed("mindee", body))
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        go_on.set()
        assert [(await it).status_code for it in holding] == [401, 401]
        assert await push(client, "mindee", body) == 200


async def test_all_bodies_together_have_a_limit(ledger: Ledger) -> None:
    limits = replace(SMALL, memory_bytes=500)
    async with in_process(ledger, limits=limits) as client:
        for size, status in {600: 503, 400: 401, 401: 401}.items():
            answer = await client.post(PATHS["mindee"], content=b"x" * size, headers=FORGED)
            assert answer.status_code == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_only_post_is_taken(ledger: Ledger, method: str) -> None:
    async with in_process(ledger) as client:
        assert (await client.request(method, PATHS["mindee"])).status_code == 405


# --------------------------------------------------------------------------------- a store that fails


async def test_a_ledger_that_cannot_be_opened_is_503_until_it_can(tmp_path: Path) -> None:
    in_the_way = tmp_path / "ledger"
    in_the_way.write_text("a file where a folder should be")
    path = in_the_way / "ledger.db"
    body = success("mindee", "job-1")
    async with in_process(path) as client:
        refused = await client.post(PATHS["mindee"], content=body, headers=signed("mindee", body))
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        in_the_way.unlink()
        assert await push(client, "mindee", body) == 200
    assert [it.job_id for it in await received_pushes(path)] == ["job-1"]


async def test_a_ledger_that_is_too_slow_is_503_and_what_comes_again_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    body = success("mindee", "job-1")
    limits = ReceiverLimits(ledger_seconds=0.1)
    async with in_process(path, limits=limits) as client:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await push(client, "mindee", body) == 503
            assert (await client.get("/readyz")).status_code == 503
            other.execute("ROLLBACK")
        for _ in range(100):
            if await push(client, "mindee", body) == 200:
                break
        else:
            pytest.fail("it is not kept")
        assert await push(client, "mindee", body) == 200
    assert [it.job_id for it in await received_pushes(path)] == ["job-1"]


async def test_a_store_that_breaks_in_another_way_is_503_too(ledger: Ledger) -> None:
    """A column that is not there: an error that no one foresaw, and the next push is kept again."""
    from sqlalchemy import text

    async def rename(old: str, new: str) -> None:
        change = text(f"ALTER TABLE docjobs_pushes RENAME COLUMN {old} TO {new}")
        await ledger._database.run(lambda connection: connection.execute(change), writes=True)

    body = success("mindee", "job-1")
    async with in_process(ledger) as client:
        await rename("alias", "hidden")
        assert await push(client, "mindee", body) == 503
        await rename("hidden", "alias")
        assert await push(client, "mindee", body) == 200


# ------------------------------------------------------------------------------------ mounted, observed


async def test_it_can_be_mounted_where_nobody_runs_its_lifespan(ledger: Ledger) -> None:
    parent = Starlette(routes=[Mount("/hooks", create_app(ACCOUNTS, ledger=ledger, events=False))])
    async with client_of(parent) as client:
        path = f"/hooks{PATHS['mindee']}"
        assert await push(client, "mindee", success("mindee", "job-1"), path=path) == 200
    assert len(await received_pushes(ledger)) == 1


async def test_it_is_ready_when_the_ledger_can_be_written(ledger: Ledger) -> None:
    async with on_a_port(ledger) as client:
        assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]


async def test_each_push_is_one_line_of_json_without_payload_or_secret(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    marked = success("mindee", "job-1", note="CONFIDENTIAL")
    async with on_a_port(ledger) as client:
        await push(client, "mindee", marked)
        await push(client, "mindee", marked)
        await push(client, "mindee", marked, secret="a guess")
        await push(client, "unsiloed", b'{"job_id": "job-2", "note": "CONFIDENTIAL"}')
        await client.post("/webhooks/mindee/n%0aobody", content=b"CONFIDENTIAL")
    records = [it for it in caplog.records if it.name == "prefect_docjobs.webhooks"]
    lines = [json.loads(it.getMessage()) for it in records if it.levelno == logging.INFO]
    told = [(it["provider"], it["account"], it["job_id"], it["outcome"], it["status"]) for it in lines]
    assert told == [
        ("mindee", "main", "job-1", "kept", 200),
        ("mindee", "main", "job-1", "replayed", 200),
        ("mindee", "main", None, "refused", 401),
        ("unsiloed", "main", "job-2", "kept", 200),
        ("unknown", "unknown", None, "refused", 401),
    ]
    assert all(it["ms"] >= 0.0 for it in lines)
    assert lines[0]["bytes"] == len(marked)
    ours = "\n".join(it.getMessage() for it in caplog.records if not it.name.startswith("http"))
    assert not any(word in ours for word in ("CONFIDENTIAL", SECRET, TOKEN, "a guess"))


async def test_each_app_counts_for_itself(ledger: Ledger) -> None:
    async with in_process(ledger) as one, in_process(ledger) as two:
        await push(one, "mindee", b"{}", secret="a guess")
        told = [(await client.get("/metrics")).text for client in (one, two)]
    assert 'docjobs_pushes_total{outcome="refused",provider="mindee"} 1.0' in told[0]
    assert "docjobs_push_seconds_bucket" in told[0]
    assert "refused" not in told[1]


@pytest.mark.parametrize("account", ACCOUNTS, ids=lambda it: it.provider)
def test_what_is_printed_of_an_account_has_no_secret(account: WebhookAccount) -> None:
    assert not any(word in f"{account!r} {account.path}" for word in (SECRET, TOKEN))
