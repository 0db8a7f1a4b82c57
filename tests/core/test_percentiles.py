"""Percentiles, as reports and pictures tell them."""

from prefect_docjobs.models.percentiles import percentile


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert [percentile(range(1, 101), percent) for percent in (0, 50, 95, 100)] == [1, 50, 95, 100]
    assert percentile([7.0], 95) == 7.0
    assert percentile([], 50) is None
