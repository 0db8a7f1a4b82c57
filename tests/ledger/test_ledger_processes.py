"""Real processes: killed at any moment, or two at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import make_url
from support.ledgers import ON_POSTGRESQL, dead, entry
from support.pages import block_run_by

from prefect_docjobs.ledger import Ledger, State, Step, next_step

SCRIPT = Path(__file__).with_name("ledger_process.py")
ORDER = [State.INTENDED, State.SUBMITTED, State.DONE, State.FETCHED]


class Child:
    """A `ledger_process.py` that is told when to begin and listened to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"it ended with {self._process.wait(10)}"
        return dict(json.loads(line))

    def go(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def kill(self) -> list[dict[str, Any]]:
        """Kill it as `kill -9` does; gives what it had told until then."""
        self._process.send_signal(signal.SIGKILL)
        return self.rest(-signal.SIGKILL)

    def rest(self, ended: int = 0) -> list[dict[str, Any]]:
        assert self._process.stdout
        told = [json.loads(line) for line in self._process.stdout if line.endswith("\n")]
        assert self._process.wait(30) == ended
        return told


@contextmanager
def child(*arguments: str) -> Iterator[Child]:
    searched = os.pathsep.join(filter(None, [str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": searched}
    command = [sys.executable, "-W", "error", str(SCRIPT), *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


@contextmanager
def two(command: str, url: str, number: int) -> Iterator[tuple[Child, Child]]:
    """Two at once; both are ready before either begins."""
    with child(command, url, str(number)) as one, child(command, url, str(number)) as other:
        assert one.hear() == other.hear() == {"ready": True}
        one.go()
        other.go()
        yield one, other


async def test_a_process_that_is_killed_with_a_claim_is_noticed_by_its_lease(
    ledger: Ledger, url: str
) -> None:
    with child("claim-then-hang", url) as holder:
        told = holder.hear()
        record = await ledger.claim(entry("claimed"))
        assert record.id == told["id"]
        assert next_step(record, mine=record.mine, reuse_for=None, on_uncertain="fail") is Step.STAND_BY
        holder.kill()
    left = await dead(ledger, record)
    assert next_step(left, mine=left.mine, reuse_for=None, on_uncertain="fail") is Step.RECONCILE
    assert await ledger.take_over(left) is not None


async def test_what_a_killed_process_told_is_in_the_ledger(url: str) -> None:
    with child("walk", url, "1000") as walker:
        assert walker.hear() == {"ready": True}
        walker.go()
        told = [walker.hear() for _ in range(23)]
        told += walker.kill()
    async with Ledger(url) as ledger:
        rows = {record.document_name: record for record in await ledger.find()}
        for news in told:
            record = rows[f"{news['name']}.pdf"]
            assert ORDER.index(record.state) >= ORDER.index(State(news["state"]))
            assert record.state is State.INTENDED or record.job_id == f"job-{news['name']}"
            if record.state is State.FETCHED:
                assert await ledger.body(record) == news["name"].encode() * 1000


async def test_two_processes_that_open_a_fresh_ledger_and_claim_the_same_keys_share_them(url: str) -> None:
    with two("claim-all", url, 200) as (one, other):
        mine = [[name for news in it.rest() for name in news["mine"]] for it in (one, other)]
    assert sorted(mine[0] + mine[1]) == sorted(f"{index}.pdf" for index in range(200))
    async with Ledger(url) as ledger:
        assert len(await ledger.find()) == 200


RATE = 200


@ON_POSTGRESQL
async def test_two_processes_share_one_budget_and_use_it(url: str) -> None:
    async with Ledger(url):
        with two("turns", url, RATE) as (one, other):
            times = sorted(one.rest()[-1]["times"] + other.rest()[-1]["times"])  # both read one clock
    spent = times[-1] - times[0]
    assert len(times) - 1 >= 0.9 * RATE * spent
    assert refusals(times, per_second=RATE) < 0.01 * len(times)


def refusals(times: list[float], *, per_second: float, burst: float = 20.0) -> int:
    """How many a service would refuse that fills a bucket of `burst` requests at that rate."""
    level, last, refused = burst, times[0], 0
    for now in times:
        level, last = min(burst, level + (now - last) * per_second), now
        if level < 1.0:
            refused += 1
        else:
            level -= 1.0
    return refused


@ON_POSTGRESQL
async def test_the_line_of_the_how_to_gives_a_process_the_ledger_of_all(url: str) -> None:
    async with Ledger(url) as ledger:
        await ledger.claim(entry("known-to-all"))
    place = make_url(url)
    line = block_run_by(__file__, "docs/how-to/pay-once.md").code
    told = line.replace("db.internal/docjobs", f"{place.host}:{place.port}/{place.database}")
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-euc", f"{told}exec {sys.executable} -m prefect_docjobs.cli jobs --json"],
        env={**os.environ, "PASSWORD": str(place.password)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["document_name"] == "known-to-all.pdf"
