"""Services side by side: files, artifacts, and the state of the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.exceptions import ParameterTypeError
from support.blocks import make_job

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.flows import compare_services
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Settings

pytestmark = pytest.mark.timeout(400)

NAMES = {
    "number": ["invoice_number"],
    "total": ["total_amount"],
    "net": ["total_net"],
    "lines[].text": ["line_items[].description"],
    "lines[].amount": ["line_items[].total_amount", "line_items[].amount"],
}


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    for name in ("invoice-brightwater.pdf", "rechnung-bergmann.pdf", "order-alpine-tools.txt"):
        shutil.copy(SAMPLES / name, folder / name)
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def artifact(key: str) -> Any:
    """The newest of this key."""
    async with get_client() as client:
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(like_=key)), limit=1
        )
    data = str(found[0].data)
    return json.loads(data) if data.startswith("[") else data


async def test_every_field_of_every_document_is_a_line_with_who_said_what(
    inbox: Path, jobs: Mapping[str, DocJob], simulator: Running
) -> None:
    asked = [jobs["mindee"], jobs["mindee_v1"], jobs["numind"]]
    out = inbox.parent / "out"
    totals = await compare_services(str(inbox), asked, fields=NAMES, output=str(out))
    told = {(line["document"], line["field"]): line for line in lines(out / "comparison.jsonl")}
    number = told["invoice-brightwater.pdf", "number"]
    assert list(number["values"].values()) == ["BW-10442"] * 3
    assert (number["found"], number["agreeing"], number["agreement"]) == (3, 3, 1.0)
    text = told["order-alpine-tools.txt", "total"]
    assert list(text["values"].values()) == [None, None, 2659.14]
    assert list(text["reasons"].values()) == ["invalid_document"] * 2
    amounts = [line for (name, field), line in told.items() if field == "lines[0].amount" and name[0] == "i"]
    assert amounts[0]["agreement"] == 1.0
    assert totals["documents"] == 3
    rows = {row["service"].partition("/")[0]: row for row in totals["services"]}
    assert [rows[name]["delivered"] for name in ("mindee", "mindee_v1", "numind")] == [2, 2, 3]
    assert rows["mindee"]["reasons"] == {"invalid_document": 1}
    assert rows["mindee"]["agreement"] == 1.0
    assert totals["files"] == [str(out / "comparison.jsonl"), str(out / "conflicts.jsonl")]


async def save_pair(simulator: Running, *, whole: str, net: str) -> None:
    """A job that asks for the total, and one that asks for the net total, under these names."""
    job = make_job("numind", simulator.base_url, template={"total_net": "number", "invoice_number": "string"})
    await job.asave(net, overwrite=True)
    await make_job("mindee_v1", simulator.base_url).asave(whole, overwrite=True)


async def test_conflicts_are_listed_for_a_person_and_come_first_in_the_table(
    inbox: Path, simulator: Running
) -> None:
    await save_pair(simulator, whole="whole", net="net")
    names = {"number": ["invoice_number"], "amount": ["total_amount", "total_net"]}
    out = inbox.parent / "out"
    totals = await compare_services(
        str(inbox), ["mindee-v1-job/whole", "numind-job/net"], fields=names, pattern="*.pdf", output=str(out)
    )
    assert (totals["fields"], totals["unanimous"], totals["conflicts"]) == (4, 2, 2)
    first, _ = lines(out / "conflicts.jsonl")
    assert {each["value"]: each["services"] for each in first["candidates"]} == {
        1452.17: ["mindee-v1-job/whole"],
        1344.6: ["numind-job/net"],
    }
    assert first["candidates"][0]["answers"][0]["locations"]
    table = await artifact("docjobs-comparison-mindee-v1-job-whole-and-numind-job-net")
    assert [row["field"] for row in table] == ["amount", "amount", "number", "number"]
    assert (table[0]["mindee-v1-job/whole"], table[0]["agreement"]) == ("1452.17", "1 of 2")
    summary = await artifact("docjobs-comparison-summary-mindee-v1-job-whole-and-numind-job-net")
    assert "2 documents: 2 of 4 fields unanimous, 2 conflicts for a person to decide." in summary
    assert "| mindee-v1-job/whole | 2 of 2 |" in summary


async def test_the_table_shows_differences_then_what_is_shared_then_what_one_service_found_alone(
    inbox: Path, simulator: Running
) -> None:
    await save_pair(simulator, whole="ordered", net="ordered")
    names = {
        "supplier": ["supplier_name"],
        "number": ["invoice_number"],
        "amount": ["total_amount", "total_net"],
    }
    state = await compare_services(
        str(inbox),
        ["mindee-v1-job/ordered", "numind-job/ordered"],
        fields=names,
        pattern="*.pdf",
        output=str(inbox.parent / "out"),
        return_state=True,
    )
    sums = "2 documents: 4 of 6 fields unanimous (2 found by one service only), 2 conflicts"
    assert str(state.message).startswith(f"{sums}. ")
    subject = "mindee-v1-job-ordered-and-numind-job-ordered"
    assert f"{sums} for a person" in await artifact(f"docjobs-comparison-summary-{subject}")
    table = await artifact(f"docjobs-comparison-{subject}")
    shown = [(row["field"], row["agreement"]) for row in table]
    assert shown == [*[("amount", "1 of 2")] * 2, *[("number", "2 of 2")] * 2, *[("supplier", "1 of 1")] * 2]


async def test_artifacts_of_more_services_than_fit_a_key_are_called_after_their_number_and_the_folder(
    inbox: Path, jobs: Mapping[str, DocJob]
) -> None:
    asked = [jobs["mindee"], jobs["mindee_v1"], jobs["numind"]]
    folder = inbox.with_name("for three")  # which no other test compares
    await anyio.Path(inbox).rename(folder)
    await compare_services(str(folder), asked, pattern="*.pdf", output=str(inbox.parent / "out"))
    summary = await artifact("docjobs-comparison-summary-3-services-on-for-three")
    assert summary.startswith("## 3 services on ")
    assert {row["document"] for row in await artifact("docjobs-comparison-3-services-on-for-three")} == {
        "invoice-brightwater.pdf",
        "rechnung-bergmann.pdf",
    }


async def test_a_second_comparison_buys_nothing(
    inbox: Path, jobs: Mapping[str, DocJob], simulator: Running
) -> None:
    asked = [jobs["mindee"], jobs["unsiloed"]]
    await compare_services(str(inbox), asked, output=str(inbox.parent / "out"))
    before = simulator.backend.report()["submits"]["total"]
    again = await compare_services(str(inbox), asked, output=str(inbox.parent / "out"))
    assert simulator.backend.report()["submits"]["total"] == before
    assert {row["seconds_p50"] for row in again["services"]} == {None}  # nothing was waited for


async def test_a_run_fails_when_no_service_delivers_anything(inbox: Path) -> None:
    with run_in_thread(Settings().merged({"failed_share": 1.0, "duration": {"median": 0.01}})) as bad:
        jobs = [make_job("mindee", bad.base_url), make_job("mindee_v1", bad.base_url)]
        state = await compare_services(str(inbox), jobs, output=str(inbox.parent / "out"), return_state=True)
    assert state.is_failed()
    assert state.message == "No service delivered any of 3 documents."


async def test_an_empty_folder_is_no_failure(tmp_path: Path, jobs: Mapping[str, DocJob]) -> None:
    totals = await compare_services(str(tmp_path), [jobs["mindee"]], output=str(tmp_path / "out"))
    assert (totals["documents"], totals["conflicts"]) == (0, 0)


async def test_settings_that_make_no_sense_are_refused_before_anything_is_bought(
    inbox: Path,
) -> None:
    with run_in_thread(Settings()) as service:
        job = make_job("mindee", service.base_url)
        await job.asave("twice", overwrite=True)
        with pytest.raises(ConfigurationError, match="named twice"):
            await compare_services(str(inbox), ["mindee-job/twice", "mindee-job/twice"])
        with pytest.raises(ConfigurationError, match="names no column"):
            await compare_services(str(inbox), [job], fields={"lines[]": []})
        with pytest.raises(ParameterTypeError, match="comparators"):
            await compare_services(str(inbox), [job], comparators={"x": "fuzzy"})  # type: ignore[dict-item]
        assert service.backend.report()["submits"]["total"] == 0


def test_the_form_of_the_deployment_explains_every_parameter() -> None:
    schema = compare_services.parameters.model_dump()
    properties = schema["properties"]
    assert properties["jobs"]["items"] == {"type": "string"}
    assert [name for name, each in properties.items() if not each.get("description")] == []
