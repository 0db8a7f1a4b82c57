"""`extract_folder`, run."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.exceptions import FailedRun
from support.blocks import make_job
from support.shown import Shown

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError, InvalidDocument, Reason
from prefect_docjobs.flows import DeadLetter, extract_folder, read_dead_letters
from prefect_docjobs.models import Outcome
from prefect_docjobs.simulator.samples import sample_paths
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Duration, Settings

TOTALS = {
    "contract-northgate.pdf": (None, None),
    "invoice-brightwater.pdf": ("BW-10442", 1452.17),
    "invoice-cascade-3-pages.pdf": ("CP/2026/00731", 4177.38),
    "receipt-green-leaf.png": ("R-20931", 25.5),
    "rechnung-bergmann.pdf": ("2026-0317", 1432.4),
}
"""The invoice number and the total that the sample documents say."""

TEXTS = ["form-equipment-loan.txt", "order-alpine-tools.txt"]
"""The samples that Mindee does not take."""


@dataclass(frozen=True)
class Ran:
    """One run that has ended."""

    state: State[Any]
    output: Path

    @property
    def name(self) -> str:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(self._id).name

    @property
    def task_runs(self) -> list[str]:
        with get_client(sync_client=True) as client:
            mine = FlowRunFilter(id=FlowRunFilterId(any_=[self._id]))
            return sorted(run.name for run in client.read_task_runs(flow_run_filter=mine))

    @property
    def artifacts(self) -> list[Any]:
        """What the run and its tasks made."""
        with get_client(sync_client=True) as client:
            mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[self._id]))
            return list(client.read_artifacts(artifact_filter=mine))

    @property
    def shown(self) -> Shown:
        return Shown.of(self.state)

    @property
    def _id(self) -> Any:
        return self.state.state_details.flow_run_id

    def outcomes(self) -> list[Outcome]:
        return [Outcome.model_validate_json(line) for line in self._lines("results.jsonl")]

    def letters(self) -> list[DeadLetter]:
        return read_dead_letters(self.output / "failures.jsonl")

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._lines("rows.jsonl")]

    def _lines(self, name: str) -> list[str]:
        return (self.output / name).read_text("utf-8").splitlines()


def run(folder: Path, job: DocJob | str, **parameters: Any) -> Ran:
    output = parameters.pop("output", str(folder.parent / "out"))

    async def ended() -> State[Any]:
        return await extract_folder(str(folder), job, output=output, return_state=True, **parameters)

    return Ran(asyncio.run(ended()), Path(output))


def copied(folder: Path) -> Path:
    folder.mkdir()
    for path in sample_paths():
        shutil.copy(path, folder / path.name)
    return folder


def forms(folder: Path, number: int) -> dict[str, str]:
    """Texts that say different numbers; their names and numbers."""
    folder.mkdir()
    said = {f"form-{index:03}.txt": f"N-{index:05}" for index in range(number)}
    for name, invoice in said.items():
        (folder / name).write_text(f"Invoice number: {invoice}\nTotal: 1.00\n")
    return said


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory, simulator: Running) -> Ran:
    """The samples through Mindee V1, which takes PDF and PNG, in chunks of three."""
    job = make_job("mindee_v1", simulator.base_url)
    return run(copied(tmp_path_factory.mktemp("samples") / "inbox"), job, chunk_size=3)


@pytest.fixture
def faulty() -> Iterator[Running]:
    """A simulator where one job in thirty fails, whatever its document is like."""
    with run_in_thread(Settings(duration=Duration(law="fixed", seconds=0.0), failed_share=0.03)) as running:
        yield running


@pytest.fixture
def endless() -> Iterator[Running]:
    """A simulator whose jobs never end."""
    with run_in_thread(Settings(stuck_share=1.0)) as running:
        yield running


def test_each_document_delivers_its_own_values(samples: Ran) -> None:
    found = {
        outcome.document: (
            outcome.result.fields["invoice_number"].value,
            outcome.result.fields["total_amount"].value,
        )
        for outcome in samples.outcomes()
        if outcome.result
    }
    assert found == TOTALS


def test_a_failed_document_is_a_line_with_its_reason(samples: Ran) -> None:
    letters = samples.letters()
    assert sorted(letter.document for letter in letters) == TEXTS
    assert {letter.reason for letter in letters} == {Reason.INVALID_DOCUMENT}
    assert all(letter.path and letter.path.endswith(letter.document) for letter in letters)
    assert {letter.flow_run_id for letter in letters} == {str(samples.state.state_details.flow_run_id)}


def test_each_document_has_a_flat_row(samples: Ran) -> None:
    rows = {row["document"]: row for row in samples.rows()}
    assert sorted(rows) == sorted([*TOTALS, *TEXTS])
    assert rows["rechnung-bergmann.pdf"]["total_amount"] == 1432.4
    assert rows[TEXTS[0]]["reason"] == "invalid_document"


def test_failed_documents_do_not_fail_the_run_and_the_state_counts_them(samples: Ran) -> None:
    assert samples.state.is_completed()
    sentence = f"5 of 7 documents delivered; 2 invalid_document. Results are in {samples.output}"
    assert samples.state.message == sentence


def test_a_run_returns_totals_and_no_results(samples: Ran) -> None:
    totals = asyncio.run(samples.state.aresult())
    assert {name: totals[name] for name in ("documents", "delivered", "failed", "reasons", "pages")} == {
        "documents": 7,
        "delivered": 5,
        "failed": 2,
        "reasons": {"invalid_document": 2},
        "pages": 8,
    }
    assert len(json.dumps(totals)) < 1000


def test_each_chunk_is_a_task_run_with_a_readable_name(samples: Ran) -> None:
    assert samples.name == "inbox through mindee_v1/mindee/invoices/v4"
    chunks = ["extract 1-3 of 7", "extract 4-6 of 7", "extract 7-7 of 7"]
    assert samples.task_runs == [*chunks, "record 3 files"]


def test_runs_and_their_task_runs_are_tagged_with_the_service(samples: Ran) -> None:
    assert asyncio.run(samples.shown.tags()) == [["docjobs", "mindee_v1"]] * 5


def test_a_run_shows_one_progress_bar_two_tables_and_one_summary(samples: Ran) -> None:
    artifacts = {artifact.key.split("-")[1]: artifact for artifact in samples.artifacts}
    assert len(samples.artifacts) == 4
    assert {name: artifact.type for name, artifact in artifacts.items()} == {
        "progress": "progress",
        "results": "table",
        "failures": "table",
        "summary": "markdown",
    }
    assert artifacts["progress"].data == 100.0
    rows = json.loads(artifacts["results"].data)
    assert [row["document"] for row in rows] == TEXTS + sorted(TOTALS)
    assert rows[3]["total_amount"] == 1452.17
    failures = json.loads(artifacts["failures"].data)
    assert [(row["document"], row["what to do"]) for row in failures] == [
        (name, "Fix the document, then run the flow again.") for name in TEXTS
    ]
    assert "| Delivered | 5 |" in artifacts["summary"].data


def test_the_end_of_a_run_is_an_event_with_its_sums_and_files(samples: Ran) -> None:
    (event,) = asyncio.run(samples.shown.events("docjobs.batch.", number=1))
    assert event["event"] == "docjobs.batch.completed"
    assert event["resource"]["docjobs.provider"] == "mindee_v1"
    assert event["resource"]["docjobs.job"] == event["payload"]["job"] == "mindee_v1/mindee/invoices/v4"
    told = event["payload"]
    assert (told["documents"], told["delivered"], told["failed_share"]) == (7, 5, 0.2857)
    assert told["files"]["rows"] == str(samples.output / "rows.jsonl")


def test_the_files_are_assets_made_of_the_folder(samples: Ran) -> None:
    events = asyncio.run(samples.shown.events("prefect.asset.materialization.", number=3))
    assert {event["resource"]["prefect.resource.id"] for event in events} == {
        f"file://{samples.output / name}" for name in ("results.jsonl", "failures.jsonl", "rows.jsonl")
    }
    for event in events:
        assert event["event"] == "prefect.asset.materialization.succeeded"
        assert (event["payload"]["documents"], event["payload"]["delivered"]) == (7, 5)
        related = {each["prefect.resource.role"]: each["prefect.resource.id"] for each in event["related"]}
        assert related["asset"] == f"file://{samples.output.parent / 'inbox'}"


def test_a_folder_without_such_documents_completes_and_says_so(tmp_path: Path, job: DocJob) -> None:
    (tmp_path / "inbox").mkdir()
    ran = run(tmp_path / "inbox", job, pattern="*.pdf")
    assert ran.state.is_completed()
    assert ran.state.message == f"No file in {tmp_path / 'inbox'} matches *.pdf."
    assert [*ran.outcomes(), *ran.letters()] == []


def test_a_run_that_delivers_nothing_fails(tmp_path: Path, job: DocJob) -> None:
    ran = run(copied(tmp_path / "inbox"), job, pattern="*.txt")
    assert ran.state.is_failed()
    assert ran.state.message == (
        f"0 of 2 documents delivered; 2 invalid_document. See {tmp_path / 'out' / 'failures.jsonl'}"
    )
    with pytest.raises(FailedRun, match="0 of 2 documents delivered"):
        asyncio.run(ran.state.aresult())


def test_a_missing_folder_fails_the_run_by_name(tmp_path: Path, job: DocJob) -> None:
    ran = run(tmp_path / "nowhere", job)
    assert ran.state.is_failed()
    with pytest.raises(InvalidDocument, match="nowhere does not exist"):
        asyncio.run(ran.state.aresult())
    assert not ran.output.exists()


def test_an_unknown_job_fails_the_run_before_anything_is_written(tmp_path: Path) -> None:
    ran = run(copied(tmp_path / "inbox"), "mindee-job/nobody-made-this")
    with pytest.raises(ConfigurationError, match="mindee-job/nobody-made-this"):
        asyncio.run(ran.state.aresult())
    assert not ran.output.exists()


def test_a_job_may_be_named_and_files_of_earlier_runs_are_no_documents(
    tmp_path: Path, simulator: Running
) -> None:
    make_job("unsiloed", simulator.base_url).save("for-folders", overwrite=True)
    folder = copied(tmp_path / "inbox")
    (folder / "out").mkdir()
    (folder / "out" / "results.jsonl").write_text("of an earlier run, never to be submitted\n")
    (folder / "out" / "rows.jsonl.0a1b2c3d.partial").write_text("of a broken one\n")
    ran = run(
        folder,
        "unsiloed-job/for-folders",
        recursive=True,
        output=str(folder / "out"),
    )
    assert ran.name == "inbox through unsiloed-job/for-folders"
    assert sorted(row["document"] for row in ran.rows()) == sorted([*TOTALS, *TEXTS])


def test_with_three_percent_failing_every_other_document_is_delivered_once(
    tmp_path: Path, faulty: Running
) -> None:
    said = forms(tmp_path / "inbox", 120)
    (tmp_path / "inbox" / "zzz.txt").write_text("One more than max_documents.")
    job = make_job("unsiloed", faulty.base_url)
    ran = run(tmp_path / "inbox", job, chunk_size=30, max_documents=120)
    delivered = {
        outcome.document: outcome.result.fields["invoice_number"].value
        for outcome in ran.outcomes()
        if outcome.result
    }
    failures = {letter.document: letter for letter in ran.letters()}
    assert ran.state.is_completed()
    assert 0 < len(failures) < 12
    assert delivered == {name: number for name, number in said.items() if name not in failures}
    assert {letter.reason for letter in failures.values()} == {Reason.FAILED}
    assert all(letter.ref for letter in failures.values())
    submits = faulty.backend.report()["submits"]
    assert (submits["total"], submits["repeated"]) == (120, [])


def test_when_the_time_is_over_the_rest_is_not_submitted_and_refs_are_kept(
    tmp_path: Path, endless: Running
) -> None:
    forms(tmp_path / "inbox", 12)
    ran = run(tmp_path / "inbox", make_job("unsiloed", endless.base_url), chunk_size=2, timeout=2)
    failures = ran.letters()
    assert ran.state.is_failed()
    assert [letter.reason for letter in failures] == [Reason.TIMEOUT] * 12
    submitted = [letter for letter in failures if letter.ref]
    assert len(submitted) == endless.backend.report()["submits"]["total"] == 8
