"""When to look next: the law of durations, the plan through it, and what is kept of the past."""

from __future__ import annotations

import heapq
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count, pairwise
from pathlib import Path
from statistics import NormalDist, fmean, median
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_docjobs.providers.base import Polling
from prefect_docjobs.waiting import schedule as plan
from prefect_docjobs.waiting.schedule import (
    Durations,
    LogNormal,
    Prior,
    Schedule,
    fit,
    shared_durations,
    size_class,
)

KIND = ("toy", "https://toy.test", "extraction", "")
POLLING = Polling(first=2.0, every=2.0)
SMALL, STEADY, LARGE = LogNormal(math.log(8), 0.5), LogNormal(math.log(20), 0.2), LogNormal(math.log(45), 0.8)
LAWS = [SMALL, STEADY, LARGE]
VAGUE = Prior(mu=math.log(8.0), sigma=1.0, weight=0.3)

laws = st.builds(LogNormal, st.floats(-2.0, 6.0), st.floats(0.05, 2.0))
ages = st.floats(0.01, 1e5)


def drawn(law: LogNormal, number: int, seed: int = 1) -> list[float]:
    """Durations of this law, in seconds."""
    dice = random.Random(seed)
    return [dice.lognormvariate(law.mu, law.sigma) for _ in range(number)]


# The law of durations.


@given(laws, ages)
def test_survival_is_that_of_the_log_normal(law: LogNormal, age: float) -> None:
    exact = 1.0 - NormalDist(law.mu, law.sigma).cdf(math.log(age))
    assert law.survival(age) == pytest.approx(exact, abs=1e-9)
    assert law.survival(0.0) == law.survival(-1.0) == 1.0
    assert law.survival(law.median) == pytest.approx(0.5)


@given(laws, st.floats(0.001, 0.999), st.floats(0.0, 100.0))
def test_a_quantile_is_the_age_at_which_that_share_is_done(
    law: LogNormal, share: float, after: float
) -> None:
    age = law.quantile(share, after=after)
    assert age >= after
    if law.survival(after) * (1 - share) > 1e-6:
        assert law.done_between(after, age) == pytest.approx(share, abs=1e-6)


@given(laws, ages, ages, ages)
def test_what_may_be_done_between_two_ages_grows_with_the_time_between(
    law: LogNormal, one: float, two: float, three: float
) -> None:
    since, soon, late = sorted((one, two, three))
    assert 0.0 <= law.done_between(since, soon) <= law.done_between(since, late) <= 1.0
    assert law.done_between(since, since) in {0.0, 1.0}


@pytest.mark.parametrize("law", LAWS)
def test_a_fit_finds_the_law_of_jobs_that_are_all_done(law: LogNormal) -> None:
    found = fit([math.log(took) for took in drawn(law, 500)], [], VAGUE)
    assert found.median == pytest.approx(law.median, rel=0.08)
    assert found.sigma == pytest.approx(law.sigma, rel=0.1)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_fit_to_a_young_batch_is_not_deceived_by_its_quickest_jobs(law: LogNormal, share: float) -> None:
    durations = drawn(law, 400)
    now = law.quantile(share)
    done = [math.log(took) for took in durations if took <= now]
    naive = math.exp(fmean(done))
    found = fit(done, [(math.log(now), len(durations) - len(done))], VAGUE)

    assert naive < (0.95 if law is STEADY else 0.8) * law.median
    assert found.median == pytest.approx(law.median, rel=0.15)
    assert found.sigma == pytest.approx(law.sigma, rel=0.2)


def test_a_fit_to_ten_jobs_is_no_surer_than_ten_jobs_allow() -> None:
    logs = [math.log(8.0)] * 10
    assert (
        fit(logs, [], Prior(math.log(8.0), 0.5)).sigma
        > fit(logs * 20, [], Prior(math.log(8.0), 0.5)).sigma
        > 0
    )


@given(
    st.lists(st.floats(-5, 9), max_size=30),
    st.lists(st.tuples(st.floats(-3, 9), st.integers(1, 999)), max_size=9),
)
def test_a_fit_is_a_usable_law_whatever_was_seen(logs: list[float], running: list[tuple[float, int]]) -> None:
    law = fit(logs, running, VAGUE)
    assert math.isfinite(law.mu)
    assert 0.0 < law.sigma < 100.0
    assert math.isfinite(law.quantile(0.99, after=5.0))


# The plan.


def looks_and_delay(next_look: Callable[[float], float], durations: Sequence[float]) -> tuple[float, float]:
    """Looks per job and mean delay, where `next_look` gives the age at which a job is looked at again."""
    looks, delays = 0, []
    for took in durations:
        age = 0.0
        while age < took:
            age = next_look(age)
            looks += 1
        delays.append(age - took)
    return looks / len(durations), fmean(delays)


@pytest.mark.parametrize(
    ("law", "delay", "best"),
    [(SMALL, 0.87, 4.0), (STEADY, 0.94, 4.0), (LARGE, 7.6, 4.1), (SMALL, 0.33, 10.0)],
)
def test_a_plan_reaches_its_delay_with_hardly_more_than_the_fewest_looks(
    law: LogNormal, delay: float, best: float
) -> None:
    """`best` is the optimum for this delay (Barlow, Hunter and Proschan 1963), found by simulation."""
    ages = plan.poll_ages(law.sigma, delay / law.median)

    def next_look(age: float) -> float:
        planned = plan.age_after(ages, age)
        return age * 1.3 if planned is None else planned

    looks, mean = looks_and_delay(next_look, [took / law.median for took in drawn(law, 20_000)])
    assert mean * law.median == pytest.approx(delay, rel=0.1)
    assert looks * mean <= 1.06 * best * delay


@settings(max_examples=10, deadline=None)
@given(st.floats(0.05, 1.5), st.floats(1e-4, 0.3))
def test_no_plan_through_the_same_points_is_cheaper(sigma: float, price: float) -> None:
    """Against all next looks from all points, not only those that are expected to be good."""
    grid = plan._Grid(sigma)
    delay, ages = grid.solve(price)
    last = len(grid.times) - 1
    costs = [0.0] * (last + 1)
    costs[last] = (1.0 - grid.done[last]) * (0.3 * grid.times[last] + price)
    for here in range(last - 1, -1, -1):
        done, part = grid.done[here], grid.part[here]
        costs[here] = price * (1.0 - done) + min(
            grid.times[there] * (grid.done[there] - done) - (grid.part[there] - part) + costs[there]
            for there in range(here + 1, last + 1)
        )

    still = [1.0 - grid.done[grid.times.index(age)] for age in (0.0, *ages)]
    assert delay + price * sum(still) == pytest.approx(costs[0], rel=5e-3)


def test_a_new_plan_takes_a_few_milliseconds() -> None:
    """The event loop stands still meanwhile."""
    began = time.process_time()
    for number in range(20):
        plan._planned.__wrapped__(-150 + 9 * number, -200 + 8 * number)
    assert time.process_time() - began < 20 * 0.015


@settings(max_examples=25)
@given(st.floats(0.05, 2.0), st.floats(0.02, 2.0))
def test_a_plan_goes_forward_and_a_longer_delay_takes_no_more_looks(sigma: float, delay: float) -> None:
    ages = plan.poll_ages(sigma, delay)
    assert ages[0] > 0.0
    assert all(earlier < later for earlier, later in pairwise(ages))
    assert len(plan.poll_ages(sigma, 2 * delay)) <= len(ages)


def test_the_look_after_an_age_is_the_first_one_past_it() -> None:
    assert [plan.age_after((1.0, 2.0), age) for age in (0.0, 1.0, 1.5, 2.0)] == [1.0, 2.0, 2.0, None]


# The schedule.


def batch(schedule: Schedule, durations: Sequence[float], size: int | None = None) -> tuple[float, float]:
    """Looks per job and mean delay of jobs that were all submitted at once, learning as it goes."""
    order = count()
    due = [(schedule.first(size, 0.0), next(order), took, 0.0) for took in durations]
    heapq.heapify(due)
    looks, delays, refit_at = 0, [], 0.0
    while due:
        now, _, took, seen = heapq.heappop(due)
        if now >= refit_at:
            schedule.refit((size, age) for _, _, _, age in due if age)
            refit_at = now + 1.0
        looks += 1
        if now >= took:
            delays.append(now - took)
            schedule.learn(size, now, running_at=seen)
        else:
            heapq.heappush(due, (now + schedule.next(size, now), next(order), took, now))
    return looks / len(durations), fmean(delays)


@pytest.fixture(autouse=True)
def _the_same_dice() -> None:
    """What is kept of a batch is a sample; the figures here must not depend on which."""
    random.seed(7)


def schedule(durations: Durations | None = None, polling: Polling = POLLING) -> Schedule:
    return Schedule(polling, KIND, durations or Durations(), random=random.Random(3))


def experienced(law: LogNormal, number: int = 100, polling: Polling = POLLING) -> Schedule:
    """A schedule with finished jobs of a batch before."""
    known = Durations()
    for took in drawn(law, number, seed=2):
        known.add(KIND, None, took)
    known.close(KIND)
    return schedule(known, polling)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    "polling", [Polling(2.0, 1.5), Polling(4.0, 4.0)], ids=lambda advice: f"{advice.every} s"
)
def test_a_first_batch_is_served_as_the_service_advises_or_better(law: LogNormal, polling: Polling) -> None:
    durations = drawn(law, 4_000)
    looks, delay = batch(schedule(polling=polling), durations)
    fixed, late = looks_and_delay(lambda age: age + (polling.every if age else polling.first), durations)

    assert delay <= late * 1.03  # one in a hundred is chance
    assert looks <= fixed * 1.005


@pytest.mark.parametrize(
    ("law", "best", "delay"), [(SMALL, 3.48, 1.0), (STEADY, 3.76, 1.0), (LARGE, 31.2, 2.3)]
)
def test_a_second_batch_is_planned(law: LogNormal, best: float, delay: float) -> None:
    """`best` is the least product of looks and delay, where the law is known exactly (simulated)."""
    looks, late = batch(experienced(law), drawn(law, 1_000))
    assert late <= 1.1 * delay
    assert looks * late <= 1.15 * best


def test_a_large_batch_does_not_deceive_itself_while_it_ends() -> None:
    """Only a sample of what ended is kept: what still runs must not outweigh it."""
    learning = experienced(STEADY)
    for number, took in enumerate(sorted(drawn(STEADY, 3_000)), start=1):
        learning.learn(None, took)
        if number % 500 == 0:
            learning.refit([(None, took)] * (3_000 - number))
            law = learning.expected(None)
            assert law
            assert law.median == pytest.approx(STEADY.median, rel=0.1)
            assert law.sigma == pytest.approx(STEADY.sigma, rel=0.25)


def test_an_end_between_two_looks_is_learned_as_it_is_likely_and_not_as_the_middle() -> None:
    learning = experienced(STEADY, 50)
    for _ in range(500):  # the first look of each job, at 16 s, sees that it has ended
        learning.learn(None, 16.0, running_at=0.0)
    (logs,) = learning.durations.of(KIND).values()
    quick = [math.exp(log) for log in logs[50:]]
    assert fmean(quick) == pytest.approx(14.6, rel=0.05)
    assert max(quick) <= 16.0


def test_an_end_that_may_have_been_long_ago_teaches_nothing() -> None:
    learning = schedule()
    for _ in range(50):
        learning.learn(None, 3_600.0, running_at=0.0)
    learning.refit(())
    assert learning.expected(None) is None


@pytest.mark.parametrize("law", LAWS)
def test_ten_finished_jobs_are_enough_to_plan_by(law: LogNormal) -> None:
    assert experienced(law, 9).expected(None) is None
    known = experienced(law, 10)
    assert known.expected(None)
    looks, late = batch(known, drawn(law, 300))
    best, early = batch(experienced(law, 200), drawn(law, 300))
    assert looks * late <= 1.2 * best * early


def test_what_the_first_batch_taught_is_used_in_the_same_batch_only_to_leave_out_early_looks() -> None:
    young = schedule()
    for took in drawn(STEADY, 100):
        young.learn(None, took)
    young.refit(())

    assert young.next(None, 1.0) > 5.0
    assert young.next(None, 19.0) <= 2.1


@given(st.floats(0.0, 5_000.0), st.sampled_from([0.5, 2.0, 5.0]), st.sampled_from(LAWS))
@settings(max_examples=60)
def test_no_gap_is_below_the_documented_minimum_nor_above_a_minute(
    age: float, least: float, law: LogNormal
) -> None:
    polling = Polling(first=2.0, every=max(2.0, least), at_least=least)
    for jobs in (0, 50):
        gap = experienced(law, jobs, polling).next(None, age)
        assert least <= gap <= 60.0


def test_past_the_end_of_the_plan_gaps_grow_until_the_longest() -> None:
    known = experienced(SMALL)
    gaps = [known.next(None, age) for age in (100.0, 200.0, 400.0, 800.0, 10_000.0)]
    assert all(later > 1.5 * earlier or later == 60.0 for earlier, later in pairwise(gaps))
    assert gaps[-1] == 60.0


def test_failed_looks_are_repeated_ever_more_slowly_but_at_least_once_a_minute() -> None:
    gaps = [schedule().after_errors(None, 10.0, errors) for errors in (1, 3, 5, 100)]
    assert gaps == sorted(gaps)
    assert gaps[-1] <= 63.0


@pytest.mark.parametrize("age", [0.0, 3.0, 1e4])
@pytest.mark.parametrize("known", [0, 50])
def test_a_watchdog_looks_late_but_it_does_look(age: float, known: int) -> None:
    wait = experienced(SMALL, known).watchdog(None, age)
    assert 5 * POLLING.every * 0.9 <= wait <= 252.0


def test_documents_of_different_size_are_learned_apart() -> None:
    known = Durations()
    for took in drawn(SMALL, 100):
        known.add(KIND, 10_000, took)
    for took in drawn(LARGE, 100):
        known.add(KIND, 10_000_000, took)
    learned = schedule(known)

    small, large, between = (learned.expected(size) for size in (9_000, 9_000_000, 300_000))
    assert small
    assert large
    assert between
    assert small.median == pytest.approx(8, rel=0.2)
    assert large.median == pytest.approx(45, rel=0.35)
    assert small.median < between.median < large.median


def test_a_size_that_was_hardly_seen_is_held_near_all_others() -> None:
    known = Durations()
    for took in drawn(STEADY, 100):
        known.add(KIND, 10_000, took)
    known.add(KIND, 10_000_000, 1.0)
    law = schedule(known).expected(10_000_000)
    assert law
    assert law.median > 5.0


@pytest.mark.parametrize(
    ("size", "expected"),
    [(None, -1), (0, 0), (16_384, 0), (16_385, 1), (65_536, 1), (1 << 20, 3), (1 << 60, 8)],
)
def test_size_classes_are_fourfold(size: int | None, expected: int) -> None:
    assert size_class(size) == expected


# What is kept.


def test_a_batch_of_thousands_leaves_an_even_sample_though_its_slowest_jobs_come_last() -> None:
    medians = []
    for _ in range(20):
        known = Durations()
        for took in range(1, 2_001):
            known.add(KIND, None, float(took))
        known.close(KIND)
        (logs,) = known.of(KIND).values()
        assert len(logs) == 200
        medians.append(math.exp(median(logs)))
    assert fmean(medians) == pytest.approx(1_000, rel=0.06)


def test_a_new_batch_replaces_half_of_what_was_known() -> None:
    known = Durations()
    for seconds in (1.0, 100.0):
        for _ in range(500):
            known.add(KIND, None, seconds)
        known.close(KIND)
    (logs,) = known.of(KIND).values()
    assert sorted(logs) == [0.0] * 100 + [round(math.log(100.0), 3)] * 100


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_a_duration_that_is_none_is_not_learned(seconds: float) -> None:
    known = Durations()
    known.add(KIND, None, seconds)
    assert known.of(KIND) == {}


def learned(path: Path | None, number: int = 30, kind: tuple[str, ...] = KIND) -> Durations:
    known = Durations(path)
    for took in drawn(SMALL, number):
        known.add(kind, 10_000, took)
    known.close(kind)
    return known


def test_what_was_learned_is_there_in_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "durations.json"
    known = learned(path)
    again = Durations(path)

    assert again.of(KIND) == known.of(KIND) != {}
    assert schedule(again).expected(10_000) is not None
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_size < 10_000


NESTED = "[" * 100_000
HOSTILE = [
    "",
    "null",
    "[]",
    "{}",
    "\0",
    NESTED,
    '{"version": 1}',
    '{"version": 1, "kinds": {}}',
    '{"version": 1, "kinds": [1]}',
    '{"version": 1, "kinds": [{"kind": ["a"], "logs": []}]}',
    '{"version": 1, "kinds": [{"kind": ["a"], "logs": {"x": [1]}}]}',
    '{"version": 1, "kinds": [{"kind": ["a"], "logs": {"0": "12"}}]}',
    '{"version": 1, "kinds": [{"kind": ["a"], "logs": {"0": [NaN, Infinity, 1e999, -1e999, 99]}}]}',
    '{"version": 1, "kinds": [{"kind": ["a"], "logs": {"0": [1%s]}}]}' % ("0" * 400),
    '{"version": 1, "kinds": [{"kind": ["a"], "logs": {"0": [{"a": 1}]}}]}',
    '{"version": 1, "kinds": [{"kind": 7, "logs": {}}]}',
    '{"version": 2, "kinds": [{"kind": ["toy", "https://toy.test", "", ""], "logs": {"0": [1.0]}}]}',
    '{"version": "1", "kinds": []}',
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:80]))
def test_a_file_that_is_broken_or_of_another_version_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "durations.json"
    path.write_text(text)
    assert Durations(path).of(KIND) == {}

    known = learned(path)
    assert Durations(path).of(KIND) == known.of(KIND) != {}


def test_a_file_of_undecodable_bytes_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    path.write_bytes(b"\xff\xfe{}")
    assert Durations(path).of(KIND) == {}


def test_a_file_that_somebody_blew_up_is_not_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    sizes = {str(size): [1.0] * 500 for size in range(3_000)}
    path.write_text(json.dumps({"version": 1, "kinds": [{"kind": list(KIND), "logs": sizes}]}))
    assert sum(map(len, Durations(path).of(KIND).values())) <= 10 * 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["version", "kinds", "kind", "logs", "0", "-1"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values, json_values)
@settings(max_examples=60)
def test_no_json_stops_a_run(value: Any, inner: Any) -> None:
    for said in (value, {"version": 1, "kinds": [{"kind": ["a"], "logs": inner}]}):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "durations.json"
            path.write_text(json.dumps(said))
            known = Durations(path)
        known.add(KIND, None, 1.0)
        assert known.of(KIND) == {-1: [0.0]}


FULL_DISK = """
import resource, sys
from pathlib import Path
from prefect_docjobs.waiting.schedule import Durations

known = Durations(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
for number in range(50):
    known.add(("other",), None, 1.0 + number)
known.close(("other",))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are those of POSIX")
def test_a_file_that_could_not_be_written_whole_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    learned(path)
    before = path.read_bytes()
    subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], check=True)

    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_path_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "durations.json", Path("/proc/none/durations.json")):
        assert learned(path).of(KIND) != {}
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_only_so_many_kinds_are_kept_and_those_used_last(tmp_path: Path) -> None:
    known = Durations(tmp_path / "durations.json")
    for number in range(100):
        known.add((f"kind {number}",), None, 1.0)
    kept = [number for number in range(100) if known.of((f"kind {number}",))]
    assert kept == list(range(36, 100))


def test_ten_runs_of_one_job_teach_as_much_as_one_run_of_ten(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    for took in drawn(SMALL, 10):
        one_run = Durations(path)
        assert schedule(one_run).expected(10_000) is None
        one_run.add(KIND, 10_000, took)
        one_run.close(KIND)

    one_by_one, together = Durations(path), learned(None, 10)
    assert sorted(one_by_one.of(KIND)[0]) == sorted(together.of(KIND)[0])
    assert schedule(one_by_one).expected(10_000) is not None


def test_what_processes_learn_at_the_same_time_is_put_together(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    processes = [Durations(path) for _ in range(3)]
    for number, process in enumerate(processes):
        for kind in (KIND, (f"kind {number}",)):
            process.add(kind, None, 1.0 + number)
            process.close(kind)
            process._saved_at = -math.inf  # the next one is not in quick succession

    again = Durations(path)
    assert sorted(again.of(KIND)[-1]) == [round(math.log(1.0 + number), 3) for number in range(3)]
    assert all(again.of((f"kind {number}",)) for number in range(3))


def test_many_small_batches_in_quick_succession_are_written_down_together(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    known, writes, before = Durations(path), 0, ""
    for took in drawn(SMALL, 200):
        known.add(KIND, None, took)
        known.close(KIND)
        writes += before != (before := path.read_text())
    assert writes == 20  # the first job, then each ten, and the last nine not yet
    assert len(Durations(path).of(KIND)[-1]) == 191


def test_a_batch_without_an_end_writes_nothing(tmp_path: Path) -> None:
    known = Durations(tmp_path / "durations.json")
    known.close(KIND)
    assert os.listdir(tmp_path) == []


def test_the_durations_of_a_process_are_shared_and_their_file_can_be_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_DOCJOBS_DURATIONS", str(tmp_path / "own.json"))
    assert shared_durations() is shared_durations()
    for took in drawn(SMALL, 10):
        shared_durations().add(KIND, None, took)
    shared_durations().close(KIND)
    assert os.listdir(tmp_path) == ["own.json"]

    monkeypatch.delenv("PREFECT_DOCJOBS_DURATIONS")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    for took in drawn(SMALL, 10):
        shared_durations().add(KIND, None, took)
    shared_durations().close(KIND)
    assert (tmp_path / "home" / "docjobs" / "durations.json").exists()
