"""What happens to workers without a kill: they stand still, their database or their files change."""

from __future__ import annotations

import hashlib
import itertools
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import postgres
from bench.documents import invoice, written
from torture.arena import Arena, Verdict, arena
from torture.scenarios import FEW, settings_of
from torture.tls_front import EVERY, self_signed, tls_front

_STOPS = 5
_AWAY = 4.0  # seconds that a database is away
_DAMAGED_RUNS = 4
_OTHERS = 1_000  # a file is exchanged for the invoice whose number is so much greater


def stopped_alone(service: str, documents: int = 60) -> Verdict:
    """A worker is stopped for longer than its lease, five times, and nobody else is there."""
    with arena(service, documents, {**settings_of(service), **_LONG}, lease=2.0) as ground:
        worker = ground.start()
        worker.begun()
        for _ in range(_STOPS):
            if worker.ends_within(0.5):
                break
            worker.stop()
            time.sleep(3.0)
            worker.go_on()
        return _whole(ground, worker.rows(), "stopped for longer than its lease, alone")


def blocked_loop(service: str, documents: int = 60) -> Verdict:
    """The event loop of a worker stands still for longer than its lease, four times."""
    with arena(service, documents, {**settings_of(service), **_LONG}, stalls=4) as ground:
        return _whole(ground, ground.start().rows(), "its event loop stands still, alone")


_LONG = {"duration": {"law": "uniform", "low": 0.5, "high": 4.0}}


def _whole(ground: Arena, rows: Sequence[Mapping[str, Any]] | None, scenario: str) -> Verdict:
    """The verdict, blamed where this one worker did not deliver everything."""
    verdict = ground.verdict(scenario)
    failed = [row for row in rows or () if row["reason"] is not None]
    if rows is None or len(rows) < ground.work.documents or failed:
        told = f"{len(rows or ())} rows, {len(failed)} without a result: {failed[:3]}"
        return verdict.blamed(f"One worker alone did not deliver everything. {told}")
    return verdict


def restarted_database(service: str, documents: int = 400) -> Verdict | None:
    """PostgreSQL is stopped in the middle, as for an update, and started seconds later; None without one."""
    if postgres.programs() is None:
        return None
    with (
        postgres.server("fsync=off") as database,
        arena(service, documents, _LONG, ledger=database.url) as ground,
    ):
        worker = ground.start()
        worker.begun()
        for how in ("fast", "immediate"):
            worker.ends_within(1.0)
            database.stop(how)
            worker.ends_within(_AWAY)
            database.start()
        return _whole(ground, worker.rows(), "PostgreSQL restarted twice")


def garbled_results(service: str, documents: int = 100) -> Verdict:
    """Every third answer of the result route is JSON with HTTP 200, and no result."""
    faults = {"faults": {"result": {"garbled": 0.33}}}
    with arena(service, documents, faults) as ground:
        ground.start().rows()
        ground.change({"faults": None})
        return ground.verdict("33 % of result answers are no results")


def slow_rate(service: str, kills: int = 6) -> Verdict:
    """Workers with a low rate of submits are killed: only what was being sent can be uncertain."""
    with arena(service, FEW, submits_per_second=6.0) as ground:
        chance = random.Random(0)  # noqa: S311 (repeatable)
        for _ in range(kills):
            worker = ground.start()
            worker.begun()
            if worker.ends_within(chance.uniform(0.3, 1.0)):
                break
            worker.kill()
            worker.rows()
            ground.kills += 1
        verdict = ground.verdict("killed behind a low rate")
    most = 2 * verdict.kills  # a request takes 0.1 s, a turn comes every 0.17 s
    return (
        verdict if verdict.uncertain <= most else verdict.blamed("Intents were open that had not been sent.")
    )


def damaged_tls(service: str, documents: int = 60) -> Verdict:
    """TLS breaks after the submit: a bad record, a reset, or an end without close_notify, in four runs."""
    with tempfile.TemporaryDirectory() as place:
        context, trusted = self_signed(Path(place))
        with (
            arena(service, documents, environment={"SSL_CERT_FILE": str(trusted)}) as ground,
            tls_front(ground.simulator.base_url, context) as front,
        ):
            ground.work = replace(ground.work, base_url=front.base_url)
            ends = [row["reason"] for _ in range(_DAMAGED_RUNS) for row in ground.start().rows() or ()]
            front.damaging = False
            verdict = ground.verdict("TLS damaged after every third submit")
    wrong = set(ends) - {None, "uncertain"}
    if wrong or "uncertain" not in ends or front.damaged < documents // EVERY:
        return verdict.blamed(f"{front.damaged} answers damaged, reasons meanwhile: {Counter(ends)}")
    return verdict


def changing_files(service: str) -> Verdict:
    """Files are exchanged for others and grow while they are sent."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        written(FEW, folder)
        with arena(service, FEW, files=str(folder)) as ground:
            told: list[str] = []
            with _changing(folder):
                for _ in range(4):
                    told += _mistaken(ground, ground.start().rows() or ())
            written(FEW, folder)
            verdict = _without_strangers(ground.verdict("files exchanged and growing while they are sent"))
        return verdict.blamed(f"{len(told)} wrong: {told[0]}") if told else verdict


@contextmanager
def _changing(folder: Path) -> Iterator[None]:
    ended = threading.Event()

    def change() -> None:
        chance = random.Random(1)  # noqa: S311 (repeatable)
        for turn in itertools.count():
            if ended.wait(0.002):
                return
            number = chance.randrange(FEW)
            (path,) = folder.glob(f"*{number:06}.png")
            path.write_bytes(invoice(number + (_OTHERS if turn % 2 else 0)) + b"\n" * (turn % 3))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        yield
    finally:
        ended.set()
        changing.join()


def _mistaken(ground: Arena, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows whose result is not that of the content that their ref names, or whose content was never sent."""
    numbers = {
        hashlib.sha256(invoice(number + more) + b"\n" * end).hexdigest(): f"B-{number + more:06}"
        for number in range(FEW)
        for more in (0, _OTHERS)
        for end in range(3)
    }
    bought = ground.bought
    return [
        str(row)
        for row in rows
        if row["sha256"] is not None
        and (row["sha256"] not in bought or row["number"] not in (None, numbers.get(row["sha256"])))
    ]


def _without_strangers(verdict: Verdict) -> Verdict:
    """What the files held meanwhile was sent rightly."""
    told = tuple(sentence for sentence in verdict.told if "other contents" not in sentence)
    return Verdict(**{**vars(verdict), "told": told})
