"""One line of the log says what a batch cost."""

from __future__ import annotations

import pytest
from support.ledgers import ref

from prefect_docjobs.models import Batch, Outcome, Result
from prefect_docjobs.models.results import Usage
from prefect_docjobs.tasks._run import cost_line


def delivered(*, reused: bool = False, **usage: float) -> Outcome:
    job = ref()
    result = Result(ref=job, usage=Usage(**usage))
    return Outcome(document="a.pdf", ref=job, result=result, reused=reused)


def test_what_was_there_already_is_counted_apart_and_costs_nothing() -> None:
    batch = Batch((delivered(pages=2), delivered(pages=7, reused=True), Outcome(document="never-sent.pdf")))
    assert cost_line(batch, price_per_page=0.5) == "1 document bought, 1 reused; 2 pages; 1 at 0.5 a page"


def test_credits_and_the_last_quota_are_the_service_s() -> None:
    batch = Batch((delivered(credits=1.5, quota_remaining=98.5), delivered(credits=1, quota_remaining=97.5)))
    assert cost_line(batch) == "2 documents bought, 0 reused; 2.5 credits, 97.5 left"


@pytest.mark.parametrize(
    ("outcomes", "counted", "told"),
    [
        (
            (delivered(pages=2), delivered()),
            5,
            "2 documents bought, 0 reused; 2 pages; at least 1 at 0.5 a page",
        ),
        ((delivered(),), 5, "1 document bought, 0 reused; 2.5 at 0.5 a page, as counted here"),
        ((delivered(),), None, "1 document bought, 0 reused"),
    ],
    ids=["some pages are told", "none are told", "nobody knows"],
)
def test_a_cost_says_how_sure_it_is(outcomes: tuple[Outcome, ...], counted: int | None, told: str) -> None:
    assert cost_line(Batch(outcomes), price_per_page=0.5, counted=counted) == told
