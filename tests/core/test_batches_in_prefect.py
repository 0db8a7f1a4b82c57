"""What Prefect does with a batch that a task returns, or that a task or flow is given."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from prefect import flow
from prefect.serializers import JSONSerializer, PickleSerializer, Serializer
from prefect.utilities.collections import visit_collection

from prefect_docjobs.models import Batch, JobRef, Outcome, Phase, Result
from prefect_docjobs.models.batches import BatchBuilder


def batch_of(count: int) -> Batch:
    """A batch with one result in memory and the others on the disk."""
    builder = BatchBuilder(results=1)
    for number in range(count):
        ref = JobRef(
            provider="toy",
            base_url="https://toy.example",
            tenant="t",
            product="extract",
            job_id=f"job-{number}",
            document_name=f"{number}.pdf",
            submitted_at=datetime(2026, 11, 1, tzinfo=timezone.utc),
        )
        result = Result(ref=ref, raw={"number": number, "words": ["a", "b"]})
        builder.add(number, Outcome(document=f"{number}.pdf", ref=ref, phase=Phase.DONE, result=result))
    return builder.build(count)


@pytest.mark.parametrize("batch", [batch_of(0), batch_of(1), batch_of(300)], ids=len)
def test_prefect_looks_at_a_batch_and_not_into_its_results(batch: Batch) -> None:
    seen: list[Any] = []

    def visit(thing: object) -> object:
        seen.append(thing)
        return thing

    assert visit_collection({"refs": batch}, visit, return_data=True)["refs"] is batch
    assert [type(thing).__name__ for thing in seen] == ["dict", "str", "Batch", "LazyOutcomes"]


@pytest.mark.parametrize("serializer", [JSONSerializer(), PickleSerializer()], ids=["json", "pickle"])
@pytest.mark.parametrize("batch", [batch_of(0), batch_of(1), batch_of(10)], ids=len)
def test_a_persisted_batch_comes_back_whole(serializer: Serializer[Batch], batch: Batch) -> None:
    assert serializer.loads(serializer.dumps(batch)) == batch


@flow
def of_a_batch(batch: Batch) -> int:
    return len(batch.results)


def test_a_flow_takes_a_batch_as_it_is() -> None:
    batch = batch_of(10)
    assert of_a_batch.validate_parameters({"batch": batch})["batch"] is batch


def test_a_flow_takes_the_json_of_a_batch() -> None:
    batch = batch_of(10)
    rows = [outcome.model_dump(mode="json") for outcome in batch]
    assert of_a_batch.validate_parameters({"batch": {"outcomes": rows}})["batch"] == Batch(tuple(batch))


def test_the_results_of_a_batch_do_not_become_a_flow_runs_parameters() -> None:
    assert of_a_batch.serialize_parameters({"batch": batch_of(10)}) == {"batch": "<Batch>"}
