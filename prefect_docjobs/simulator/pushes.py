"""Webhooks: real HTTP calls to a receiver when a job has ended; lost, repeated or late as the settings say.

Under a server ``run`` sends each call when it is due. In process, without a running server, ``deliver_due``
sends what is due by the clock, so that tests with a virtual clock need not wait.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import anyio
import httpx

from prefect_docjobs.simulator.backend import Backend, Job, Phase, Push
from prefect_docjobs.simulator.service import Service, WebhookCall

_IN_FLIGHT = 20
_TIMEOUT = 10.0  # seconds for one call; the real services' limit is not published


@dataclass(frozen=True, slots=True)
class _Due:
    job: Job
    call: WebhookCall | None = None  # None: the service makes the calls when the job has ended
    copies: int = 1
    lost: bool = False
    attempt: int = 1


class Pushes:
    """The webhook calls of one simulator.

    Args:
        backend: Its jobs are pushed.
        services: All services; those with ``webhook_calls`` push.
        transport: Where calls go instead of the network, for tests.
    """

    def __init__(
        self,
        backend: Backend,
        services: Iterable[Service],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._backend = backend
        self._calls_of = {each.name: each.webhook_calls for each in services if each.webhook_calls}
        self._transport = transport
        self._due: list[tuple[float, int, _Due]] = []
        self._order = itertools.count()
        self._added = anyio.Event()
        backend.on_submit.append(self._plan)
        backend.on_reset.append(self._due.clear)

    async def run(self) -> None:
        """Send each call when it is due, until cancelled. Needs a clock that runs by itself."""
        limiter = anyio.CapacityLimiter(_IN_FLIGHT)
        async with self._client() as client, anyio.create_task_group() as tasks:
            while True:
                self._added = anyio.Event()
                for due in self._take_due():
                    tasks.start_soon(self._make, client, limiter, due)
                wait = max(0.0, self._due[0][0] - self._backend.now()) if self._due else None
                with anyio.move_on_after(wait):
                    await self._added.wait()

    async def deliver_due(self) -> int:
        """Send all calls that are due now and wait for their answers.

        Returns:
            The number of calls taken up, lost ones too.
        """
        limiter = anyio.CapacityLimiter(_IN_FLIGHT)
        taken = self._take_due()
        async with self._client() as client, anyio.create_task_group() as tasks:
            for due in taken:
                tasks.start_soon(self._make, client, limiter, due)
        return len(taken)

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self._transport, timeout=_TIMEOUT, trust_env=False)

    def _plan(self, job: Job) -> None:
        settings = self._backend.settings.webhooks
        if settings.url is None or job.service not in self._calls_of or job.is_stuck:
            return
        rng = self._backend.rng("push", job.service, job.product, job.source.content, job.index)
        lost = rng.random() < settings.lost_share
        copies = 2 if rng.random() < settings.twice_share else 1
        delay = settings.late_seconds if rng.random() < settings.late_share else 0.0
        self._add(job.ends_at + delay, _Due(job, copies=copies, lost=lost))

    def _add(self, at: float, due: _Due) -> None:
        heapq.heappush(self._due, (at, next(self._order), due))
        self._added.set()

    def _take_due(self) -> list[_Due]:
        taken: list[_Due] = []
        while self._due and self._due[0][0] <= self._backend.now():
            taken.append(heapq.heappop(self._due)[2])
        return taken

    async def _make(self, client: httpx.AsyncClient, limiter: anyio.CapacityLimiter, due: _Due) -> None:
        for call in self._calls(due):
            if due.lost:
                self._backend.stats.pushes["lost"] += 1
                continue
            for _ in range(due.copies):
                async with limiter:
                    await self._send(client, due, call)

    def _calls(self, due: _Due) -> Sequence[WebhookCall]:
        if due.call is not None:
            return (due.call,)
        if due.job.phase(self._backend.now()) is Phase.CANCELLED:
            return ()
        return self._calls_of[due.job.service](due.job)

    async def _send(self, client: httpx.AsyncClient, due: _Due, call: WebhookCall) -> None:
        backend, job, settings = self._backend, due.job, self._backend.settings.webhooks
        url = (settings.url or "").replace("{service}", job.service)
        headers = {"Content-Type": "application/json", **call.headers}
        status_code = None
        with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL):
            status_code = (await client.post(url, content=call.body, headers=headers)).status_code
        push = next((push for push in job.pushes if push.id == call.webhook_id), None)
        if push is None:
            push = Push(call.webhook_id, backend.now(), 0, None)
            job.pushes.append(push)
        push.attempts, push.status_code = push.attempts + 1, status_code
        if push.delivered:
            backend.stats.pushes["delivered"] += 1
            backend.observe(job, "push")
            return
        backend.stats.pushes["refused"] += 1
        if due.attempt < settings.attempts:
            again = replace(due, call=call, copies=1, attempt=due.attempt + 1)
            self._add(backend.now() + settings.retry_seconds, again)
