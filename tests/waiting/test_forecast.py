"""When everything will be done: a forecast that holds as often as it says."""

from __future__ import annotations

import asyncio
import itertools
import math
import random

import pytest
from support.toy import URL, Account, Polled, all_done, waiting
from support.virtual_time import virtual_time

from prefect_docjobs.waiting import Forecast
from prefect_docjobs.waiting.durations import Durations, LogNormal, forecast

LAWS = [LogNormal(math.log(8), 0.5), LogNormal(math.log(20), 0.2), LogNormal(math.log(45), 0.8)]


def last_end(law: LogNormal, ages: list[float], dice: random.Random) -> float:
    """Seconds until the last of these running jobs is done, in one possible future."""

    def left(age: float) -> float:
        while (took := dice.lognormvariate(law.mu, law.sigma)) <= age:
            pass
        return took - age

    return max(map(left, ages))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("jobs", [1, 10, 300])
@pytest.mark.parametrize("young", [True, False])
def test_a_forecast_holds_as_often_as_it_says(law: LogNormal, jobs: int, young: bool) -> None:
    dice = random.Random(11)
    ages = [0.0 if young else dice.uniform(0.0, law.median) for _ in range(jobs)]
    said = forecast((law, age, 1) for age in ages)
    assert said.likely
    assert said.nearly_sure
    ends = [last_end(law, ages, dice) for _ in range(400 if jobs < 300 else 120)]

    assert said.running == jobs
    assert 0.4 <= sum(end <= said.likely for end in ends) / len(ends) <= 0.75
    assert 0.85 <= sum(end <= said.nearly_sure for end in ends) / len(ends) <= 0.97


def test_jobs_of_one_age_may_be_counted_together() -> None:
    law = LAWS[0]
    assert forecast([(law, 3.0, 50)]) == forecast([(law, 3.0, 1)] * 50)


def test_without_knowledge_of_every_kind_there_is_no_forecast() -> None:
    assert forecast([(LAWS[0], 1.0, 5), (None, 1.0, 2)]) == Forecast(7)
    assert forecast([]) == Forecast(0)


def test_a_job_that_should_have_ended_long_ago_stops_no_forecast() -> None:
    said = forecast([(LAWS[1], 1e6, 1)])
    assert said.nearly_sure is not None
    assert said.nearly_sure < 1e6


def test_jobs_to_come_are_part_of_the_forecast() -> None:
    now, later = forecast([(LAWS[0], 5.0, 10)]), forecast([(LAWS[0], 0.0, 1)])
    whole = now.then(later, number=90, delay=60.0)
    assert whole.running == 100
    assert whole.likely
    assert later.likely
    assert whole.likely >= 60.0 + later.likely
    assert now.then(Forecast(1), number=5, delay=1.0) == Forecast(15)


@virtual_time
async def test_a_waiter_reports_when_its_jobs_will_be_done() -> None:
    known, account = Durations(), Account()
    dice = random.Random(3)
    for _ in range(100):
        known.add(("toy", URL, "extraction", ""), None, dice.lognormvariate(math.log(20), 0.2))
    loop = asyncio.get_running_loop()
    reported: list[tuple[float, Forecast]] = []
    async with waiting(Polled(account), durations=known) as waiter:
        waiter.on_forecast = lambda said: reported.append((loop.time(), said))
        takes = [dice.lognormvariate(math.log(20), 0.2) for _ in range(100)]
        await all_done(waiter, account, [account.add(str(n), seconds) for n, seconds in enumerate(takes)])

    left = [max(takes) - when for when, _ in reported]
    held = [
        said.nearly_sure is not None and said.nearly_sure >= rest
        for (_, said), rest in zip(reported, left, strict=True)
    ]
    assert reported[0][1].running == 100
    assert sum(held) >= 0.8 * len(held)
    assert all(later - earlier >= 0.99 for (earlier, _), (later, _) in itertools.pairwise(reported))
