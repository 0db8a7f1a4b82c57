"""The forecast of a run of chunks, from the forecasts of those under way."""

from __future__ import annotations

import asyncio
import logging

import pytest
from support.virtual_time import virtual_time

from prefect_docjobs.flows._run import RunBar, RunForecast
from prefect_docjobs.models import Outcome
from prefect_docjobs.tasks._run import Progress, RunLog
from prefect_docjobs.waiting import Forecast


@virtual_time
async def test_chunks_that_all_go_on_take_as_long_as_the_last_of_them() -> None:
    run = RunForecast(chunks=2, at_a_time=4)
    for chunk, likely in ((0, 10.0), (100, 30.0)):
        run.begin(chunk)
        run.foresee(chunk, Forecast(100, likely, likely + 5.0))
    assert run.whole() == Forecast(200, 30.0, 35.0)


@virtual_time
async def test_a_forecast_grows_old_with_the_time() -> None:
    run = RunForecast(chunks=1, at_a_time=4)
    run.begin(0)
    run.foresee(0, Forecast(6, 10.0, 20.0))
    await asyncio.sleep(4.0)
    assert run.whole() == Forecast(6, 6.0, 16.0)
    await asyncio.sleep(40.0)
    assert run.whole() == Forecast(6, 0.0, 0.0)


@virtual_time
async def test_chunks_to_come_take_as_long_as_those_that_have_ended() -> None:
    run = RunForecast(chunks=7, at_a_time=2)
    run.begin(0)
    run.begin(1)
    await asyncio.sleep(20.0)
    run.end(0)
    await asyncio.sleep(10.0)
    run.end(1)
    run.begin(2)
    run.foresee(2, Forecast(100, 12.0, 15.0))
    # One goes on and four are to come, two at a time: two more rounds of 25 s, at the most 30 s.
    assert run.whole() == Forecast(100, 12.0 + 2 * 25.0, 15.0 + 2 * 30.0)


@virtual_time
async def test_until_a_chunk_has_ended_those_under_way_stand_in() -> None:
    run = RunForecast(chunks=2, at_a_time=1)
    run.begin(0)
    await asyncio.sleep(5.0)
    run.foresee(0, Forecast(10, 20.0, 30.0))
    assert run.whole() == Forecast(10, 20.0 + 25.0, 30.0 + 35.0)


@pytest.mark.parametrize("forecast", [None, Forecast(3)])
@virtual_time
async def test_while_nothing_is_known_nothing_is_told(forecast: Forecast | None) -> None:
    run = RunForecast(chunks=5, at_a_time=2)
    run.begin(0)
    if forecast:
        run.foresee(0, forecast)
    assert run.whole().likely is None


@virtual_time
async def test_the_bar_of_a_run_moves_with_each_document_and_counts_each_once() -> None:
    progress, journal = Progress(6, "All"), RunLog(logging.getLogger("test"))
    bar = RunBar(progress, RunForecast(chunks=2, at_a_time=1))
    with bar.follows(0, 3):
        journal.ended(Outcome(document="a.pdf"), 3)
        assert progress.description == "All: 1 of 6"
    assert progress.description == "All: 3 of 6"
    with bar.follows(3, 3):
        journal.on_forecast(Forecast(2, 7.0, 9.0))
        assert progress.description == "All: 3 of 6, about 7 s left (90 %: 9 s)"
        for _ in range(5):  # a retry tells of submits and of waits
            journal.ended(Outcome(document="b.pdf"), 3)
    assert (progress.percent, progress.description) == (100.0, "All: 6 of 6")
