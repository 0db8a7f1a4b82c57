"""The goals, and what was measured for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench import budget, crowd, detection, detection_virtual, extraction, ledger
from bench.figures import MEAN, REFUSED, REQUESTS, Row, find
from bench.laws import SHORT
from bench.services import SETTINGS

WAITERS = 10_000


@dataclass(frozen=True)
class Verdict:
    """A goal against its measurement.

    Attributes:
        goal: In words.
        measured: In words.
        met: Whether it is; None when it was not measured.
    """

    goal: str
    measured: str
    met: bool | None


@dataclass(frozen=True)
class _Limit:
    """A figure that must not be larger than a limit."""

    figure: str
    most: float
    unit: str


def verdicts(rows: Sequence[Row]) -> Iterator[Verdict]:
    """All goals, in the order of the parts."""
    yield from _detection(rows)
    yield from _budget(rows)
    yield from _crowd(rows)
    yield from _extraction(rows)
    yield from _ledger(rows)


def _detection(rows: Sequence[Row]) -> Iterator[Verdict]:
    polls = (_Limit(REQUESTS, 4.0, "polls/job"), _Limit(MEAN, 1.0, "s mean"))
    listed = (_Limit(REQUESTS, 0.5, "requests/job"), _Limit(MEAN, 0.3, "s mean"))
    for service in SETTINGS:
        yield _held(rows, "a", detection.case_of(service), detection.LEARNED, polls)
    for law in (SHORT, "LN(20 s, 0.2)"):
        yield _held(rows, "a", detection_virtual.case_of(law), detection.LEARNED, polls)
    for way in (detection.LISTED, detection.LISTED_LEARNED):
        yield _held(rows, "a", detection.case_of("numind"), way, listed)
        yield _held(rows, "a", detection_virtual.case_of(SHORT), way, listed)
    for service in SETTINGS:
        yield _not_worse_than_the_sdk(rows, service)


def _not_worse_than_the_sdk(rows: Sequence[Row], service: str) -> Verdict:
    """The SDK of this run, in both numbers; delays within a twentieth of a second are the same."""
    case = detection.case_of(service)
    fresh, sdk = (find(rows, "a", case, way) for way in (detection.FRESH, detection.sdk_name(service)))
    goal = f"a: {service}, fresh: not worse than its SDK in either number"
    if fresh is None or sdk is None or sdk.number(REQUESTS) is None:
        return Verdict(goal, "not measured", None)
    limits = (
        _Limit(REQUESTS, sdk.number(REQUESTS) or 0.0, "polls/job"),
        _Limit(MEAN, (sdk.number(MEAN) or 0.0) + 0.05, "s"),
    )
    theirs = f"{sdk.number(REQUESTS):.2f} polls/job, {sdk.number(MEAN):.2f} s"
    return Verdict(goal, f"{_said(fresh, limits)}; SDK {theirs}", _holds(fresh, limits))


def _budget(rows: Sequence[Row]) -> Iterator[Verdict]:
    slow = budget.case_of(budget.RATES[0])
    yield _held(
        rows, "b", slow, budget.LISTED, (_Limit(MEAN, 1.0, "s mean"), _Limit(REFUSED, 0.0, "% refused"))
    )
    for rate in budget.RATES:
        fair = find(rows, "b", budget.case_of(rate), budget.FAIR)
        if fair is not None:
            most = 1.1 * (fair.number(MEAN) or 0.0)
            limits = (_Limit(MEAN, most, "s mean"), _Limit(REFUSED, 1.0, "% refused"))
            for way in (budget.POLLED, budget.UNKNOWN):
                yield _held(rows, "b", budget.case_of(rate), way, limits)


def _crowd(rows: Sequence[Row]) -> Iterator[Verdict]:
    limits = (_Limit(crowd.CPU, 35.0, "% of a core"), _Limit(crowd.MEMORY, 60.0, "MiB"))
    yield _held(rows, "c", crowd.case_of(WAITERS), crowd.way_of(fast=True), limits)


def _extraction(rows: Sequence[Row]) -> Iterator[Verdict]:
    cost = (_Limit(extraction.OVER_HTTP, 5.0, "ms CPU/document"), _Limit(extraction.PEAK, 300.0, "MiB"))
    for way in (extraction.BATCH, extraction.FOLDER):
        yield _held(rows, "d", extraction.case_of(10_000), way, cost)
    growth = (_Limit(extraction.TOTAL, 1.05, "x"),)  # a twentieth is within the noise of two runs
    yield _held(rows, "e", extraction.GROWTH, extraction.BATCH, growth)


def _ledger(rows: Sequence[Row]) -> Iterator[Verdict]:
    limits = (_Limit(ledger.CPU, 5.0, "ms CPU/document"), _Limit(ledger.MORE_WALL, 10.0, "% wall"))
    yield _held(rows, "f", ledger.case_of(ledger.DOCUMENTS), ledger.OVERHEAD, limits)


def _held(rows: Sequence[Row], part: str, case: str, way: str, limits: Sequence[_Limit]) -> Verdict:
    wanted = ", ".join(f"<= {limit.most:.3g} {limit.unit}" for limit in limits)
    goal, row = f"{part}: {case}, {way}: {wanted}", find(rows, part, case, way)
    if row is None or any(row.number(limit.figure) is None for limit in limits):
        return Verdict(goal, "not measured", None)
    return Verdict(goal, _said(row, limits), _holds(row, limits))


def _said(row: Row, limits: Sequence[_Limit]) -> str:
    return ", ".join(f"{row.number(limit.figure):.2f} {limit.unit}" for limit in limits)


def _holds(row: Row, limits: Sequence[_Limit]) -> bool:
    return all((row.number(limit.figure) or 0.0) <= limit.most for limit in limits)
