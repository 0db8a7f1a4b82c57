"""When to poll next: the law of durations, the polls that are best for it, and what is kept of the past."""

from __future__ import annotations

import heapq
import json
import math
import os
import random
import subprocess
import sys
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
from prefect_docjobs.waiting.durations import Durations, LogNormal, Prior, fit, shared_durations, size_class
from prefect_docjobs.waiting.schedule import Schedule, next_age

KIND = ("toy", "https://toy.test", "extraction", "")
POLLING = Polling(first=2.0, every=2.0)
SMALL, STEADY, LARGE = LogNormal(math.log(8), 0.5), LogNormal(math.log(20), 0.2), LogNormal(math.log(45), 0.8)
WIDE = LogNormal(math.log(8), 1.0)
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


# The polls that are best for a law.


class BestPolls:
    """The optimum: the fewest polls for a mean delay, by dynamic programming over a grid of ages.

    Barlow, Hunter and Proschan, "Optimum checking procedures", 1963. The law is log-normal with median 1.
    """

    POINTS = 300

    def __init__(self, sigma: float) -> None:
        scores = [-3.3 + 7.0 * point / (self.POINTS - 1) for point in range(self.POINTS)]
        mean = math.exp(sigma * sigma / 2)
        self.ages = [0.0, *(math.exp(sigma * score) for score in scores)]
        self.done = [0.0, *(NormalDist().cdf(score) for score in scores)]
        self.part = [0.0, *(mean * NormalDist().cdf(score - sigma) for score in scores)]

    def polls(self, delay: float) -> float:
        """The fewest polls a job for this mean delay, in medians."""
        low, high = 1e-6, 10.0
        for _ in range(18):  # the price of a poll at which this delay is best
            price = math.sqrt(low * high)
            polls, reached = self._cheapest(price)
            low, high = (price, high) if reached < delay else (low, price)
        return polls * reached / delay  # it is inversely proportional to the delay, nearly

    def _cheapest(self, price: float) -> tuple[float, float]:
        last = self.POINTS
        cost = [(0.0, 0.0, 0.0)] * (last + 1)  # with the polls and the delay that it consists of
        following = last
        for here in range(last - 1, -1, -1):
            left = 1.0 - self.done[here]
            options = (
                (price * left + late + cost[there][0], left + cost[there][1], late + cost[there][2], there)
                for there in range(max(here + 1, following - 40), following + 1)
                for late in [
                    self.ages[there] * (self.done[there] - self.done[here])
                    - (self.part[there] - self.part[here])
                ]
            )
            *best, following = min(options)
            cost[here] = (best[0], best[1], best[2])
        return cost[0][1], cost[0][2]


def polls_and_delay(next_poll: Callable[[float], float], durations: Sequence[float]) -> tuple[float, float]:
    """Polls a job and mean delay, where `next_poll` gives the age at which a job is polled again."""
    polls, delays = 0, []
    for took in durations:
        age = 0.0
        while age < took:
            age = next_poll(age)
            polls += 1
        delays.append(age - took)
    return polls / len(durations), fmean(delays)


@pytest.mark.parametrize(
    ("law", "delay"),
    [(SMALL, 0.87), (SMALL, 0.33), (STEADY, 0.94), (LARGE, 2.16), (LARGE, 7.6), (WIDE, 0.94)],
)
def test_the_polls_are_hardly_more_than_the_fewest_for_their_delay(law: LogNormal, delay: float) -> None:
    def next_poll(age: float) -> float:
        planned = next_age(law.sigma, delay / law.median, age)
        return age * 1.3 if planned is None else planned

    polls, mean = polls_and_delay(next_poll, [took / law.median for took in drawn(law, 20_000)])
    assert mean * law.median == pytest.approx(delay, rel=0.05)
    assert polls <= 1.05 * BestPolls(law.sigma).polls(mean)


@settings(max_examples=25)
@given(st.floats(0.05, 2.0), st.floats(0.02, 2.0), st.floats(0.0, 5.0))
def test_the_next_poll_comes_later_and_for_a_longer_delay_not_earlier(
    sigma: float, delay: float, age: float
) -> None:
    soon, late = next_age(sigma, delay, age), next_age(sigma, 2 * delay, age)
    assert soon is None or soon > age
    assert late is None or soon is None or late >= soon


# The schedule.


def batch(schedule: Schedule, durations: Sequence[float], size: int | None = None) -> tuple[float, float]:
    """Polls per job and mean delay of jobs that were all submitted at once, learning as it goes."""
    order = count()
    due = [(schedule.first(size, 0.0), next(order), took, 0.0) for took in durations]
    heapq.heapify(due)
    polls, delays, refit_at = 0, [], 0.0
    while due:
        now, _, took, seen = heapq.heappop(due)
        if now >= refit_at:
            schedule.refit(((1, size, age) for _, _, _, age in due if age), now=now)
            refit_at = now + 1.0
        polls += 1
        if now >= took:
            delays.append(now - took)
            schedule.learn(size, now, running_at=seen)
        else:
            heapq.heappush(due, (now + schedule.next(size, now), next(order), took, now))
    return polls / len(durations), fmean(delays)


def pipeline(
    schedule: Schedule, durations: Sequence[float], at_once: int = 20
) -> tuple[list[int], list[float]]:
    """Polls and delay of each job, in the order of their ends; so many run at once."""
    order, waiting = count(), iter(durations)
    due: list[tuple[float, int, float, float, int, float, int]] = []
    polls_of, delays, refit_at = list[int](), list[float](), 0.0

    def begin(now: float) -> None:
        took = next(waiting, None)
        if took is not None:
            first = now + schedule.first(None, 0.0)
            heapq.heappush(due, (first, next(order), now, took, schedule.begin(), 0.0, 0))

    for _ in range(at_once):
        begin(0.0)
    while due:
        now, _, began, took, cohort, seen, polls = heapq.heappop(due)
        if now >= refit_at:
            schedule.refit(((of, None, age) for _, _, _, _, of, age, _ in due if age), now=now)
            refit_at = now + 1.0
        age = now - began
        if age >= took:
            polls_of.append(polls + 1)
            delays.append(age - took)
            schedule.learn(None, age, cohort=cohort, running_at=seen)
            begin(now)
        else:
            later = (now + schedule.next(None, age), next(order), began, took, cohort, age, polls + 1)
            heapq.heappush(due, later)
    return polls_of, delays


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
    known.save(KIND)
    return schedule(known, polling)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    "polling", [Polling(2.0, 1.5), Polling(4.0, 4.0)], ids=lambda advice: f"{advice.every} s"
)
def test_a_first_batch_is_served_as_the_service_advises_or_better(law: LogNormal, polling: Polling) -> None:
    durations = drawn(law, 4_000)
    polls, delay = batch(schedule(polling=polling), durations)
    fixed, late = polls_and_delay(lambda age: age + (polling.every if age else polling.first), durations)

    assert delay <= late * 1.03  # one in a hundred is chance
    assert polls <= fixed * 1.005


@pytest.mark.parametrize(
    ("law", "best", "delay"), [(SMALL, 3.48, 1.0), (STEADY, 3.76, 1.0), (LARGE, 31.2, 2.3)]
)
def test_a_second_batch_is_planned(law: LogNormal, best: float, delay: float) -> None:
    """`best` is the least product of polls and delay, where the law is known exactly (simulated)."""
    polls, late = batch(experienced(law), drawn(law, 1_000))
    assert late <= 1.1 * delay
    assert polls * late <= 1.15 * best


def test_a_service_that_changes_its_pace_is_followed() -> None:
    """From LN(8 s, .5) to LN(20 s, .2); what is compared is the product of polls and delay."""
    polls, delays = list[int](), list[float]()
    for seed in range(8):
        learning = experienced(SMALL, 200)
        learning.random.seed(seed)
        some_polls, some_delays = pipeline(learning, drawn(STEADY, 400, seed=seed))
        polls += some_polls
        delays += some_delays

    def product(first: int, last: int) -> float:
        of = [place for place in range(len(polls)) if first <= place % 400 < last]
        return fmean(polls[place] for place in of) * fmean(delays[place] for place in of)

    wanted = 0.94
    fixed, late = polls_and_delay(lambda age: age + 2.0, drawn(STEADY, 4_000))
    assert product(0, 200) <= fixed * late
    assert product(200, 400) <= 1.1 * BestPolls(STEADY.sigma).polls(wanted / STEADY.median) * wanted


@pytest.mark.parametrize("is_saved", [False, True])
def test_a_large_batch_does_not_deceive_itself_while_it_ends(is_saved: bool) -> None:
    """Only some of what ended is kept: what still runs must not outweigh it, also where a chunk has ended."""
    learning = experienced(STEADY)
    durations = drawn(STEADY, 3_000)
    cohorts = [learning.begin() for _ in durations]
    for number, (took, cohort) in enumerate(sorted(zip(durations, cohorts, strict=True)), start=1):
        learning.learn(None, took, cohort=cohort)
        if number % 500 == 0:
            if is_saved:
                learning.durations.save(KIND)
            running = [cohort for other, cohort in zip(durations, cohorts, strict=True) if other > took]
            learning.refit((cohort, None, took) for cohort in running)
            law = learning.expected(None)
            assert law
            assert law.median == pytest.approx(STEADY.median, rel=0.1)
            assert law.sigma == pytest.approx(STEADY.sigma, rel=0.25)


def test_an_end_between_two_polls_is_learned_as_it_is_likely_and_not_as_the_middle() -> None:
    learning = experienced(STEADY, 50)
    for _ in range(500):  # the first poll of each job, at 16 s, sees that it has ended
        learning.learn(None, 16.0, running_at=0.0)
    (window,) = learning.durations.windows(KIND).values()
    logs = window.logs
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
    polls, late = batch(known, drawn(law, 300))
    best, early = batch(experienced(law, 200), drawn(law, 300))
    assert polls * late <= 1.2 * best * early


def test_what_the_first_batch_taught_is_used_in_the_same_batch_only_to_leave_out_early_polls() -> None:
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


def test_failed_polls_are_repeated_ever_more_slowly_but_at_least_once_a_minute() -> None:
    gaps = [schedule().after_errors(None, 10.0, errors) for errors in (1, 3, 5, 100)]
    assert gaps == sorted(gaps)
    assert gaps[-1] <= 63.0


@pytest.mark.parametrize("age", [0.0, 3.0, 1e4])
@pytest.mark.parametrize("known", [0, 50])
def test_a_watchdog_polls_late_but_it_does_poll(age: float, known: int) -> None:
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
    for seed in range(20):
        known = Durations()
        begun = [(took, known.begin(KIND)) for took in random.Random(seed).sample(range(1, 2_001), 2_000)]
        for took, cohort in sorted(begun):
            known.add(KIND, None, float(took), cohort=cohort)
        (window,) = known.windows(KIND).values()
        assert 150 <= len(window.logs) <= 200
        medians.append(math.exp(median(window.logs)))
    assert fmean(medians) == pytest.approx(1_000, rel=0.06)


def test_the_newest_jobs_replace_what_was_known() -> None:
    known = Durations()
    for seconds in (1.0, 100.0):
        for _ in range(200):
            known.add(KIND, None, seconds, cohort=known.begin(KIND))
    (window,) = known.windows(KIND).values()
    assert set(window.logs) == {round(math.log(100.0), 3)}
    assert 150 <= len(window.logs) <= 200


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_a_duration_that_is_none_is_not_learned(seconds: float) -> None:
    known = Durations()
    known.add(KIND, None, seconds)
    assert known.windows(KIND) == {}


def learned(path: Path | None, number: int = 30, kind: tuple[str, ...] = KIND) -> Durations:
    known = Durations(path)
    for took in drawn(SMALL, number):
        known.add(kind, 10_000, took)
    known.save(kind)
    return known


def logs(known: Durations) -> dict[int, list[float]]:
    """By size class."""
    return {size: window.logs for size, window in known.windows(KIND).items()}


def test_what_was_learned_is_there_in_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "durations.json"
    known = learned(path)
    again = Durations(path)

    assert logs(again) == logs(known) != {}
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
    assert Durations(path).windows(KIND) == {}

    known = learned(path)
    assert logs(Durations(path)) == logs(known) != {}


def test_a_file_of_undecodable_bytes_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    path.write_bytes(b"\xff\xfe{}")
    assert Durations(path).windows(KIND) == {}


def test_a_file_that_somebody_blew_up_is_not_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    sizes = {str(size): [1.0] * 500 for size in range(3_000)}
    path.write_text(json.dumps({"version": 1, "kinds": [{"kind": list(KIND), "logs": sizes}]}))
    assert sum(len(window.logs) for window in Durations(path).windows(KIND).values()) <= 10 * 200


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
        assert known.windows(KIND)[-1].logs == [0.0]


FULL_DISK = """
import resource, sys
from pathlib import Path
from prefect_docjobs.waiting.durations import Durations

known = Durations(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
for number in range(50):
    known.add(("other",), None, 1.0 + number)
known.save(("other",))
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
        assert learned(path).windows(KIND) != {}
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_only_so_many_kinds_are_kept_and_those_used_last(tmp_path: Path) -> None:
    known = Durations(tmp_path / "durations.json")
    for number in range(100):
        known.add((f"kind {number}",), None, 1.0)
    kept = [number for number in range(100) if known.windows((f"kind {number}",))]
    assert kept == list(range(36, 100))


def test_ten_runs_of_one_job_teach_as_much_as_one_run_of_ten(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    for took in drawn(SMALL, 10):
        one_run = Durations(path)
        assert schedule(one_run).expected(10_000) is None
        one_run.add(KIND, 10_000, took)
        one_run.save(KIND)

    one_by_one, together = Durations(path), learned(None, 10)
    assert sorted(one_by_one.windows(KIND)[0].logs) == sorted(together.windows(KIND)[0].logs)
    assert schedule(one_by_one).expected(10_000) is not None


def test_what_processes_learn_at_the_same_time_is_put_together(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    processes = [Durations(path) for _ in range(3)]
    for number, process in enumerate(processes):
        for kind in (KIND, (f"kind {number}",)):
            process.add(kind, None, 1.0 + number)
            process.save(kind)
            process._saved_at = -math.inf  # the next one is not in quick succession

    again = Durations(path)
    assert sorted(again.windows(KIND)[-1].logs) == [round(math.log(1.0 + number), 3) for number in range(3)]
    assert all(again.windows((f"kind {number}",)) for number in range(3))


def test_many_small_batches_in_quick_succession_are_written_down_together(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    known, writes, before = Durations(path), 0, ""
    for took in drawn(SMALL, 200):
        known.add(KIND, None, took)
        known.save(KIND)
        writes += before != (before := path.read_text())
    assert writes == 20  # the first job, then each ten, and the last nine not yet
    assert len(Durations(path).windows(KIND)[-1].logs) == 150


def test_a_batch_without_an_end_writes_nothing(tmp_path: Path) -> None:
    known = Durations(tmp_path / "durations.json")
    known.save(KIND)
    assert os.listdir(tmp_path) == []


def test_the_durations_of_a_process_are_shared_and_their_file_can_be_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_DOCJOBS_DURATIONS", str(tmp_path / "own.json"))
    assert shared_durations() is shared_durations()
    for took in drawn(SMALL, 10):
        shared_durations().add(KIND, None, took)
    shared_durations().save(KIND)
    assert os.listdir(tmp_path) == ["own.json"]

    monkeypatch.delenv("PREFECT_DOCJOBS_DURATIONS")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    for took in drawn(SMALL, 10):
        shared_durations().add(KIND, None, took)
    shared_durations().save(KIND)
    assert (tmp_path / "home" / "docjobs" / "durations.json").exists()
