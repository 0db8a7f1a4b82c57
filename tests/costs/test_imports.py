"""Jobs that were submitted elsewhere can be written into the ledger, once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.ledgers import ref
from support.services import connected, invoice

from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.extraction import extract_many, fetch_many, wait_many
from prefect_docjobs.extraction.imports import entry_of_job, import_refs, read_refs, read_refs_file
from prefect_docjobs.ledger import Ledger, State
from prefect_docjobs.models import Outcome, Phase


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with Ledger(str(tmp_path / "l.db")) as opened:
        yield opened


def mindee(job_id: str, **facts: str) -> dict[str, object]:
    return ref(job_id, provider="mindee", **facts).model_dump(mode="json", exclude_none=True)


class TestReading:
    def test_a_line_is_a_ref_or_has_one(self) -> None:
        outcome = Outcome(document="c.pdf", ref=ref("c", provider="mindee"), reason=Reason.TIMEOUT)
        lines = [
            json.dumps(mindee("a")),
            "",
            json.dumps({"id": 7, "job_id": "b", "ref": mindee("b")}),
            outcome.model_dump_json(exclude_none=True),
        ]
        assert [read.job_id for read in read_refs(lines)] == ["a", "b", "c"]

    def test_a_row_without_a_job_is_left_out(self) -> None:
        never_sent = Outcome(document="a.pdf", phase=Phase.SUBMIT, reason=Reason.BUDGET)
        unknown = {"id": 7, "job_id": None, "ref": None}
        assert read_refs([never_sent.model_dump_json(exclude_none=True), json.dumps(unknown)]) == []

    @pytest.mark.parametrize(
        ("line", "what"),
        [
            ("{", "Line 2 is no JSON"),
            ("[" * 100_000, "Line 2 is no JSON"),
            ('{"job_id": "a"}', "Line 2 is not the ref of a job: provider, base_url"),
            ("[]", "Line 2 is not the ref"),
            (json.dumps({**mindee("a"), "provider": "nobody"}), "Line 2: There is no service 'nobody'"),
        ],
    )
    def test_what_is_no_ref_is_named_by_its_line(self, line: str, what: str) -> None:
        with pytest.raises(ConfigurationError, match=what):
            read_refs([json.dumps(mindee("a")), line])

    def test_a_file_has_a_ref_in_each_line(self, tmp_path: Path) -> None:
        file = tmp_path / "refs.jsonl"
        file.write_text(f"{json.dumps(mindee('a'))}\n\n{json.dumps(mindee('b'))}\n")
        assert [read.job_id for read in read_refs_file(file)] == ["a", "b"]

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        (latin := tmp_path / "latin.jsonl").write_bytes(b"\xe4\n")
        for path in (latin, tmp_path / "missing.jsonl", tmp_path, Path("~nobody-of-this-name/refs.jsonl")):
            with pytest.raises(ConfigurationError, match=f"{path.name} cannot be read"):
                read_refs_file(path)


async def test_refs_are_imported_as_submitted_and_free_for_anybody(ledger: Ledger) -> None:
    imported = await import_refs(ledger, [ref(f"job-{number}") for number in range(250)])
    records = await ledger.find()
    assert (len(imported.new), len(imported.known)) == (250, 0)
    assert {record.job_id for record in records} == {f"job-{number}" for number in range(250)}
    assert {record.state for record in records} == {State.SUBMITTED}
    assert max(record.lease_left for record in records) <= 0.0


async def test_a_job_is_imported_once(ledger: Ledger) -> None:
    await import_refs(ledger, [ref("a")])
    again = await import_refs(ledger, [ref("a"), ref("b"), ref("b"), ref("b", document_name="other.pdf")])
    assert [new.job_id for new in again.new] == ["b"]
    assert [known.job_id for known in again.known] == ["a", "b"]
    assert len(await ledger.find()) == 2


async def test_the_same_id_at_another_account_is_another_job(ledger: Ledger) -> None:
    imported = await import_refs(ledger, [ref("a"), ref("a", tenant="else")])
    assert len(imported.new) == 2


async def test_an_imported_job_is_waited_for_and_its_result_kept_under_the_same_record(
    ledger: Ledger,
) -> None:
    async with connected("mindee") as service:
        here, provider = (service.http, service.provider)
        submitted = [outcome async for _, outcome in extract_many(provider, here, [invoice(1)])]
        job = submitted[0].ref
        assert job
        await import_refs(ledger, [job])
        ended = [outcome async for _, outcome in wait_many(provider, here, [job], ledger=ledger)]
        fetched = [outcome async for _, outcome in fetch_many(provider, here, [job], ledger=ledger)]
        assert ended[0].ok
        assert fetched[0].result
    [record] = await ledger.find()
    assert record.state is State.FETCHED


async def test_a_fetch_of_an_unknown_job_and_an_import_write_the_same_key(ledger: Ledger) -> None:
    async with connected("mindee") as service:
        submitted = extract_many(service.provider, service.http, [invoice(1)])
        [job] = [outcome.ref async for _, outcome in submitted]
        assert job
        fetched = fetch_many(service.provider, service.http, [job], ledger=ledger)
        assert [outcome.ok async for _, outcome in fetched] == [True]
    [record] = await ledger.find()
    assert record.key == entry_of_job(job).key
