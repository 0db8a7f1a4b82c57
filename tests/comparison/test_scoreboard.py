"""The sums of services that were given the same documents."""

from __future__ import annotations

from support.answers import delivered, result

from prefect_docjobs.comparison import Scoreboard, compare_results
from prefect_docjobs.errors import Reason
from prefect_docjobs.models import Outcome, Phase, Result, Usage


def scored(*documents: dict[str, Outcome]) -> dict[str, dict[str, object]]:
    board = Scoreboard(["a", "b", "c"])
    for outcomes in documents:
        results = {name: each.result for name, each in outcomes.items() if each.result}
        board.add(outcomes, compare_results(results))
    return {row["service"]: row for row in board.rows()}


def of(value: int, *, seconds: float = 1.0, usage: Usage | None = None) -> Outcome:
    found: Result = result(x=value, usage=usage)
    return delivered(found, seconds)


def test_a_service_agrees_where_it_has_the_value_that_won() -> None:
    rows = scored({"a": of(1), "b": of(1), "c": of(2)}, {"a": of(3), "b": of(3), "c": of(3)})
    assert [rows[name]["agreement"] for name in "abc"] == [1.0, 1.0, 0.5]


def test_a_field_that_one_alone_found_or_that_is_tied_says_nothing_of_agreement() -> None:
    rows = scored({"a": of(1), "b": of(2)})
    assert [rows[name]["agreement"] for name in "ab"] == [None, None]
    assert [rows[name]["fields"] for name in "abc"] == [1, 1, 0]


def test_times_are_of_what_was_bought_and_costs_of_what_was_told() -> None:
    slow = [of(1, seconds=seconds, usage=Usage(pages=2)) for seconds in (1.0, 2.0, 9.0)]
    known = of(1, seconds=0.0).model_copy(update={"reused": True})
    failed = Outcome(document="a.pdf", phase=Phase.WAIT, reason=Reason.FAILED)
    rows = scored(*({"a": each, "b": failed} for each in [*slow, known]))
    assert (rows["a"]["seconds_p50"], rows["a"]["seconds_p95"]) == (2.0, 9.0)
    assert (rows["a"]["pages"], rows["a"]["credits"]) == (6, None)
    assert (rows["b"]["delivered"], rows["b"]["reasons"], rows["b"]["seconds_p50"]) == (
        0,
        {"failed": 4},
        None,
    )
