"""The reference is complete: every public name, setting, event and table has its place."""

from __future__ import annotations

import re
from pathlib import Path

from support.pages import ROOT, column, table

import prefect_docjobs
from prefect_docjobs import flows
from prefect_docjobs.flows._report import BatchEvent, Tally
from prefect_docjobs.ledger.schema import VERSION_TABLE, metadata
from prefect_docjobs.models import JobRef
from prefect_docjobs.models.job_events import event_payload, event_resource
from prefect_docjobs.providers import provider_class
from prefect_docjobs.providers.registry import BUILT_IN

REFERENCE = ROOT / "docs" / "reference"
SOURCES = sorted((ROOT / "prefect_docjobs").rglob("*.py"))
_SHOWN = re.compile(r"^::: (\S+)", re.MULTILINE)


def test_every_public_name_is_in_the_reference() -> None:
    shown = {name.rsplit(".", 1)[-1] for page in REFERENCE.glob("*.md") for name in _shown(page)}
    assert [name for name in prefect_docjobs.__all__ if not {name, f"a{name}"} & shown] == []


def test_every_flow_is_in_the_reference() -> None:
    shown = {name.rsplit(".", 1)[-1] for name in _shown(REFERENCE / "flows.md")}
    public = {name for name in flows.__all__ if hasattr(getattr(flows, name), "deploy")}
    assert public - shown == set()


def _shown(page: Path) -> list[str]:
    return _SHOWN.findall(page.read_text(encoding="utf-8"))


def test_every_environment_variable_is_in_the_settings() -> None:
    used = {name for path in SOURCES for name in re.findall(r"\bPREFECT_DOCJOBS_[A-Z_]+", path.read_text())}
    assert set(column(table(REFERENCE / "settings.md", "Environment variables"))) == used


def test_the_variable_of_every_services_key_is_in_the_settings() -> None:
    text = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    for name in BUILT_IN:
        assert f"| `{provider_class(name).env_key}` | {provider_class(name).title} |" in text


def test_every_table_of_the_ledger_is_in_the_settings() -> None:
    told = column(table(REFERENCE / "settings.md", "The ledger's tables"))
    assert sorted(told) == sorted([*metadata.tables, VERSION_TABLE])


def test_every_event_is_in_the_reference() -> None:
    sources = [path for path in SOURCES if path.name != "telemetry.py"]  # whose names are metrics
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    emitted = set(re.findall(r"\bdocjobs\.(?:job|documents|batch|load)\.[a-z]+\b(?!\.)", text))
    assert set(column(table(REFERENCE / "events.md", "Events"))) == emitted


def test_what_the_reference_says_of_an_event_about_a_job_is_what_is_emitted() -> None:
    (labels, payload) = _tables(REFERENCE / "events.md", "Events about a job")
    ref = JobRef.model_validate(
        {
            "provider": "mindee",
            "base_url": "https://api-v2.mindee.net",
            "tenant": "t",
            "product": "extraction",
            "job_id": "1",
            "document_name": "a.pdf",
            "submitted_at": "2026-11-01T00:00:00Z",
        }
    )
    assert set(labels) == set(event_resource(ref))
    assert payload == list(event_payload("mindee", "1", ref, phase="wait", reason=None, seconds=1.0))


def test_what_the_reference_says_of_an_event_about_a_batch_is_what_is_emitted() -> None:
    section = _section(REFERENCE / "events.md", "Events about a batch")
    told = {name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in row.split(", ")}
    event = BatchEvent(
        source="inbox", job="mindee-job/invoices", provider="mindee", product="x", is_well=True
    )
    sent = {*event._payload(Tally()), "elapsed", "files"}
    assert told == {f"`{name}`" for name in sent}


def _tables(page: Path, heading: str) -> list[list[str]]:
    """The first columns of all tables below a heading."""
    found = re.findall(r"(?:^\|.*\n)+", _section(page, heading), re.MULTILINE)
    return [re.findall(r"^\| `([^`]+)`", rows, re.MULTILINE) for rows in found]


def _section(page: Path, heading: str) -> str:
    return page.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
