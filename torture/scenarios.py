"""What is done to workers, services and ledgers."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.prefect_server import own_prefect_server
from torture.arena import Arena, Verdict, Worker, arena

SERVICES = ("numind", "mindee", "unsiloed")
FEW = 24
"""Documents where it is about one step: three rounds of the eight submits at a time."""

MANY = 200
_LONGEST = 3.0  # seconds that a worker lives at random; all documents take about five
_ROOM = 400 << 10  # bytes on the disk: enough for some of many documents
ONCE = {"single_use_results": True}
"""The service gives each result once."""


def settings_of(service: str) -> dict[str, Any]:
    """Mindee can be told to delete a result when it is read; then there is no second GET."""
    return dict(ONCE) if service == "mindee" else {}


def named_step(service: str, step: str, nth: int = 5) -> Verdict:
    """Kill a worker when it comes to a step for the n-th time."""
    with arena(service, FEW, settings_of(service)) as ground:
        ground.killed_at(step, nth)
        return ground.verdict(f"killed {step}")


def a_few_kills(service: str) -> Verdict:
    """One batch whose workers die at three steps, one after the other; the short version of everything."""
    with arena(service, FEW, settings_of(service)) as ground:
        for step, nth in (("accepted, not answered", 3), ("while waiting", 4), ("after done", 2)):
            ground.killed_at(step, nth)
        return ground.verdict("killed three times")


def amnesia(service: str) -> Verdict:
    """Workers that forget: the table must show what they buy twice, or it shows nothing."""
    with arena(service, FEW) as ground:
        ground.start(ledger=str(ground.folder / "forgotten.db")).rows()
        return ground.verdict("a ledger that was thrown away")


def random_instants(service: str, kills: int, seed: int, documents: int = MANY) -> Verdict:
    """Kill workers at random instants, in as many runs of as many documents as that takes."""
    chance, verdicts = random.Random(seed), list[Verdict]()  # noqa: S311 (repeatable)
    while (left := kills - sum(verdict.kills for verdict in verdicts)) > 0:
        with arena(service, documents, settings_of(service)) as ground:
            _kill_at_random(ground, chance, left)
            verdicts.append(ground.verdict(""))
    return _together(f"killed at random instants of {len(verdicts)} runs", verdicts)


def _kill_at_random(ground: Arena, chance: random.Random, most: int) -> None:
    while ground.kills < most:
        worker = ground.start()
        worker.begun()
        if worker.ends_within(chance.uniform(0.0, _LONGEST)):
            return
        worker.kill()
        worker.rows()
        ground.kills += 1


def _together(scenario: str, verdicts: list[Verdict]) -> Verdict:
    def total(name: str) -> int:
        return sum(getattr(verdict, name) for verdict in verdicts)

    names = (
        "documents",
        "kills",
        "delivered",
        "duplicates",
        "uncertain",
        "window",
        "crossed",
        "lost",
        "allowed",
    )
    told = tuple(sentence for verdict in verdicts for sentence in verdict.told)
    return Verdict(scenario, verdicts[0].service, **{name: total(name) for name in names}, told=told)


def lost_answers(service: str, documents: int = 100) -> Verdict:
    """One accepted submit in ten gets no answer; one in twenty is cut off before it is accepted."""
    faults = {"faults": {"submit": {"lost": 0.1, "dropped": 0.05}}}
    with arena(service, documents, faults) as ground:
        ground.run()
        ground.change({"faults": {"submit": None}})
        return ground.verdict("10 % of accepted submits unanswered, 5 % cut off before")


def broken_results(service: str, documents: int = 100) -> Verdict:
    """Results break off on their way; those that can be had again are."""
    faults = {"faults": {"result": {"lost": 0.2, "bad_gateway": 0.1}}}
    with arena(service, documents, faults) as ground:
        return ground.verdict("20 % of results broken off, 10 % bad gateways")


def two_workers(service: str, documents: int = 100) -> Verdict:
    """Two workers start the same documents at once; both get all results."""
    with arena(service, documents) as ground:
        both = [ground.start(), ground.start()]
        rows = [worker.rows() or () for worker in both]
        verdict = ground.verdict("two workers at once")
        whole = all(len(told) == documents and all(row["reason"] is None for row in told) for told in rows)
    return verdict if whole else verdict.blamed("A worker did not get all results.")


def two_workers_one_killed(service: str, documents: int = 100) -> Verdict:
    """One of the two dies in the middle; the other notices by the lease and goes on."""
    with arena(service, documents) as ground:
        victim, other = ground.start(step="after submitted", nth=20), ground.start()
        victim.rows()
        ground.kills += 1
        rows = other.rows() or ()
        verdict = ground.verdict("two workers at once, one killed")
    ended = len(rows) == documents and all(row["reason"] in {None, "uncertain"} for row in rows)
    return verdict if ended else verdict.blamed("The other worker did not end its documents.")


def stopped_worker(service: str, documents: int = 60) -> Verdict:
    """A worker is stopped for longer than its lease, loses its records, and wakes up again."""
    with arena(service, documents, settings_of(service)) as ground:
        sleeper = ground.start()
        sleeper.begun()
        sleeper.ends_within(0.4)
        _stop_between_writes(sleeper, ground.work.ledger)
        other = ground.start().rows()
        sleeper.go_on()
        sleeper.rows()
        verdict = ground.verdict("stopped for longer than its lease")
    return verdict if other is not None else verdict.blamed("The other worker died.")


def _stop_between_writes(worker: Worker, ledger: str) -> None:
    """A process that is stopped inside a transaction keeps everybody from SQLite, by SQLite's own rules."""
    while True:
        worker.stop()
        opened = closing(sqlite3.connect(ledger, isolation_level=None, timeout=0.2))
        with opened as database, suppress(sqlite3.OperationalError):
            database.execute("BEGIN IMMEDIATE")
            return
        worker.go_on()
        worker.ends_within(0.02)


def refusing_ledger(service: str) -> Verdict:
    """A ledger that takes no new rows: nothing may be submitted. Then one that takes no changes."""
    with arena(service, FEW) as ground:
        ground.start(documents=0).rows()  # makes the tables
        with _refused(ground.work.ledger, "INSERT"):
            rows = ground.start().rows() or ()
            bought = ground.simulator.report()["submits"]["total"]
        verdict = ground.verdict("a ledger that refuses new rows")
    refused = len(rows) == FEW and all(row["reason"] == "unavailable" for row in rows)
    return (
        verdict if refused and not bought else verdict.blamed(f"{bought} were submitted without an intent.")
    )


def breaking_ledger(service: str) -> Verdict:
    """A ledger that refuses every change after the intent: what is bought is delivered all the same."""
    with arena(service, FEW) as ground:
        ground.start(documents=0).rows()
        with _refused(ground.work.ledger, "UPDATE"):
            rows = ground.start().rows() or ()
            bought = ground.simulator.report()["submits"]["total"]
        verdict = ground.verdict("a ledger that breaks after the intent")
    delivered = sum(row["reason"] is None for row in rows)
    refused = sum(row["reason"] == "unavailable" for row in rows)  # their intents were: nothing was sent
    held = 0 < delivered == bought and delivered + refused == FEW
    return verdict if held else verdict.blamed(f"Of {bought} bought {delivered} were delivered meanwhile.")


@contextmanager
def _refused(ledger: str, what: str) -> Iterator[None]:
    with closing(sqlite3.connect(ledger, isolation_level=None, timeout=30.0)) as database:
        rule = (
            f"CREATE TRIGGER torture BEFORE {what} ON docjobs_jobs BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
        database.execute(rule)
        yield
        database.execute("DROP TRIGGER torture")


def full_disk(service: str) -> Verdict | None:
    """The disk with the ledger runs full in the middle of a run. None where none can be mounted."""
    with tempfile.TemporaryDirectory() as place, _small_disk(Path(place)) as disk:
        if disk is None:
            return None
        with arena(service, MANY, folder=disk) as ground:
            ground.start(documents=0).rows()
            room = shutil.disk_usage(disk).free - _ROOM
            (disk / "ballast").write_bytes(b"x" * room)
            rows = ground.start().rows() or ()
            (disk / "ballast").unlink()
            verdict = ground.verdict("the ledger's disk runs full")
    reasons = {row["reason"] for row in rows}
    return verdict if "unavailable" in reasons else verdict.blamed("The disk never was full.")


@contextmanager
def _small_disk(place: Path) -> Iterator[Path | None]:
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    mounted = False
    with suppress(OSError):
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)  # noqa: S603, S607


def in_a_flow(service: str, step: str) -> Verdict:
    """The worker is a Prefect flow run; another flow run takes its work up."""
    with own_prefect_server() as server, tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.db"
        environment = {
            **server.env,
            "PREFECT_DOCJOBS_LEDGER": str(ledger),
            "PREFECT_DOCJOBS_LEDGER_LEASE": "1",
        }
        with arena(service, FEW, folder=Path(folder), environment=environment, in_flow=True) as ground:
            ground.killed_at(step, 5)
            return ground.verdict(f"a flow run killed {step}")
