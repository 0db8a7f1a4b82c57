"""Who cancels waits a moment for what is paid for."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from support.virtual_time import virtual_time

from prefect_docjobs.extraction.durable import GRACE, shield_with_grace


class Work:
    """It takes a while, and remembers how it ended."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ended = ""

    async def run(self) -> str:
        self.ended = "cancelled"
        await asyncio.sleep(self.seconds)
        self.ended = "done"
        return "result"


def now() -> float:
    return asyncio.get_running_loop().time()


async def cancelled_at(task: asyncio.Task[str], *moments: float) -> float:
    """Cancel at these moments; gives when the task ended."""
    for moment in moments:
        asyncio.get_running_loop().call_at(moment, task.cancel)
    await asyncio.wait([task])
    assert task.cancelled()
    return now()


@virtual_time
async def test_without_a_cancel_it_is_the_work_itself() -> None:
    assert await shield_with_grace(Work(3.0).run()) == "result"

    async def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await shield_with_grace(broken())


@pytest.mark.parametrize(
    ("seconds", "cancels", "ended", "at"),
    [
        (3.0, [1.0], "done", 3.0),
        (60.0, [1.0], "cancelled", 1.0 + GRACE),
        (60.0, [1.0, 2.0], "cancelled", 2.0),
    ],
)
@virtual_time
async def test_a_cancelled_caller_ends_with_the_work_or_when_the_grace_ends_or_when_cancelled_twice(
    seconds: float, cancels: list[float], ended: str, at: float
) -> None:
    work = Work(seconds)
    assert await cancelled_at(asyncio.create_task(shield_with_grace(work.run())), *cancels) == at
    await asyncio.sleep(0.0)
    assert work.ended == ended


@virtual_time
async def test_work_that_does_not_matter_is_cancelled_at_once() -> None:
    work = Work(3.0)
    task = asyncio.create_task(shield_with_grace(work.run(), may_stop=lambda: True))
    assert await cancelled_at(task, 1.0) == 1.0
    assert work.ended == "cancelled"


@virtual_time
async def test_a_deadline_of_anyio_waits_for_it_too() -> None:
    work = Work(3.0)
    with anyio.move_on_after(1.0) as scope:
        await shield_with_grace(work.run())
    assert scope.cancelled_caught
    assert (work.ended, now()) == ("done", 3.0)
