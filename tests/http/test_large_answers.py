"""Large answers: read beside the event loop, and bounded before objects are made of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import datetime, timezone

import httpx
import pytest
from support.wire import client

from prefect_docjobs.errors import Unreadable
from prefect_docjobs.http import Answer, Limits, Request
from prefect_docjobs.models import JobRef
from prefect_docjobs.providers.unsiloed import Unsiloed

SERVICE = Unsiloed(product="extract", schema_data={"type": "object"})
REF = JobRef(
    provider="unsiloed", base_url="https://service.test", tenant="acme", product="extract", job_id="1",
    document_name="acme.pdf", submitted_at=datetime(2026, 2, 3, tzinfo=timezone.utc),
)  # fmt: skip
WIDE = {"lists": b"[]", "objects": b"{}", "numbers": b"0", "texts": b'""', "nested": b'{"a":{}}'}


def answer(body: bytes) -> Answer:
    return Answer(200, httpx.Headers(), body)


def result(values: bytes) -> bytes:
    field = b'{"value":[' + values + b'],"score":0.5}'
    return b'{"job_id":"1","status":"completed","result":{"x":' + field + b"}}"


def many(value: bytes, mib: int = 63) -> bytes:
    return b",".join([value] * ((mib << 20) // (len(value) + 1)))


@pytest.mark.parametrize("value", WIDE)
def test_a_wide_answer_is_refused_before_objects_are_made_of_it(value: str) -> None:
    code = (
        "import resource, sys; sys.path[:0] = ['tests', 'tests/http']; import test_large_answers as t\n"
        f"body = t.result(t.many(t.WIDE[{value!r}]))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: t.answer(body).json(); print('read')\n"
        "except t.Unreadable as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    text, kib = run.stdout.splitlines()
    assert "values" in text
    assert int(kib) < 200 << 10  # 1.8 to 5 GB before it was bounded


@pytest.mark.parametrize("value", WIDE)
async def test_the_loop_goes_on_while_a_large_answer_is_read(value: str) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    with pytest.raises(Unreadable, match="values"):
        await SERVICE.aread_result(REF, answer(result(many(WIDE[value], 31))))
    assert ticks > 10
    ticks = 0
    text = json.dumps("one, two [three] " * 50_000).encode()
    read = await SERVICE.aread_result(REF, answer(result(text)))
    assert read.fields["x"].value == ["one, two [three] " * 50_000]
    assert ticks > 1
    ticking.cancel()


def test_what_stands_in_texts_is_no_value() -> None:
    text = '"[,]{,}\\' * 400_000
    assert answer(json.dumps([text, text]).encode()).json() == [text, text]


@pytest.mark.parametrize("shift", range(12))
def test_texts_that_hold_quotes_and_brackets_are_recognized_wherever_they_stand(shift: int) -> None:
    text = "x" * ((1 << 20) - 8 + shift) + '\\"[{,' * 200_000 + "\\"  # quotes and escapes around 1 MiB
    fine = [text, text, [0] * 400_000, "\ud800"]  # the last is read by another parser, which bounds the depth
    assert answer(json.dumps(fine).encode()).json() == [*fine[:3], "\ufffd"]
    with pytest.raises(Unreadable, match="values"):
        answer(json.dumps([text, text, [0] * 2_000_000]).encode()).json()
    with pytest.raises(Unreadable, match="deeper"):
        answer(json.dumps(["\ud800", text])[:-1].encode() + b"," + b"[" * 300 + b"]" * 301).json()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_encoding_of_json_is_bounded(encoding: str) -> None:
    assert answer('{"a": ["é", 1]}'.encode(encoding)).json() == {"a": ["é", 1]}
    with pytest.raises(Unreadable, match="deeper"):
        answer(("[" * 300 + "]" * 300).encode(encoding)).json()
    with pytest.raises(Unreadable, match="values"):
        answer(f"[{','.join(['{}'] * 1_000_000)}]".encode(encoding)).json()


async def test_a_result_may_be_larger_than_another_answer() -> None:
    body = b'{"a": "' + b"x" * 3_000 + b'"}'

    def service(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body)

    async with client(Unsiloed, service, key="k", answer_bytes=2_000, result_bytes=4_000) as http:
        assert (await http.get("/x", verbatim=True)).body == body
        assert (await http.get("/x", large=True)).body == body
        with pytest.raises(Unreadable, match="larger than 2,000 bytes"):
            await http.get("/x")
    async with client(Unsiloed, service, key="k", result_bytes=2_000) as http:
        with pytest.raises(Unreadable, match="larger than 2,000 bytes"):
            await http.send(Request("GET", "/x", verbatim=True))
    assert Limits().answer_bytes < Limits().result_bytes < 64 << 20
