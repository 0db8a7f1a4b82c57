"""Budgets, dry runs and reconciliation as people call them: tasks, flows, the terminal."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_API_URL
from support.blocks import make_job
from support.ledgers import ref
from support.services import invoice

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError, Reason, Unsupported
from prefect_docjobs.extraction import submit_many
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.flows.reconcile_jobs import reconcile_jobs
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings
from prefect_docjobs.tasks import aextract_documents, submit_documents
from prefect_docjobs.tasks.extract import aplan_documents, plan_documents

DOCUMENTS = [invoice(number) for number in range(4)]


def told(records: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records]


async def test_a_task_keeps_its_budget_and_tells_what_it_cost(
    jobs: Mapping[str, DocJob], records: list[logging.LogRecord]
) -> None:
    job = jobs["unsiloed"]
    first = await aextract_documents(job, DOCUMENTS[:1])
    assert first[0].ok
    batch = await aextract_documents(job, DOCUMENTS, budget=0.1, price_per_page=0.05)
    assert [row.reason for row in batch].count(Reason.BUDGET) == 1
    line = next(line for line in reversed(told(records)) if "bought" in line)
    assert line == "2 documents bought, 1 reused; 2 pages; 0.1 at 0.05 a page"


async def test_several_calls_share_one_budget(job: DocJob) -> None:
    budget = Budget(max_submits=3)

    @flow
    async def two_chunks() -> list[bool]:
        rows = []
        for chunk in (DOCUMENTS[:2], DOCUMENTS[2:]):
            rows += [row.ok for row in await aextract_documents(job, chunk, budget=budget)]
        return rows

    assert await two_chunks() == [True, True, True, False]
    assert budget.bought == 3


def test_a_plain_task_has_the_same_limits(job: DocJob) -> None:
    assert [row.reason for row in submit_documents(job, DOCUMENTS[:2], max_submits=1)] == [
        None,
        Reason.BUDGET,
    ]


async def test_a_limit_that_is_none_is_refused_before_anything_is_sent(job: DocJob) -> None:
    with pytest.raises(ConfigurationError, match="budget must be a number"):
        await aextract_documents(job, DOCUMENTS, budget=-1)


async def test_a_plan_says_what_a_run_then_does(job: DocJob, simulator: Running) -> None:
    await aextract_documents(job, DOCUMENTS[:1])
    plan = await aplan_documents(job, DOCUMENTS, max_submits=2, price_per_page=0.5)
    assert plan.counts == {"submit": 2, "paid": 1, "over_budget": 1}
    assert plan.cost == 1.0
    batch = await aextract_documents(job, DOCUMENTS, max_submits=2)
    assert [row.ok for row in batch] == [row.verdict.value in ("submit", "paid") for row in plan]


def test_a_plan_of_sync_code(job: DocJob) -> None:
    assert str(plan_documents(job, DOCUMENTS)) == "4 documents: 4 submit. 4 pages would be bought."


@pytest.fixture(scope="module")
def saved(simulator: Running) -> str:
    """Name of a saved job."""
    make_job("mindee", simulator.base_url).save("for-a-dry-run", overwrite=True)
    return "mindee-job/for-a-dry-run"


class TestInATerminal:
    def extract(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "COLUMNS": "80"}
        return subprocess.run(
            [sys.executable, "-m", "prefect_docjobs.cli", "extract", *arguments],
            env=settings,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    def test_a_dry_run_tells_what_would_be_bought(self, saved: str) -> None:
        invoice = str(SAMPLES / "invoice-brightwater.pdf")
        dry = ("--job", saved, "--dry-run", "--price-per-page", "0.05")
        done = self.extract(invoice, "no-such-file.pdf", *dry)
        assert (done.returncode, done.stderr) == (
            0,
            "2 documents: 1 submit, 1 invalid. 1 page would be bought for 0.05.\n",
        )
        assert max(map(len, done.stdout.splitlines())) <= 80

    def test_what_it_calls_paid_a_run_has_bought(self, saved: str) -> None:
        invoice = str(SAMPLES / "invoice-brightwater.pdf")
        assert self.extract(invoice, "--job", saved, "--max-documents", "1").returncode == 0
        done = self.extract(invoice, "--job", saved, "--dry-run", "--json")
        assert [json.loads(line)["verdict"] for line in done.stdout.splitlines()] == ["paid"]


class TestReconciling:
    @pytest.fixture
    def numind(self) -> Iterator[DocJob]:
        """A NuMind of its own, with jobs that run on."""
        with run_in_thread(Settings(duration=Duration(law="fixed", seconds=600.0))) as running:
            yield make_job("numind", running.base_url)

    async def orphans(self, job: DocJob, count: int) -> None:
        """Jobs that no ledger knows."""
        async with job.credentials.get_client() as http:
            async for _ in submit_many(job.provider(), http, DOCUMENTS[:count]):
                pass

    async def artifacts(self, key: str) -> list[Any]:
        of_this_key = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))  # all are more than one page
        async with get_client() as client:
            return list(await client.read_artifacts(artifact_filter=of_this_key))

    async def test_orphans_are_reported_then_adopted_then_known(self, numind: DocJob) -> None:
        before = {table.id for table in await self.artifacts("docjobs-jobs-numind-extraction")}
        await self.orphans(numind, 2)
        await aextract_documents(numind, DOCUMENTS[2:], timeout=2.0)
        reported = await reconcile_jobs(numind, settled_after=0)
        assert (reported["known"], reported["orphaned"], reported["complete"]) == (2, 2, True)
        adopted = await reconcile_jobs(numind, settled_after=0, action="adopt")
        assert (adopted["known"], adopted["adopted"]) == (2, 2)
        assert (await reconcile_jobs(numind, settled_after=0))["known"] == 4
        found = await self.artifacts("docjobs-jobs-numind-extraction")
        tables = [table for table in found if table.id not in before]
        assert len(tables) == 3
        assert [row["standing"] for row in json.loads(tables[0].data)][:2]

    async def test_refs_made_elsewhere_are_imported_first(self, numind: DocJob, tmp_path: Path) -> None:
        await self.orphans(numind, 1)
        file = tmp_path / "refs.jsonl"
        file.write_text(ref("elsewhere", provider="mindee").model_dump_json() + "\n")
        done = await reconcile_jobs(numind, refs=str(file))
        assert (done["imported"], done["new"]) == (1, 1)

    async def test_a_service_without_a_list_fails_with_a_clear_sentence(self, job: DocJob) -> None:
        with pytest.raises(Unsupported, match=r"Mindee .*has no list of jobs"):
            await reconcile_jobs(job)
