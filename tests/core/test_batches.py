"""Batches, small ones in memory and large ones with their results on the disk."""

from __future__ import annotations

import copy
import gc
import logging
import math
import os
import pickle
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_docjobs.errors import InvalidDocument, ServiceError
from prefect_docjobs.models import Batch, Field, JobRef, Location, Outcome, Page, Phase, Result, Usage
from prefect_docjobs.models.batches import BatchBuilder, LazyOutcomes
from prefect_docjobs.models.spool import Spool, packed, stub, unpacked


def ref_of(number: int) -> JobRef:
    return JobRef(
        provider="toy",
        base_url="https://toy.example",
        tenant="t",
        product="extract",
        job_id=f"job-{number}",
        document_name=f"{number}.pdf",
        submitted_at=datetime(2026, 11, 1, tzinfo=timezone.utc),
    )


def delivered(number: int, raw: object = None) -> Outcome:
    ref = ref_of(number)
    line = Field(fields={"amount": Field(value=number + 0.5)})
    result = Result(
        ref=ref,
        fields={"number": Field(value=number), "lines": Field(items=[line, line])},
        usage=Usage(pages=2, credits=0.5),
        raw={"number": number} if raw is None else raw,
    )
    return Outcome(document=f"{number}.pdf", ref=ref, phase=Phase.DONE, result=result, seconds=1.0)


def failed(number: int) -> Outcome:
    return Outcome(document=f"{number}.pdf").failed(Phase.SUBMIT, InvalidDocument("It is empty."))


def outcomes(count: int) -> list[Outcome]:
    """Every seventh has failed."""
    return [failed(number) if number % 7 == 3 else delivered(number) for number in range(count)]


def spooled(rows: list[Outcome], **options: Any) -> Batch:
    """A batch with two results in memory and the others on the disk, unless told otherwise."""
    builder = BatchBuilder(**{"results": 2, **options})
    for index, row in enumerate(rows):
        builder.add(index, row)
    return builder.build()


def on_disk(batch: Batch) -> int:
    return sum(map(bool, batch.outcomes.stored)) if isinstance(batch.outcomes, LazyOutcomes) else 0


def open_files() -> int:
    """How many deleted files this process has open."""
    gc.collect()
    handles = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return sum(str(handle.readlink()).endswith("(deleted)") for handle in handles if handle.is_symlink())


# What is kept where


def test_a_small_batch_holds_the_very_outcomes_that_it_was_given() -> None:
    rows = outcomes(200)
    batch = Batch.of(rows)

    assert all(ours is theirs for ours, theirs in zip(batch, rows, strict=True))
    assert batch == Batch(tuple(rows))
    assert repr(batch) == repr(Batch(tuple(rows)))


def test_a_batch_without_results_can_be_hashed() -> None:
    rows = [failed(number) for number in range(300)]
    assert hash(Batch.of(rows)) == hash(Batch(tuple(rows)))


def test_of_a_large_batch_only_the_first_results_stay_in_memory() -> None:
    batch = Batch.of(outcomes(1000))
    ended_well = sum(outcome.ok for outcome in batch)
    assert on_disk(batch) == ended_well - 200


def test_results_that_are_large_together_do_not_stay_in_memory() -> None:
    batch = spooled([delivered(number, raw="x" * 1000) for number in range(10)], results=200, size=3500)
    assert on_disk(batch) == 7


def test_a_failure_never_goes_to_the_disk() -> None:
    with_result = delivered(1).failed(Phase.FETCH, ServiceError("broken", provider="toy"))
    assert with_result.result is not None

    batch = spooled([delivered(0), with_result], results=0)
    assert on_disk(batch) == 1
    assert batch.failures[0] is with_result


# A large batch tells the same as a small one


@given(count=st.integers(0, 30), order=st.randoms(use_true_random=False))
def test_a_spooled_batch_equals_the_plain_one_in_whatever_order_it_came(count: int, order: Random) -> None:
    rows = outcomes(count)
    plain, builder = Batch(tuple(rows)), BatchBuilder(results=2)
    for index in order.sample(range(count), count):
        builder.add(index, rows[index])
    batch = builder.build(count)

    assert batch == plain
    assert plain == batch
    assert list(batch) == rows
    assert [batch[index] for index in range(-count, count)] == rows + rows
    assert batch.results == [row.result for row in rows if row.result is not None]
    assert batch.failures == plain.failures
    assert batch.refs == plain.refs
    assert batch.rows() == list(batch.iter_rows()) == [row.row() for row in rows]
    assert batch.line_items() == list(batch.iter_line_items()) == plain.line_items()
    assert batch.totals == plain.totals


@given(
    part=st.slices(20),
    count=st.just(20),
)
def test_slices_are_those_of_a_list(part: slice, count: int) -> None:
    rows = outcomes(count)
    batch = spooled(rows)
    assert batch[part] == tuple(rows[part])
    assert batch.results[part] == list(Batch(tuple(rows)).results)[part]


def test_batches_that_differ_in_one_result_are_not_equal() -> None:
    rows = outcomes(10)
    other = [*rows[:-1], delivered(9, raw={"number": -9})]
    assert spooled(rows) != spooled(other)
    assert spooled(rows) != Batch(tuple(other))
    assert spooled(rows) != spooled(rows[:-1])
    assert spooled(rows).results != Batch(tuple(other)).results


@pytest.mark.parametrize("index", [10, -11])
def test_an_index_outside_is_refused(index: int) -> None:
    with pytest.raises(IndexError):
        spooled(outcomes(10))[index]
    with pytest.raises(IndexError):
        spooled(outcomes(10)).results[index]


def test_the_repr_of_a_large_batch_is_bounded() -> None:
    text = repr(spooled(outcomes(1000)))
    assert text.startswith(f"Batch(outcomes=[{delivered(0)!r}, ")
    assert text.endswith(", … 997 more])")


def test_sums_and_failures_read_nothing_back() -> None:
    batch = spooled(outcomes(20), results=0)
    lazy = batch.outcomes
    assert isinstance(lazy, LazyOutcomes)
    assert all(head.result is None or head.result.raw is None for head in lazy.heads)

    heads_alone = Batch(LazyOutcomes(lazy.heads, (None,) * 20))
    assert (heads_alone.totals, heads_alone.failures) == (batch.totals, batch.failures)
    assert (heads_alone.refs, len(heads_alone.results)) == (batch.refs, len(batch.results))


# Building


def test_a_position_is_taken_once() -> None:
    builder = BatchBuilder()
    builder.add(0, delivered(0))
    with pytest.raises(ValueError, match="two outcomes at position 0"):
        builder.add(0, delivered(1))


@pytest.mark.parametrize(("index", "total"), [(1, None), (0, 2), (0, 0), (-1, 1)])
def test_a_batch_with_a_gap_is_not_built(index: int, total: int | None) -> None:
    builder = BatchBuilder()
    builder.add(index, delivered(0))
    with pytest.raises(ValueError, match="1 outcomes came"):
        builder.build(total)


# Exact, or not on the disk at all

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**310)
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
)
texts = st.text(st.characters(exclude_categories=()), max_size=8)
answers = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)
)
locations = st.builds(
    Location,
    page=st.integers(1, 9),
    polygon=st.none() | st.lists(st.tuples(st.floats(), st.floats()), max_size=4).map(tuple),
)
leaves = st.builds(
    Field, value=answers, confidence=st.none() | st.floats(0, 1), locations=st.lists(locations, max_size=2)
)
fields = st.recursive(
    leaves,
    lambda inner: (
        st.builds(Field, items=st.lists(inner, max_size=3))
        | st.builds(Field, fields=st.dictionaries(texts, inner, max_size=3))
    ),
    max_leaves=8,
)
whole_results = st.builds(
    Result,
    ref=st.just(ref_of(1)),
    fields=st.dictionaries(texts, fields, max_size=3),
    text=st.none() | texts,
    pages=st.lists(st.builds(Page, number=st.integers(1, 9), text=texts), max_size=2),
    usage=st.builds(Usage, pages=st.none() | st.integers(0, 9), credits=st.none() | st.floats()),
    warnings=st.lists(texts, max_size=2),
    raw=answers,
)


@given(result=whole_results)
def test_a_result_comes_back_from_the_disk_to_the_last_bit(result: Result) -> None:
    again = unpacked(stub(result), packed(result))
    # As text: -0.0 is not 0.0, 1 is not 1.0 or True, NaN is NaN, and keys keep their order.
    assert repr(again) == repr(result)
    assert again.model_fields_set == result.model_fields_set


def test_a_result_of_which_nothing_was_set_stays_so() -> None:
    bare = Result(ref=ref_of(1))
    assert unpacked(stub(bare), packed(bare)).model_dump(exclude_unset=True).keys() == {"ref"}


@pytest.mark.parametrize("raw", [datetime(2026, 1, 1, tzinfo=timezone.utc), Phase.DONE, object()])
def test_what_would_not_come_back_as_it_is_stays_in_memory(raw: object) -> None:
    odd = delivered(0, raw={"of no service": raw})
    batch = spooled([odd, delivered(1)], results=0)
    assert on_disk(batch) == 1
    assert batch[0] is odd


@pytest.mark.parametrize("depth", [100, 1900, *range(1990, 2005), 50_000])
def test_a_deep_answer_comes_back_or_stays_in_memory(depth: int) -> None:
    raw: Any = "bottom"
    for _ in range(depth):
        raw = [raw]
    again = spooled([delivered(0, raw=raw)], results=0)[0].result.raw
    for _ in range(depth):
        (again,) = again
    assert again == "bottom"


@pytest.mark.parametrize("depth", [100, *range(245, 265), 500])
def test_a_deep_tree_of_fields_comes_back_or_stays_in_memory(depth: int) -> None:
    tree = Field(value="bottom")
    for _ in range(depth):
        tree = Field(items=[tree])
    result = Result(ref=ref_of(0), fields={"tree": tree})
    again = spooled([Outcome(document="0.pdf", result=result)], results=0)[0].result.fields["tree"]
    for _ in range(depth):
        (again,) = again.items
    assert again.value == "bottom"


# Copies, other processes


def test_a_copy_is_equal_and_shares_the_file() -> None:
    batch = spooled(outcomes(20))
    before = open_files()
    assert copy.copy(batch) == batch
    deep = copy.deepcopy(batch)
    assert deep == batch
    assert open_files() == before
    deep[0].result.raw["number"] = "changed"  # one that is in memory
    assert batch[0].result.raw == {"number": 0}


def test_a_pickled_batch_carries_its_results() -> None:
    rows = outcomes(20)
    data = pickle.dumps(spooled(rows))
    gc.collect()

    again = pickle.loads(data)
    assert again == Batch(tuple(rows))
    assert on_disk(again) == on_disk(spooled(rows))


def test_a_pickled_batch_is_read_by_another_process(tmp_path: Path) -> None:
    (tmp_path / "batch").write_bytes(pickle.dumps(spooled(outcomes(20))))
    code = (
        "import pickle, sys; print([o.result and o.result.raw for o in pickle.load(open(sys.argv[1], 'rb'))])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "batch"], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == str([row.result and row.result.raw for row in outcomes(20)])


# The file


def test_the_file_has_no_name_and_is_its_owners_alone(tmp_path: Path) -> None:
    batch = spooled(outcomes(20), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []

    handles = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    (ours,) = (
        handle for handle in handles if handle.is_symlink() and str(tmp_path) in str(handle.readlink())
    )
    assert stat.S_IMODE(ours.stat().st_mode) == 0o600
    assert batch[19].ok


def test_the_file_is_open_as_long_as_somebody_may_read_it() -> None:
    before = open_files()
    batch: Batch | None = spooled(outcomes(20), results=0)
    assert batch is not None
    results = batch.results[15:]
    batch = None
    assert open_files() == before + 1
    assert results[-1].raw == {"number": 19}

    del results
    assert open_files() == before


def test_a_small_batch_makes_no_file(tmp_path: Path) -> None:
    assert spooled(outcomes(50), results=50, folder=tmp_path / "not there") == Batch(tuple(outcomes(50)))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to make a file longer, as a full disk does, after a part of the last write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_no_result_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    rows = [delivered(number, raw="x" * 10_000) for number in range(20)]
    with caplog.at_level(logging.WARNING), files_of_at_most(55_000):
        batch = spooled(rows, results=0)

    assert on_disk(batch) == 5
    assert batch == Batch(tuple(rows))
    (warning,) = caplog.messages
    assert warning.startswith("Results stay in memory")


def test_a_folder_that_cannot_be_written_loses_no_result(tmp_path: Path) -> None:
    rows = outcomes(20)
    batch = spooled(rows, folder=tmp_path / "not there")
    assert on_disk(batch) == 0
    assert batch == Batch(tuple(rows))


def test_a_pickled_batch_is_read_where_the_disk_is_full() -> None:
    rows = [delivered(number, raw="x" * 10_000) for number in range(20)]
    data = pickle.dumps(spooled(rows, results=0))
    with files_of_at_most(55_000):
        again = pickle.loads(data)
    assert on_disk(again) == 5
    assert again == Batch(tuple(rows))


def test_a_result_that_the_disk_does_not_give_back_is_an_error_not_another_result() -> None:
    spool = Spool()
    stored = spool.write(b"whole")
    assert stored is not None
    with pytest.raises(OSError, match="5 bytes at 3 were written, and 2 came back"):
        spool.read(3, 5)
    assert stored.read() == b"whole"


def test_numbers_that_json_does_not_have_stay_what_they_are() -> None:
    raw = {"nan": math.nan, "inf": -math.inf, "zero": -0.0, "long": 10**5000}
    again = spooled([delivered(0, raw=raw)], results=0)[0].result.raw
    assert math.isnan(again["nan"])
    assert math.copysign(1, again["zero"]) == -1
    assert (again["inf"], again["long"]) == (raw["inf"], raw["long"])
