"""Ids of jobs come from services: one that no ledger can store, or no path can have, is no id."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from support.wire import Script, answer, client, ref_of

from prefect_docjobs.errors import SubmitUncertain, Unreadable
from prefect_docjobs.models import Document
from prefect_docjobs.providers import Provider
from prefect_docjobs.providers.mindee import Mindee
from prefect_docjobs.providers.mindee_v1 import MindeeV1
from prefect_docjobs.providers.numind import NuMind
from prefect_docjobs.providers.numind.provider import read_page
from prefect_docjobs.providers.unsiloed import Unsiloed

PDF = Document.from_bytes(b"%PDF-1.4 hello", name="acme.pdf")
PROVIDERS: tuple[tuple[Provider, int], ...] = (
    (Mindee(model_id="0f0e0d0c-0000-4000-8000-000000000001"), 202),
    (MindeeV1(endpoint="invoices", version="4"), 202),
    (NuMind(template={"total": "number"}), 202),
    (Unsiloed(product="parse"), 200),
)
EVERY = pytest.mark.parametrize(("provider", "status"), PROVIDERS, ids=lambda it: getattr(it, "name", ""))
BAD = {
    "too long": ("job-1" + "x" * 600, "'job-1xxx"),
    "far too long": ("j" * 300_000, "(300,000 characters)"),
    "NUL": ("job\x001", r"'job\x001'"),
    "a line": ("job\n1", r"'job\n1'"),
    "an escape": ("\x1b[31mjob", r"'\x1b[31mjob'"),
    "C1": ("job\x851", r"'job\x851'"),
    "a step up": ("..", "'..'"),
}


def submitted(provider: Provider, job_id: str) -> dict[str, Any]:
    if provider.name == "mindee":
        return {"job": {"id": job_id, "alias": "a" * 5000, "status": "Processing", "result_url": None}}
    if provider.name == "mindee_v1":
        return {"job": {"id": job_id, "status": "waiting", "error": {}}}
    return {"jobId": job_id, "job_id": job_id, "status": "queued"}


@EVERY
@pytest.mark.parametrize(("job_id", "shown"), BAD.values(), ids=BAD)
async def test_a_submit_whose_answer_names_such_a_job_is_uncertain(
    provider: Provider, status: int, job_id: str, shown: str
) -> None:
    service = Script(httpx.Response(status, content=json.dumps(submitted(provider, job_id)).encode()))
    async with client(type(provider), service, key="secret", attempts=1) as http:
        with pytest.raises(SubmitUncertain) as uncertain:
            await provider.submit(http, PDF)
    said = str(uncertain.value)
    assert shown in said
    assert len(said) < 500
    assert said.isprintable()


@EVERY
async def test_an_id_of_512_characters_is_one(provider: Provider, status: int) -> None:
    service = Script(httpx.Response(status, json=submitted(provider, "é" * 512)))
    async with client(type(provider), service, key="secret", attempts=1) as http:
        ref = await provider.submit(http, PDF)
    assert ref.job_id == "é" * 512
    assert len(ref.alias or "") < 100  # an echo of 5,000 characters is not what was sent


@EVERY
async def test_such_a_job_is_not_asked_for(provider: Provider, status: int) -> None:
    ref = ref_of(type(provider), product=provider.product, job_id="x" * 513)
    async with client(type(provider), Script(), key="secret") as http:
        with pytest.raises(Unreadable, match="cannot be part of a path"):
            await provider.status(http, ref)


def test_a_list_leaves_such_jobs_out() -> None:
    rows = [{"id": job_id, "status": "running"} for job_id, _ in BAD.values()]
    page = read_page(answer({"items": [*rows, {"id": "job-1", "status": "running"}]}))
    assert list(page.rows) == ["job-1"]
