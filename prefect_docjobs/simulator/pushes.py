"""Webhooks: real HTTP calls to a receiver when a job has ended; lost, repeated or late as the settings say.

Under a server ``run`` sends each call when it is due. In process, without a running server, ``deliver_due``
sends what is due by the clock, so that tests with a virtual clock need not wait.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import anyio
import httpx

from prefect_docjobs.simulator.backend import Backend
from prefect_docjobs.simulator.jobs import Job, Phase, Push
from prefect_docjobs.simulator.services import Letter, Service

_IN_FLIGHT = 20
_TIMEOUT = 10.0  # seconds for one call; the real services' limit is not published


@dataclass(frozen=True, slots=True)
class _Call:
    """One call that has been decided on."""

    job: Job
    letter: Letter | None = None  # None: written when the job has ended
    copies: int = 1
    lost: bool = False
    attempt: int = 1


class Pushes:
    """The webhook calls of one simulator.

    Args:
        backend: Its jobs are pushed; each new one is heard of through ``Backend.on_submit``.
        services: The service halves; those with ``letters`` push.
        transport: Where calls go instead of the network, for tests.
    """

    def __init__(
        self,
        backend: Backend,
        services: Iterable[Service],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._backend = backend
        self._writers = {service.name: service.letters for service in services if service.letters}
        self._transport = transport
        self._due: list[tuple[float, int, _Call]] = []
        self._order = itertools.count()
        self._news = anyio.Event()
        backend.on_submit.append(self._plan)
        backend.on_reset.append(self._due.clear)

    async def run(self) -> None:
        """Send each call when it is due, until cancelled. Needs a clock that runs by itself."""
        limiter = anyio.CapacityLimiter(_IN_FLIGHT)
        async with self._client() as client, anyio.create_task_group() as tasks:
            while True:
                self._news = anyio.Event()
                for call in self._take_due():
                    tasks.start_soon(self._make, client, limiter, call)
                with anyio.move_on_after(self._seconds_to_next()):
                    await self._news.wait()

    async def deliver_due(self) -> int:
        """Send all calls that are due now and wait for their answers.

        Returns:
            The number of calls taken up, lost ones too.
        """
        limiter = anyio.CapacityLimiter(_IN_FLIGHT)
        calls = self._take_due()
        async with self._client() as client, anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(self._make, client, limiter, call)
        return len(calls)

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self._transport, timeout=_TIMEOUT, trust_env=False)

    def _plan(self, job: Job) -> None:
        settings = self._backend.settings.webhooks
        if settings.url is None or job.service not in self._writers or job.is_stuck:
            return
        key = (self._backend.settings.seed, "push", job.service, job.product, job.source.content, job.index)
        rng = random.Random("/".join(map(str, key)))  # noqa: S311  (repeatable)
        lost = rng.random() < settings.lost_share
        copies = 2 if rng.random() < settings.twice_share else 1
        delay = settings.late_seconds if rng.random() < settings.late_share else 0.0
        self._add(job.ends_at + delay, _Call(job, copies=copies, lost=lost))

    def _add(self, due: float, call: _Call) -> None:
        heapq.heappush(self._due, (due, next(self._order), call))
        self._news.set()

    def _take_due(self) -> list[_Call]:
        calls: list[_Call] = []
        while self._due and self._due[0][0] <= self._backend.now():
            calls.append(heapq.heappop(self._due)[2])
        return calls

    def _seconds_to_next(self) -> float | None:
        return max(0.0, self._due[0][0] - self._backend.now()) if self._due else None

    async def _make(self, client: httpx.AsyncClient, limiter: anyio.CapacityLimiter, call: _Call) -> None:
        for letter in self._letters(call):
            if call.lost:
                self._backend.stats.pushes["lost"] += 1
                continue
            for _ in range(call.copies):
                async with limiter:
                    await self._send(client, call, letter)

    def _letters(self, call: _Call) -> Iterable[Letter]:
        if call.letter is not None:
            return (call.letter,)
        if call.job.phase(self._backend.now()) is Phase.CANCELLED:
            return ()
        return self._writers[call.job.service](call.job)

    async def _send(self, client: httpx.AsyncClient, call: _Call, letter: Letter) -> None:
        status_code = await self._post(client, call.job.service, letter)
        self._note(call.job, letter.webhook_id, status_code)
        settings = self._backend.settings.webhooks
        if status_code is not None and 200 <= status_code < 300:
            self._backend.stats.pushes["delivered"] += 1
            self._backend.observe(call.job, "push")
            return
        self._backend.stats.pushes["refused"] += 1
        if call.attempt < settings.attempts:
            again = replace(call, letter=letter, copies=1, attempt=call.attempt + 1)
            self._add(self._backend.now() + settings.retry_seconds, again)

    async def _post(self, client: httpx.AsyncClient, service: str, letter: Letter) -> int | None:
        url = (self._backend.settings.webhooks.url or "").replace("{service}", service)
        headers: Mapping[str, str] = {"Content-Type": "application/json", **letter.headers}
        try:
            return (await client.post(url, content=letter.body, headers=headers)).status_code
        except (httpx.HTTPError, httpx.InvalidURL):
            return None

    def _note(self, job: Job, webhook_id: str, status_code: int | None) -> None:
        for position, push in enumerate(job.pushes):
            if push.id == webhook_id:
                job.pushes[position] = replace(push, attempts=push.attempts + 1, status_code=status_code)
                return
        job.pushes.append(Push(webhook_id, self._backend.now(), 1, status_code))
