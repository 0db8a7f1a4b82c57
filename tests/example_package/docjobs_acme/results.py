"""Acme Reader's values as a `Result`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_docjobs.errors import Unreadable
from prefect_docjobs.models import Field, JobRef, Location, Result
from prefect_docjobs.providers.values import elements, index, list_of, number, object_of, share, text_of


def map_result(ref: JobRef, payload: Any) -> Result:
    """The answer to `GET /reader/jobs/{job}/values`."""
    rows = [object_of(row) for row in list_of(own_job(ref, payload)["values"])]
    return Result(ref=ref, fields={text_of(row["field"]): _field(row) for row in rows}, raw=payload)


def own_job(ref: JobRef, payload: Any) -> dict[str, Any]:
    """The answer's object, if it is about the job that was asked for."""
    job = object_of(payload)
    if job.get("job") != ref.job_id:
        raise Unreadable("The service answered about another job.")
    return job


def _field(row: Mapping[str, Any]) -> Field:
    certainty = number(row.get("certainty"))
    return Field(
        value=row.get("value"),
        confidence=None if certainty is None else share(certainty / 100),
        locations=_locations(row),
    )


def _locations(row: Mapping[str, Any]) -> tuple[Location, ...]:
    """`page` counts from 0; `box` is left, top, right, bottom as shares of the page."""
    page = index(row.get("page"))
    if page is None:
        return ()
    sides = [side for side in map(number, elements(row.get("box"))) if side is not None]
    if len(sides) != 4:
        return (Location(page=page + 1),)
    left, top, right, bottom = sides
    return (Location(page=page + 1, polygon=((left, top), (right, top), (right, bottom), (left, bottom))),)
