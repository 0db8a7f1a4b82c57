"""The jobs of the simulator without HTTP: durations, failures, states, counters."""

from __future__ import annotations

import statistics
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.simulated import HandClock, settled

from prefect_docjobs.simulator.backend import Backend, Job, Phase, Source
from prefect_docjobs.simulator.faults import Fault, FaultSource, TokenBucket
from prefect_docjobs.simulator.reading.pages import UnreadableDocument
from prefect_docjobs.simulator.settings import Duration, RateLimit, Settings
from prefect_docjobs.simulator.stats import nearest_rank, summary

NOON = datetime(2026, 2, 3, 12, 0, tzinfo=timezone.utc)


def make_backend(settings: Settings | None = None) -> tuple[Backend, HandClock]:
    clock = HandClock()
    return Backend(settings or settled(), clock=clock, started_at=NOON), clock


def text(number: int) -> Source:
    return Source.from_bytes(f"Invoice number: N-{number}\nTotal: {number}.50".encode(), f"{number}.txt")


def submit(backend: Backend, source: Source | None = None, service: str = "mindee") -> Job:
    return backend.submit(service, "extraction", source or text(1))


def outcomes(backend: Backend, numbers: list[int]) -> dict[int, tuple[float, bool, bool]]:
    jobs = {number: submit(backend, text(number)) for number in numbers}
    return {
        number: (
            round(job.ends_at - job.created_at, 6) if not job.is_stuck else 0.0,
            job.is_stuck,
            bool(job.failure),
        )
        for number, job in jobs.items()
    }


def test_a_job_is_queued_then_processed_then_done() -> None:
    backend, clock = make_backend()
    job = submit(backend)
    seen = [backend.observe(job)]
    for seconds in (1.9, 0.2, 5.8, 0.1):
        clock.advance(seconds)
        seen.append(backend.observe(job))
    assert seen == [Phase.QUEUED, Phase.QUEUED, Phase.PROCESSING, Phase.PROCESSING, Phase.SUCCEEDED]


def test_a_stuck_job_never_ends_and_a_failed_one_has_its_reason() -> None:
    backend, clock = make_backend(settled(stuck_share=1.0))
    stuck = submit(backend)
    clock.advance(1e9)
    assert stuck.is_stuck
    assert stuck.phase(clock()) is Phase.PROCESSING

    backend, clock = make_backend(settled(failed_share=1.0))
    failed = submit(backend)
    clock.advance(8)
    assert failed.phase(clock()) is Phase.FAILED
    assert failed.failure is not None
    assert failed.failure.reason == "chance"
    assert backend.fetch(failed) is None


def test_an_unreadable_document_fails_and_keeps_its_neighbours_name_out_of_the_reason() -> None:
    backend, clock = make_backend()
    first = submit(backend, Source.from_bytes(b"%PDF-1.4 broken", "secret-name.pdf"))
    second = submit(backend, Source.from_bytes(b"%PDF-1.4 broken", "other.pdf"))
    clock.advance(8)
    assert first.phase(clock()) is Phase.FAILED
    assert second.failure is not None
    assert second.failure.reason == "unreadable"
    assert "secret-name" not in second.failure.detail
    with pytest.raises(UnreadableDocument):
        backend.read(second)


def test_a_url_is_answered_from_the_table_as_it_was_at_the_submit() -> None:
    backend, clock = make_backend()
    backend.documents["https://a.example/x/acme.txt?y=1"] = b"Invoice number: A-1"
    known = submit(backend, Source.from_url("https://a.example/x/acme.txt?y=1"))
    unknown = submit(backend, Source.from_url("https://a.example/none.txt"))
    backend.documents.clear()
    clock.advance(8)
    assert known.source.name == "acme.txt"
    assert backend.read(known).find_field("invoice_number").value == "A-1"
    assert unknown.failure is not None
    assert unknown.failure.reason == "unknown_url"
    assert set(backend.report()["submits"]["by_content"]) == {
        "https://a.example/x/acme.txt?y=1",
        "https://a.example/none.txt",
    }


def test_a_fate_depends_on_seed_and_content_and_not_on_the_order_of_submits() -> None:
    settings = Settings(seed=7, failed_share=0.3, stuck_share=0.2)
    numbers = list(range(60))
    forward = outcomes(make_backend(settings)[0], numbers)
    backward = outcomes(make_backend(settings)[0], numbers[::-1])
    other_seed = outcomes(make_backend(settings.merged({"seed": 8}))[0], numbers)
    assert forward == backward
    assert forward != other_seed
    assert {stuck for _, stuck, _ in forward.values()} == {True, False}


def test_a_second_submit_of_the_same_content_is_another_job_with_a_fate_of_its_own() -> None:
    backend, _ = make_backend(Settings(duration=Duration(law="uniform", low=1, high=100)))
    first, second = submit(backend), submit(backend)
    assert (first.index, second.index) == (0, 1)
    assert first.id != second.id
    assert first.ends_at != second.ends_at


@pytest.mark.parametrize(
    ("duration", "low", "high", "median"),
    [
        (Duration(law="fixed", seconds=3.0), 3.0, 3.0, 3.0),
        (Duration(law="uniform", low=2.0, high=4.0), 2.0, 4.0, 3.0),
        (Duration(law="lognormal", median=5.0, sigma=0.5), 0.3, 80.0, 5.0),
    ],
)
def test_durations_follow_their_law(duration: Duration, low: float, high: float, median: float) -> None:
    backend, _ = make_backend(Settings(duration=duration))
    lasted = [
        job.ends_at - job.created_at for job in (submit(backend, text(number)) for number in range(1000))
    ]
    assert min(lasted) >= low - 1e-9
    assert max(lasted) <= high + 1e-9
    assert statistics.median(lasted) == pytest.approx(median, rel=0.08)


def test_a_job_cannot_be_found_in_its_first_moments_nor_by_another_service() -> None:
    backend, clock = make_backend(settled(not_found_after_submit=2.0))
    job = submit(backend)
    assert backend.find("mindee", job.id) is None
    clock.advance(2.0)
    assert backend.find("mindee", job.id) is job
    assert backend.find_result("mindee", job.result_id) is job
    assert backend.find("numind", job.id) is None
    assert backend.stats.given["404_after_submit"] == 1


def test_cancelling_ends_a_running_job_and_leaves_a_finished_one_alone() -> None:
    backend, clock = make_backend()
    running, finished = submit(backend), submit(backend)
    assert backend.cancel(running) is Phase.CANCELLED
    assert running.ended_at(clock()) == clock()
    clock.advance(8)
    assert backend.cancel(finished) is Phase.SUCCEEDED
    assert backend.fetch(running) is None


def test_a_single_use_result_is_given_out_once() -> None:
    backend, clock = make_backend(settled(single_use_results=True))
    job = submit(backend)
    assert backend.fetch(job) is None
    clock.advance(8)
    assert backend.fetch(job) is not None
    assert backend.fetch(job) is None
    assert job.fetches == 1


def test_the_report_counts_submits_polls_fetches_and_the_time_until_the_end_was_seen() -> None:
    backend, clock = make_backend()
    polled, listed, unseen = submit(backend, text(1)), submit(backend, text(2)), submit(backend, text(1))
    backend.observe(polled)
    clock.advance(9.0)
    backend.observe(polled)
    clock.advance(1.0)
    backend.observe(listed, "list")
    backend.observe(polled)
    backend.fetch(polled)
    report = backend.report()
    assert report["submits"]["total"] == 3
    assert report["submits"]["repeated"] == [
        {"service": "mindee", "product": "extraction", "content": text(1).content, "count": 2}
    ]
    assert report["jobs"] == {"total": 3, "succeeded": 3}
    assert report["polls_per_job"] == {"count": 3, "mean": 1.0, "p50": 0, "p95": 3, "max": 3}
    assert report["observations_per_job"]["max"] == 1
    assert report["detection_latency"] == pytest.approx(
        {"count": 2, "mean": 1.5, "p50": 1.0, "p95": 2.0, "max": 2.0}
    )
    assert report["fetches"] == 1
    assert unseen.detection_latency is None


def test_a_reset_forgets_jobs_and_counters_and_keeps_the_table_of_documents() -> None:
    backend, _ = make_backend()
    backend.documents["https://a.example/x"] = b"x"
    job = submit(backend)
    backend.reset()
    assert backend.find("mindee", job.id) is None
    assert backend.report()["submits"]["total"] == 0
    assert backend.documents
    assert submit(backend).index == 0


def test_dates_are_utc_and_follow_the_clock() -> None:
    backend, clock = make_backend()
    clock.advance(90.5)
    assert backend.wall(backend.now()) == datetime(2026, 2, 3, 12, 1, 30, 500_000, tzinfo=timezone.utc)


def test_pages_of_jobs_are_in_the_order_of_their_submits() -> None:
    backend, _ = make_backend()
    jobs = [submit(backend, text(number)) for number in range(5)]
    submit(backend, service="numind")
    total, page = backend.page("mindee", 1, 2)
    assert (total, list(page)) == (5, jobs[1:3])
    assert backend.page("unsiloed", 0, 10) == (0, [])


@given(
    limit=st.builds(RateLimit, per_second=st.floats(0.1, 50), burst=st.integers(1, 20)),
    pauses=st.lists(st.floats(0, 2), min_size=1, max_size=60),
)
def test_a_bucket_never_lets_more_through_than_its_rate_and_burst(
    limit: RateLimit, pauses: list[float]
) -> None:
    bucket, now, passed = TokenBucket(), 0.0, 0
    for pause in pauses:
        now += pause
        passed += bucket.take(limit, now) == 0.0
    assert limit.per_second is not None
    assert passed <= limit.burst + now * limit.per_second + 1e-6


def test_waiting_as_long_as_a_bucket_says_gets_a_token() -> None:
    bucket, limit = TokenBucket(), RateLimit(per_second=4.0, burst=2)
    assert [bucket.take(limit, 0.0), bucket.take(limit, 0.0)] == [0.0, 0.0]
    wait = bucket.take(limit, 0.0)
    assert wait == 0.25
    assert bucket.take(limit, wait) == 0.0


def test_faults_come_in_their_shares_and_repeat_with_the_seed() -> None:
    shares = {"unavailable": 0.2, "bad_gateway": 0.1, "dropped": 0.05, "lost": 0.05}
    backend, _ = make_backend(settled(seed=3, faults={"status": shares}))
    source, again = FaultSource(backend), FaultSource(backend)
    faults = [source.draw("status") for _ in range(4000)]
    assert faults[:100] == [again.draw("status") for _ in range(100)]
    for fault, share in (
        (Fault.UNAVAILABLE, 0.2),
        (Fault.BAD_GATEWAY, 0.1),
        (Fault.DROPPED, 0.05),
        (Fault.LOST, 0.05),
    ):
        assert faults.count(fault) / 4000 == pytest.approx(share, abs=0.02)
    assert source.draw("submit") is None
    backend.reset()
    assert [source.draw("status") for _ in range(100)] == faults[:100]


def test_settings_merge_patches_and_refuse_what_they_do_not_know() -> None:
    settings = settled(faults={"status": {"dropped": 0.1}})
    merged = settings.merged({"faults": {"status": {"lost": 0.2}}, "duration": None})
    assert merged.faults.status.dropped == 0.1
    assert merged.faults.status.lost == 0.2
    assert merged.duration == Duration()
    for wrong in ({"fail_share": 0.1}, {"failed_share": 1.1}, {"duration": {"low": 5}}):
        with pytest.raises(ValidationError):
            settings.merged(wrong)
    with pytest.raises(ValidationError, match="must not add up"):
        settings.merged({"faults": {"result": {"dropped": 0.6, "lost": 0.6}}})


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2.0), (0.95, 4.0), (0.0, 1.0), (1.0, 4.0)])
def test_percentiles_are_nearest_rank(share: float, expected: float) -> None:
    assert nearest_rank([1.0, 2.0, 3.0, 4.0], share) == expected


def test_a_summary_of_nothing_is_not_zero() -> None:
    assert summary([]) == {"count": 0, "mean": None, "p50": None, "p95": None, "max": None}
