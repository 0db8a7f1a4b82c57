"""A service, a ledger and workers, each in a process of its own; and what came of it all."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from bench.documents import invoice
from bench.simulator import Simulator
from bench.slow_service import slow_simulator
from prefect_docjobs.simulator.settings import Settings
from torture.steps import HOLD
from torture.worker import Work

RUNS = 6
"""Runs at most until every document has ended."""

ENDED = frozenset({None, "uncertain", "lost_result"})
"""Reasons with which a document's way is at its end: another run would change nothing."""

_FETCHES = 8  # GETs at a time: so many results that can be had only once are on their way to a worker
_PATIENCE = 240.0  # seconds for one run: a call and its grace may take 150, as they do behind a full disk


class Worker:
    """A running `torture.worker`."""

    def __init__(self, work: Work, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "torture.worker", work.as_argument()]
        self._process = subprocess.Popen(  # noqa: S603 (our own module)
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **environment},
        )

    def begun(self) -> None:
        """Return when it has imported everything and begins."""
        assert self._process.stdout  # noqa: S101 (it is a pipe)
        self._process.stdout.readline()

    def rows(self, timeout: float = _PATIENCE) -> Sequence[Mapping[str, Any]] | None:
        """What it told of each document; None if it died before all had ended."""
        told, _ = self._process.communicate(timeout=timeout)
        lines = [json.loads(line) for line in told.splitlines() if line.endswith("}")]
        if not lines or "ended" not in lines[-1]:
            return None
        return [line for line in lines if "document" in line]

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends by itself."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.kill()

    def stop(self) -> None:
        """Hold it, as a machine that sleeps does."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Verdict:
    """What one scenario came to.

    Attributes:
        scenario: What happened.
        service: Registry name.
        documents: How many there were.
        kills: Workers that were killed.
        delivered: Documents with their own result.
        duplicates: Submits of a content beyond the first, by the service's own count.
        uncertain: Documents that the report names as such.
        window: Documents named `lost_result`: given out once, to a worker that died before it could keep it.
        crossed: Documents with another one's result.
        lost: Documents that are neither delivered nor named with a reason that says why.
        allowed: Most documents that may be in the window: those whose GET was under way at a kill.
        told: Sentences about what should not be.
    """

    scenario: str
    service: str
    documents: int
    kills: int
    delivered: int
    duplicates: int
    uncertain: int
    window: int
    crossed: int
    lost: int
    allowed: int = 0
    told: Sequence[str] = field(default=(), repr=False)

    @property
    def held(self) -> bool:
        """Whether nothing was bought twice, mixed up or lost."""
        return not (self.duplicates or self.crossed or self.lost or self.told) and self.window <= self.allowed

    def blamed(self, why: str) -> Verdict:
        """This verdict with something that should not be."""
        return replace(self, told=(*self.told, why))


class Arena:
    """Everything that one scenario needs.

    Args:
        simulator: Its own.
        folder: Its own.
        work: What workers do, as far as it is the same for all.
        environment: For the workers.
        once: The service gives each result once.
    """

    def __init__(
        self,
        simulator: Simulator,
        folder: Path,
        work: Work,
        environment: Mapping[str, str] | None = None,
        *,
        once: bool = False,
    ) -> None:
        self.simulator = simulator
        self.folder = folder
        self.work = work
        self.kills = 0
        self._environment = environment or {}
        self._once = once
        self._workers: list[Worker] = []

    def start(self, **changes: Any) -> Worker:
        """A worker."""
        self._workers.append(Worker(replace(self.work, **changes), self._environment))
        return self._workers[-1]

    def close(self) -> None:
        """Leave no worker behind."""
        for worker in self._workers:
            worker.kill()

    @property
    def bought(self) -> Mapping[str, int]:
        """Accepted submits of each content, by the service's own count."""
        by_content: Mapping[str, int] = self.simulator.report()["submits"]["by_content"]
        return by_content

    def change(self, patch: Mapping[str, Any]) -> None:
        """Change settings of the service while it runs."""
        where = f"{self.work.base_url}/_simulator/settings"
        httpx.patch(where, json=patch, trust_env=False).raise_for_status()

    def killed_at(self, step: str, nth: int) -> None:
        """Run a worker that dies at this step; one that does not get there proves nothing."""
        if self.start(step=step, nth=nth).rows() is not None:
            raise RuntimeError(f"The step {step!r} was not reached.")
        self.kills += 1

    def run(self) -> Sequence[Mapping[str, Any]]:
        """Run until every document has ended; what the last run told."""
        for _ in range(RUNS):
            rows = self.start().rows()
            if rows is not None and all(row["reason"] in ENDED for row in rows):
                return rows
        return rows or ()

    def verdict(self, scenario: str) -> Verdict:
        """Run to the end, then once more, which must buy nothing; and count."""
        self.run()
        before = self.simulator.report()["submits"]["total"]
        rows = self.run()
        submits = self.simulator.report()["submits"]
        told = [] if submits["total"] == before else ["A run after the last one submitted again."]
        return self._judged(scenario, rows, submits["by_content"], told)

    def _judged(
        self,
        scenario: str,
        rows: Sequence[Mapping[str, Any]],
        bought: Mapping[str, int],
        told: Sequence[str],
    ) -> Verdict:
        numbers = range(self.work.documents)
        by_name = {row["document"]: row for row in rows}
        mine = {n: by_name.get(f"invoice-{n:06}.png", {"reason": "missing", "number": None}) for n in numbers}
        reasons = [row["reason"] for row in mine.values()]
        right = [row["number"] == f"B-{n:06}" for n, row in mine.items() if row["reason"] is None]
        strange = set(bought) - {hashlib.sha256(invoice(n)).hexdigest() for n in numbers}
        return Verdict(
            scenario=scenario,
            service=self.work.service,
            documents=len(numbers),
            kills=self.kills,
            delivered=sum(right),
            duplicates=sum(count - 1 for count in bought.values()),
            uncertain=reasons.count("uncertain"),
            window=reasons.count("lost_result"),
            crossed=len(right) - sum(right),
            lost=sum(reason not in ENDED for reason in reasons),
            allowed=_FETCHES * self.kills if self._once else 0,
            told=(*told, *(["The service was sent other contents."] if strange else [])),
        )


@contextmanager
def arena(
    service: str, documents: int, settings: Mapping[str, Any] | None = None, **options: Any
) -> Iterator[Arena]:
    """A fresh simulator, a fresh ledger, and no workers yet.

    Args:
        service: Registry name.
        documents: How many.
        settings: Of the simulator, merged into jobs of half a second to a second.
        options: `folder` for the ledger, `environment` for the workers, and fields of `Work`.
    """
    jobs = {"duration": {"law": "uniform", "low": 0.5, "high": 1.0}}
    with ExitStack() as opened:
        temporary = opened.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        folder = options.pop("folder", None) or Path(temporary)
        environment = options.pop("environment", None)
        simulator = opened.enter_context(slow_simulator(HOLD, HOLD))
        simulator.reset(Settings().merged(jobs).merged(settings or {}))
        options.setdefault("ledger", str(folder / "ledger.db"))
        work = Work(service, simulator.base_url, documents=documents, **options)
        ground = Arena(
            simulator, folder, work, environment, once=bool((settings or {}).get("single_use_results"))
        )
        opened.callback(ground.close)
        yield ground
