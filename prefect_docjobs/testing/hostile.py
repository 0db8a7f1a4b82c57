"""Hostile answers: anything in place of the service's own answers gives a value or a typed error.

The answers of one document's way are recorded for each product, and varied: single values become anything,
keys disappear, and whole answers are replaced by other JSON, text, or bytes.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import Self

from prefect_docjobs.errors import DocJobsError, InvalidPush, ServiceError
from prefect_docjobs.http import Answer
from prefect_docjobs.models import Field, JobRef, JobState, JobStatus, Location, Result
from prefect_docjobs.providers import Provider
from prefect_docjobs.providers.base import JobPage, Push, Submitted
from prefect_docjobs.providers.values import usable_id
from prefect_docjobs.testing.clock import virtual_time
from prefect_docjobs.testing.service import SimulatedService, connected

EXAMPLES = settings(max_examples=100, deadline=None, database=None)
_ODD_TEXTS: tuple[str, ...] = ("", " ", "..", "\x00", "\ud800", "x" * 600, "https://evil.example/")
_ODD_NUMBERS: tuple[float, ...] = (0, -1, 7, 2**70, 1e308, 5e-324, math.nan, True)
_ODD_VALUES: tuple[Any, ...] = (None, [], {}, [{}], *_ODD_TEXTS, *_ODD_NUMBERS)
_SUCCESSES = (200, 201, 202, 204, 206, 302)
_REFUSALS = (404, 301, 307, 400, 401, 402, 403, 408, 409, 413, 422, 429, 500, 502, 503)


@dataclass
class Recorded:
    """What a service answered on the way of one document, by step, and its ref at the start and the end."""

    provider: Provider
    submitted: JobRef
    ref: JobRef
    answers: dict[str, list[Any]] = field(default_factory=dict)
    stream: list[bytes] = field(default_factory=list)


class HostileAnswers:
    """The cases of the suite about answers that are not what the service documents."""

    @pytest.fixture
    def recorded(self, service: SimulatedService) -> list[Recorded]:
        """The answers of each product."""
        return _recorded(service)

    def test_any_answer_to_a_submit_names_a_job_or_is_a_typed_error(self, recorded: list[Recorded]) -> None:
        def check(job: Recorded, answer: Answer) -> None:
            with suppress(ServiceError):
                submitted: Any = job.provider.read_new_job(answer)
                assert isinstance(submitted, Submitted)
                assert usable_id(submitted.job_id)

        _vary(recorded, "submit", _SUCCESSES, check)

    def test_any_status_is_about_our_job_or_a_typed_error(self, recorded: list[Recorded]) -> None:
        def check(job: Recorded, answer: Answer) -> None:
            status: Any = None
            with suppress(ServiceError), job.provider.reading(answer):
                status = job.provider.read_status(job.submitted, answer)
                assert isinstance(status, JobStatus)
                assert status.ref.job_id == job.ref.job_id
            if status and status.state is JobState.SUCCEEDED:
                with suppress(ValueError):  # an id that cannot be part of a path
                    job.provider.result_request(status.ref)

        _vary(recorded, "status", _SUCCESSES, check)

    def test_any_result_is_a_value_with_rows_or_a_typed_error(self, recorded: list[Recorded]) -> None:
        def check(job: Recorded, answer: Answer) -> None:
            with suppress(DocJobsError):
                result: Any = job.provider.read_result(job.ref, answer)
                assert isinstance(result, Result)
                assert all(isinstance(row, dict) for row in (result.row(), *result.line_items()))
                assert json.dumps(result.raw) == json.dumps(answer.json())
                _check_fields(list(result.fields.values()))
                _check_locations([block.location for block in result.blocks if block.location])
                assert all(block.text.strip() for block in result.blocks)

        _vary(recorded, "result", _SUCCESSES, check)

    def test_any_refusal_is_a_typed_error_for_people(self, recorded: list[Recorded]) -> None:
        def check(job: Recorded, answer: Answer) -> None:
            error: Any = job.provider.read_error(answer)
            assert isinstance(error, ServiceError)
            assert (error.status, error.provider) == (answer.status, job.provider.name)
            assert error.args[0].strip()
            assert error.retry_after is None or 0 <= error.retry_after <= 86_400

        _vary(recorded, "error", _REFUSALS, check)

    def test_any_webhook_call_reports_an_end_or_is_refused(self, recorded: list[Recorded]) -> None:
        def check(job: Recorded, answer: Answer) -> None:
            with suppress(InvalidPush):
                push: Any = job.provider.read_push(answer.body)
                assert isinstance(push, Push)
                assert push.state.is_terminal

        if recorded[0].provider.capabilities.push:
            _vary(recorded, "push", _SUCCESSES, check)

    def test_any_page_of_a_list_has_usable_ids_or_is_a_typed_error(self, recorded: list[Recorded]) -> None:
        job = recorded[0]
        if not job.provider.capabilities.list_jobs:
            return
        with _Service(job) as service:

            def check(job: Recorded, answer: Answer) -> None:
                with suppress(DocJobsError):
                    page = service.run(answer, lambda http: job.provider.list_jobs(http, once=True))
                    assert isinstance(page, JobPage)
                    assert all(usable_id(job_id) for job_id in page.rows)

            _vary([job], "list", [200], check)

    def test_any_stream_reports_statuses_or_is_a_typed_error(self, recorded: list[Recorded]) -> None:
        job = recorded[0]
        if not job.provider.capabilities.stream:
            return
        with _Service(job) as service:

            async def read(http: Any) -> list[JobStatus]:
                return [status async for status in job.provider.stream(http, job.ref)]

            @EXAMPLES
            @given(_damaged(job.stream) | _bodies(_json(job, "status")))
            def check(body: bytes) -> None:
                answer = Answer(200, {"content-type": "text/event-stream"}, body)
                with suppress(DocJobsError):
                    for status in service.run(answer, read):
                        assert isinstance(status, JobStatus)
                        assert status.ref.job_id == job.ref.job_id

            check()

    def test_an_answer_about_another_job_is_refused(self, recorded: list[Recorded]) -> None:
        for job in recorded:
            readers: dict[str, Callable[[Answer], object]] = {
                "status": partial(job.provider.read_status, job.ref),
                "result": partial(job.provider.read_result, job.ref),
            }
            for step, read in readers.items():
                for body in map(json.dumps, job.answers[step]):
                    ours = json.dumps(job.ref.job_id)
                    answer = Answer(200, {}, body.replace(ours, '"another-job"').encode())
                    if ours in body:
                        with pytest.raises(ServiceError), job.provider.reading(answer):
                            read(answer)

    @pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"error":', b'{"detail":[', b'{"result":'])
    def test_bottomless_nesting_is_a_typed_error(self, recorded: list[Recorded], opening: bytes) -> None:
        answer = Answer(200, {}, opening * 100_000)
        for job in recorded:
            readers: list[Callable[[], object]] = [
                lambda job=job: job.provider.read_new_job(answer),  # type: ignore[misc]
                lambda job=job: job.provider.read_result(job.ref, answer),  # type: ignore[misc]
            ]
            for read in readers:
                with pytest.raises(DocJobsError):
                    read()
            with pytest.raises(ServiceError), job.provider.reading(answer):
                job.provider.read_status(job.ref, answer)
            assert isinstance(job.provider.read_error(answer), ServiceError)


# -------------------------------------------------------------------------------- recorded answers


@lru_cache(maxsize=4)
def _recorded(service: SimulatedService) -> list[Recorded]:
    return [_record(service, provider) for provider in service.products]


@virtual_time
async def _record(service: SimulatedService, provider: Provider) -> Recorded:
    """Run two documents, one of which fails, and one request for a job that does not exist."""
    calls: list[bytes] = []

    def receiver(request: httpx.Request) -> httpx.Response:
        calls.append(request.content)
        return httpx.Response(204)

    async with connected(service, provider=provider, receiver=receiver) as at:
        wire = at.wire

        def answers_since(start: int) -> list[Any]:
            return [_parsed(answer.content) for _, answer in wire.answers[start:]]

        ref = await provider.submit(at.http, service.document(1))
        failing = await provider.submit(at.http, service.unreadable_document())
        recorded = Recorded(provider, ref, ref, {"submit": answers_since(0)})
        start = len(wire.answers)
        await provider.status(at.http, ref)
        await asyncio.sleep(60)
        status = await provider.status(at.http, ref)
        await provider.status(at.http, failing)
        recorded.answers["status"] = answers_since(start)
        recorded.ref = status.ref
        start = len(wire.answers)
        await provider.fetch(at.http, status.ref)
        recorded.answers["result"] = answers_since(start)
        start = len(wire.answers)
        with suppress(ServiceError):
            await provider.status(at.http, ref.model_copy(update={"job_id": "0"}))
        recorded.answers["error"] = answers_since(start)
        start = len(wire.answers)
        if provider.capabilities.list_jobs:
            await provider.list_jobs(at.http)
        recorded.answers["list"] = answers_since(start)
        start = len(wire.answers)
        if provider.capabilities.stream:
            async for _ in provider.stream(at.http, status.ref):
                pass
        recorded.stream = [answer.content for _, answer in wire.answers[start:]]
    recorded.answers["push"] = [_parsed(call) for call in calls]
    return recorded


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


# -------------------------------------------------------------------------------------- variations


def _vary(
    recorded: Sequence[Recorded],
    step: str,
    statuses: Sequence[int],
    check: Callable[[Recorded, Answer], None],
) -> None:
    """Call `check` with many variations of what the service answers at this step.

    First each single change of each of its answers, then anything at all.
    """
    for job in recorded:
        path = job.provider.status_request(job.ref).path
        for body in _changed_once(job, step):
            check(job, Answer(statuses[0], httpx.Headers(), body, url=path))

    jobs = [st.tuples(st.just(job), _bodies(_json(job, step))) for job in recorded]
    kinds = st.sampled_from(["application/json", "text/plain", "text/html", "", "\x00/;"])
    results = [job.provider.result_request(job.ref).path.encode() for job in recorded]
    known = [*results, *(b"https://evil.example" + path for path in results)]
    locations = st.none() | st.sampled_from(known) | st.binary(min_size=1, max_size=20)

    @EXAMPLES
    @given(st.one_of(jobs), st.sampled_from(statuses), kinds, locations)
    def run(case: tuple[Recorded, bytes], status: int, kind: str, location: bytes | None) -> None:
        job, body = case
        headers = [(b"content-type", kind.encode()), *([(b"location", location)] if location else [])]
        check(
            job, Answer(status, httpx.Headers(headers), body, url=job.provider.status_request(job.ref).path)
        )

    run()


def _changed_once(job: Recorded, step: str) -> Iterator[bytes]:
    """The answers to all steps as they are, and those to this one with one value removed or replaced."""
    for answer in (answer for answers in job.answers.values() for answer in answers):
        yield json.dumps(answer).encode()
    known = _values_by_key(job)
    for answer in job.answers[step]:
        holder = [deepcopy(answer)]
        for container, key in list(_places(holder)):
            value = container[key]
            for other in (*_ODD_VALUES, *known.get(key, ())):
                container[key] = other
                yield json.dumps(holder[0]).encode()
            if isinstance(container, dict):
                del container[key]
                yield json.dumps(holder[0]).encode()
            container[key] = value


def json_values(keys: Sequence[str] = (), words: Sequence[str] = ()) -> st.SearchStrategy[Any]:
    """JSON of any shape, which often has these keys and these texts."""
    names = st.sampled_from(keys) | st.text(max_size=4) if keys else st.text(max_size=8)
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    return st.recursive(
        scalars | st.sampled_from(words) if words else scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
        max_leaves=25,
    )


def _json(job: Recorded, step: str) -> st.SearchStrategy[Any]:
    """JSON of any shape with the keys and words of the service, or an answer of its own with some changes."""
    known = _values_by_key(job)
    words = {value for values in known.values() for value in values if isinstance(value, str)}
    anything = json_values(sorted(known), sorted(words | {job.ref.job_id, "https://evil.example/"}))
    own = [answer for answer in job.answers[step] if isinstance(answer, dict)]
    changes = st.lists(st.tuples(st.integers(0, 10_000), anything), min_size=2, max_size=4)

    def change(example: Any, made: list[tuple[int, Any]]) -> Any:
        holder = [deepcopy(example)]
        for number, value in made:
            places = list(_places(holder))
            container, key = places[number % len(places)]
            container[key] = value
        return holder[0]

    return anything | st.builds(change, st.sampled_from(own), changes) if own else anything


def _values_by_key(job: Recorded) -> dict[str, list[Any]]:
    """Some values of each key in the answers of a service; all its state words for a state."""
    found: dict[str, list[Any]] = {}
    for container, key in _places([list(job.answers.values())]):
        values = found.setdefault(key, []) if isinstance(container, dict) else []
        if container[key] not in values and len(values) < 4:
            values.append(container[key])
    for values in found.values():
        if any(isinstance(value, str) and value.lower() in job.provider.states for value in values):
            values.extend(job.provider.states)
    return found


def _places(container: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value, as the container and the key or index in it; three items of a list."""
    keys = list(container) if isinstance(container, dict) else range(len(container))[:3]
    for key in keys:
        yield container, key
        if isinstance(container[key], (dict, list)):
            yield from _places(container[key])


def _bodies(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Bodies of answers: the values as JSON, any text, any bytes."""
    written = values.map(lambda value: json.dumps(value).encode())
    return written | st.binary(max_size=60) | st.text(max_size=60).map(str.encode)


def _damaged(bodies: list[bytes]) -> st.SearchStrategy[bytes]:
    """Bodies in which a piece is replaced by any bytes."""

    def damage(body: bytes, start: int, end: int, piece: bytes) -> bytes:
        first, last = sorted((start % (len(body) + 1), end % (len(body) + 1)))
        return body[:first] + piece + body[last:]

    place = st.integers(0, 100_000)
    return st.builds(damage, st.sampled_from(bodies), place, place, st.binary(max_size=20))


def _check_fields(fields: list[Field]) -> None:
    pending = list(fields)
    while pending:
        found = pending.pop()
        assert found.confidence is None or 0 <= found.confidence <= 1
        _check_locations(found.locations)
        pending += [*(found.fields or {}).values(), *(found.items or [])]


def _check_locations(locations: Sequence[Location]) -> None:
    for location in locations:
        assert location.page >= 1
        for corner in location.polygon or ():
            assert all(math.isfinite(number) for number in corner)


class _Service:
    """A client of a service that answers everything with one answer, on a loop of its own."""

    def __init__(self, job: Recorded) -> None:
        self._answer = Answer(200, {}, b"")
        self._loop = asyncio.new_event_loop()
        self._http = job.provider.connect(
            base_url=job.ref.base_url,
            api_key="some-key",
            tenant=job.ref.tenant,
            transport=httpx.MockTransport(self._respond),
        )

    def _respond(self, _: httpx.Request) -> httpx.Response:
        return httpx.Response(self._answer.status, headers=self._answer.headers, content=self._answer.body)

    def __enter__(self) -> Self:
        self._loop.run_until_complete(self._http.__aenter__())
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.run_until_complete(self._http.__aexit__(None, None, None))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def run(self, answer: Answer, verb: Callable[[Any], Any]) -> Any:
        self._answer = answer
        return self._loop.run_until_complete(verb(self._http))
