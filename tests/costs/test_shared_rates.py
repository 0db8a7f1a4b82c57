"""Workers of one account share its rates through the ledger, and pause together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from support.services import KEY

from prefect_docjobs.blocks import MindeeCredentials
from prefect_docjobs.blocks.ledger import open_ledger
from prefect_docjobs.blocks.sharing import SharedRates
from prefect_docjobs.errors import ConfigurationError, NotFound, Throttled
from prefect_docjobs.http import Request
from prefect_docjobs.ledger import Ledger
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import RateLimit, RateLimits, Settings

SCRIPT = Path(__file__).with_name("shared_rates_process.py")
RATE = 10.0
BURST = 5
SECONDS = 5.0


def credentials(base_url: str, **settings: Any) -> MindeeCredentials:
    return MindeeCredentials(api_key=SecretStr(KEY), base_url=base_url, **settings)


def limited(rate: float, burst: int) -> Settings:
    limit = RateLimit(per_second=rate, burst=burst)
    return Settings(rates=RateLimits(submit=limit, status=limit, result=limit))


def workers(service: Running, ledger: str, count: int) -> list[dict[str, Any]]:
    """Run workers that begin at the same moment; what each of them told."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, SCRIPT.parents[1:3])),
        "PREFECT_DOCJOBS_LEDGER": ledger,
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
    }
    command = [sys.executable, str(SCRIPT), service.base_url, str(RATE), str(SECONDS)]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
                )
            )
            for _ in range(count)
        ]
        for process in started:
            stack.callback(process.kill)
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        return [json.loads(process.communicate("go\n", timeout=60)[0]) for process in told_to_go(started)]


def told_to_go(processes: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


@pytest.mark.xdist_group("postgres")
def test_two_workers_use_the_rate_that_they_share_and_are_hardly_ever_refused(fleet_ledger: str) -> None:
    with run_in_thread(limited(RATE, BURST)) as service:
        told = workers(service, fleet_ledger, 2)
    times = sorted(moment for worker in told for moment in worker["times"])  # both read one clock
    refused = sum(worker["refused"] for worker in told)
    assert len(times) - 1 >= 0.9 * RATE * (times[-1] - times[0])
    assert refused < 0.01 * len(times)
    assert min(len(worker["times"]) for worker in told) >= 0.1 * len(times)


def shared(**rates: float) -> SharedRates:
    return SharedRates.of("toy", "https://toy.test", "acme", rates)  # type: ignore[arg-type]


async def test_a_lease_is_some_turns_until_they_lapse() -> None:
    rates = shared(status=10.0)
    async with open_ledger():
        lease = await rates.refill("status", 12)
    assert lease.tokens == 12
    assert lease.until - rates.clock() == pytest.approx(1.2, abs=0.1)


async def test_where_the_line_is_long_nobody_stands_in_it() -> None:
    rates = shared(status=0.25)
    async with open_ledger():
        assert (await rates.refill("status", 12)).tokens == 1
        none = await rates.refill("status", 12)
    assert none.tokens == 0
    assert none.until - rates.clock() == pytest.approx(4.0, abs=0.5)


async def test_a_kind_without_a_rate_is_not_shared() -> None:
    lease = await shared(submit=1.0).refill("status", 12)
    assert lease.tokens > 1_000_000
    assert lease.until == float("inf")


async def test_turns_are_leased_where_no_ledger_is_open_on_the_loop() -> None:
    assert (await shared(status=10.0).refill("status", 12)).tokens == 12


async def test_a_ledger_that_is_closed_answers_what_it_was_asked_before() -> None:
    async with open_ledger():
        asking = asyncio.create_task(shared(status=10.0).refill("status", 12))
        await asyncio.sleep(0)
    assert (await asking).tokens == 12


async def test_one_refusal_is_a_pause_for_all_workers() -> None:
    with run_in_thread(
        limited(0.01, 1).merged({"retry_after": {"form": "seconds", "seconds": 30.0}})
    ) as service:
        account = credentials(service.base_url, status_per_second=10.0, share_rates=True, tenant="acme")
        other = SharedRates.of("mindee", account.base_url, "acme", {"status": 10.0})
        async with account.get_client() as http, open_ledger():
            for _ in range(2):
                await http.wait_for_token("status")
                with contextlib.suppress(NotFound, Throttled):
                    await http.poll(Request("GET", "/v2/jobs/00000000-0000-4000-8000-000000000000"))
            await asyncio.sleep(0)
        lease = await other.refill("status", 12)
    assert lease.tokens == 0
    assert 20.0 < lease.until - other.clock() <= 30.0


async def test_rates_are_not_shared_unless_that_is_asked_for() -> None:
    account = credentials("http://127.0.0.1:9", status_per_second=10.0)
    async with account.get_client() as http, open_ledger() as ledger:
        assert ledger
        await http.wait_for_token("status")
        line = f"mindee {account.base_url} {account.tenant_id}"
        assert (await ledger.tokens.lease(line, "status", 10.0)).starts_in <= 0.01


def test_sharing_without_a_rate_is_refused() -> None:
    with pytest.raises(ValidationError, match="share_rates needs"):
        credentials("https://api-v2.mindee.net", share_rates=True)


# --------------------------------------------------------------------------- other clients of the account


def line_of(account: MindeeCredentials) -> str:
    return f"mindee {account.base_url} {account.tenant_id}"


async def leased(ledger: Ledger, account: MindeeCredentials, kind: str = "status") -> bool:
    """Whether this account has turns of a kind leased from a ledger."""
    return (await ledger.tokens.lease(line_of(account), kind, 10.0)).starts_in > 0.1


async def test_a_client_that_shares_does_so_whoever_came_first() -> None:
    origin = "http://127.0.0.1:9"
    first = credentials(origin, tenant="first of all")
    account = credentials(origin, tenant="first of all", status_per_second=0.1, share_rates=True)
    async with first.get_client() as plain, account.get_client(), open_ledger() as ledger:
        assert ledger
        await plain.wait_for_token("status")  # it is the account that shares
        assert await leased(ledger, account)
        assert not await leased(ledger, account, "submit")


async def test_a_client_that_shares_more_is_honoured() -> None:
    origin = "http://127.0.0.1:9"
    some = credentials(origin, tenant="more", status_per_second=0.1, share_rates=True)
    more = credentials(origin, tenant="more", status_per_second=0.1, submits_per_second=0.1, share_rates=True)
    async with some.get_client(), more.get_client() as http, some.get_client(), open_ledger() as ledger:
        assert ledger
        await http.wait_for_token("submit")
        assert await leased(ledger, more, "submit")


async def test_a_refusal_is_a_pause_for_all_workers_whoever_came_first() -> None:
    origin = "http://127.0.0.1:9"
    first = credentials(origin, tenant="refused", status_per_second=10.0)
    account = credentials(origin, tenant="refused", status_per_second=10.0, share_rates=True)
    async with first.get_client() as plain, account.get_client(), open_ledger() as ledger:
        assert ledger
        plain.limiter("status").throttled(30.0)
        for _ in range(200):
            lease = await ledger.tokens.lease(line_of(account), "status", 10.0, within=0.0)
            if not lease.tokens:
                break
            await asyncio.sleep(0.01)
        assert lease.tokens == 0


async def test_two_ledgers_for_one_account_are_refused_while_both_are_in_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    account = credentials("http://127.0.0.1:9", tenant="two", status_per_second=10.0, share_rates=True)
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", str(tmp_path / "one.db"))
    async with account.get_client() as http, open_ledger() as one:
        await http.wait_for_token("status")
        assert one
        assert await leased(one, account)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", "one.db")  # the same by another name
        account.get_client()
        for other in (str(tmp_path / "two.db"), "postgresql://me:secret-pass-word@127.0.0.1:9/ledger"):
            monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", other)
            with pytest.raises(ConfigurationError, match="another ledger") as refused:
                account.get_client()
            assert "secret-pass-word" not in str(refused.value)
        monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", str(tmp_path / "two.db"))
    del http
    async with account.get_client() as http, open_ledger() as two:
        await http.wait_for_token("status")
        assert two
        assert await leased(two, account)


async def test_turns_come_from_the_ledger_of_the_account_whichever_is_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    account = credentials("http://127.0.0.1:9", tenant="whose", status_per_second=0.1, share_rates=True)
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", str(tmp_path / "own.db"))
    async with account.get_client() as http:
        monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", str(tmp_path / "another.db"))
        async with open_ledger() as another:
            await http.wait_for_token("status")
            assert another
            assert not await leased(another, account)
        async with Ledger(str(tmp_path / "own.db")) as own:
            assert await leased(own, account)


def test_a_password_of_the_ledger_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_DOCJOBS_LEDGER", "postgresql://me:secret-pass-word@127.0.0.1:9/ledger")
    assert "secret-pass-word" not in repr(shared(status=1.0))
