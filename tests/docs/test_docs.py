"""The documentation says what is there: links, tables, sections and commands are compared with the code."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from support.pages import (
    ROOT,
    CodeBlock,
    anchors,
    code_blocks,
    column,
    headings,
    links,
    name_of,
    pages,
    prose,
    table,
)

import prefect_docjobs
from prefect_docjobs.cli.app import app
from prefect_docjobs.errors import Reason
from prefect_docjobs.http import Limits
from prefect_docjobs.models import Field, JobRef, JobState, Outcome, Result
from prefect_docjobs.providers import Provider, provider_class
from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.simulator.server import create_app
from prefect_docjobs.simulator.settings import Settings
from prefect_docjobs.waiting import WaitLimits
from prefect_docjobs.waiting.schedule import Schedule

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PROVIDER_SECTIONS = [
    "Credentials",
    "A job",
    "Options",
    "Results",
    "Errors",
    "Limits",
    "Oddities and unknowns",
]
_LANGUAGES = {"python", "text", "sh", "sql", "dockerfile", "toml"}
_COMMAND = re.compile(r"(?:\.venv/bin/|(?<![\w./-]))(make|prefect-docjobs) +([a-z][a-z0-9-]*)")


# ------------------------------------------------------------------------------------------------------ links


@pytest.mark.parametrize("page", [*pages(), ROOT / "CHANGELOG.md"], ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = [link for link in links(page) if not link.startswith("https://") and not _leads(page, link)]
    assert broken == []


def _leads(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / unquote(path)).resolve() if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


@pytest.mark.parametrize("page", [*pages(), ROOT / "CHANGELOG.md"], ids=name_of)
def test_every_link_to_elsewhere_is_an_https_address(page: Path) -> None:
    outside = [link for link in links(page) if "://" in link]
    assert [link for link in outside if not _is_https(link)] == []


def _is_https(link: str) -> bool:
    parts = urlsplit(link)
    return parts.scheme == "https" and "." in parts.netloc and link[-1] not in ".,;:"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_page_has_one_title_and_no_heading_twice(page: Path) -> None:
    assert len(headings(page, 1)) == 1
    assert len(set(headings(page, 2))) == len(headings(page, 2))


# --------------------------------------------------------------------------------------------------- services


def test_the_table_of_services_is_the_registry() -> None:
    rows = [_service_row(name) for name in BUILT_IN]
    text = README.read_text(encoding="utf-8")
    assert "\n".join(["|---|---|---|---|---|---|---|---|---|", *rows]) + "\n\n" in text, "\n".join(rows)


def _service_row(name: str) -> str:
    kind = provider_class(name)
    able = kind.capabilities
    job = f"{provider_class(name).__name__}Job"
    assert job in prefect_docjobs.__all__
    can = [able.url_input, able.list_jobs, able.stream, able.cancel, able.push]
    cells = [
        f"[{kind.title}](docs/providers/{name}.md)",
        f"`{job}`",
        ", ".join(kind.products) or "each of its catalogue",
        _documents(kind),
        *("yes" if ability else "-" for ability in can),
    ]
    return f"| {' | '.join(cells)} |"


def _documents(kind: type[Provider]) -> str:
    able = kind.capabilities
    types = ", ".join(sorted(name.rsplit("/", 1)[-1] for name in able.media_types or ())) or "any file"
    return f"{types}; at most {able.max_bytes >> 20} MiB" if able.max_bytes else types


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_provider_has_a_page_with_the_same_sections(name: str) -> None:
    assert headings(DOCS / "providers" / f"{name}.md", 2) == PROVIDER_SECTIONS


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_page_of_a_provider_names_every_setting_and_its_address(name: str) -> None:
    kind, page = provider_class(name), DOCS / "providers" / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    options = set(column(table(page, "Options")))
    assert [field.name for field in fields(kind) if field.name not in options] == []  # type: ignore[arg-type]
    assert kind.default_base_url in text
    assert kind.name == page.stem


def test_places_that_a_provider_adds_itself_to_name_every_provider() -> None:
    """The list in add-a-provider is complete for the four that are there."""
    for place in column(table(DOCS / "add-a-provider.md", "A service of this package")):
        for name in BUILT_IN:
            path = ROOT / place.replace("acme", name)
            assert path.exists() or path.with_suffix("").is_dir(), place
            if "acme" not in place:
                text = path.read_text(encoding="utf-8")
                assert name in text or f"{provider_class(name).__name__}Job" in text, (
                    f"{place} does not know {name}"
                )


# ------------------------------------------------------------------------------------------ nouns and numbers


@pytest.mark.parametrize(
    ("page", "heading", "names"),
    [
        ("results.md", "Results", list(Result.model_fields)),
        (
            "results.md",
            "Fields",
            ["value", *(name for name in Field.model_fields if name != "scalar")],
        ),
        ("results.md", "The ref", list(JobRef.model_fields)),
        ("results.md", "Rows for a table", list(Outcome(document="").row())),
        ("batches-and-failures.md", "Batches and failures", list(Outcome.model_fields)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_table_of_attributes_is_complete(page: str, heading: str, names: list[str]) -> None:
    assert column(table(DOCS / page, heading)) == names


def test_the_reasons_are_the_closed_list() -> None:
    assert sorted(column(table(DOCS / "batches-and-failures.md", "The reasons"))) == sorted(map(str, Reason))


def test_the_states_are_named_in_the_design() -> None:
    (states,) = [row[1] for row in table(DOCS / "design.md", "The way of a document") if row[0] == "JobState"]
    assert states.split(";")[0].split(", ") == [str(state) for state in JobState]


@pytest.mark.parametrize(
    ("heading", "defaults"),
    [("When to poll", Schedule), ("Which failures end the wait", WaitLimits), ("Requests", Limits)],
    ids=["schedule", "patience", "limits"],
)
def test_the_numbers_of_waiting_are_those_of_the_code(heading: str, defaults: type[Any]) -> None:
    told = {row[0]: row[1] for row in _last_table(DOCS / "how-it-waits.md", heading)}
    known = {
        field.name: field.default
        for field in fields(defaults)
        if isinstance(field.default, (int, float)) and not field.name.startswith("_")
    }
    assert {name: _amount(text) for name, text in told.items()} == known


def _last_table(page: Path, heading: str) -> list[list[str]]:
    """The table below a heading whose rows are names in the code; there may be one of services before it."""
    rows, found = list[list[str]](), False
    for line in prose(page):
        if line.startswith("#"):
            found = line.lstrip("# ") == heading
        elif found and line.startswith("| `"):
            rows.append([cell.strip(" `") for cell in line.split("|")[1:-1]])
    return [row for row in rows if row[1] != "default"]


def _amount(text: str) -> float:
    amount, _, unit = text.partition(" ")
    return float(amount) * (1 << 20 if unit == "MiB" else 1)


def test_the_pace_of_each_service_is_its_own() -> None:
    told = table(DOCS / "how-it-waits.md", "When to poll")
    paces = [(provider_class(name).title, provider_class(name).polling) for name in BUILT_IN]
    assert [(row[0], *map(_amount, row[1:])) for row in told] == [
        (title.removesuffix(" NuExtract"), pace.first, pace.every, pace.at_least) for title, pace in paces
    ]


def test_the_rooms_are_the_layers_that_are_checked() -> None:
    layers = re.findall(r'"\(?(prefect_docjobs[^"]*?)"', _import_rule("Layers"))
    rooms = [
        room.strip(" ()").removeprefix("prefect_docjobs.") for layer in layers for room in layer.split("|")
    ]
    assert column(table(DOCS / "design.md", "The rooms")) == rooms


def _import_rule(name: str) -> str:
    rules = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[[tool.importlinter.contracts]]")
    (rule,) = [rule for rule in rules if f'name = "{name}' in rule]
    return rule


# ---------------------------------------------------------------------------------------------- the simulator


def test_the_simulators_settings_and_defaults_are_complete() -> None:
    told = {row[0]: json.loads(row[1]) for row in table(DOCS / "simulator.md", "Settings")}
    assert told == dict(_flat(Settings().model_dump(mode="json")))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_the_simulators_control_routes_are_complete() -> None:
    routes = {
        f"{method} {getattr(route, 'path', '')}"
        for route in create_app().routes
        for method in getattr(route, "methods", set()) - {"HEAD"}
        if getattr(route, "path", "").startswith("/_simulator")
    }
    assert set(column(table(DOCS / "simulator.md", "Control routes"))) == routes


def test_the_simulators_report_is_explained() -> None:
    report = create_app().state.backend.report()
    rows = [line for line in prose(DOCS / "simulator.md") if line.startswith("| `")]
    explained = {row.split("`")[1] for row in rows}
    assert set(report) - explained == set()


# --------------------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    commands = {name for name in app if not name.startswith("-")}
    known = {"make": targets, "prefect-docjobs": commands}
    named = [match.groups() for text in _shell(page) for match in _COMMAND.finditer(text)]
    assert [f"{program} {word}" for program, word in named if word not in known[program]] == []


def _shell(page: Path) -> Iterator[str]:
    """What a page gives to a shell: blocks, and code in sentences."""
    for block in code_blocks(page):
        if block.language == "sh":
            yield from (line.partition("#")[0] for line in block.code.splitlines())
    for line in prose(page):
        yield from re.findall(r"`([^`]+)`", line)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_line_of_ours_is_understood(page: Path) -> None:
    """Its options exist and have the right types, also where the command is not run."""
    lines = "\n".join(block.code for block in code_blocks(page) if block.language == "sh")
    for match in re.finditer(r"^prefect-docjobs +([^|>&\n]*)", lines.replace("\\\n", " "), re.MULTILINE):
        app.parse_args(shlex.split(match[1], comments=True), print_error=False, exit_on_error=False)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_fence_says_what_it_holds_and_data_can_be_read(page: Path) -> None:
    for block in code_blocks(page):
        if block.language in ("yaml", "json"):
            assert _data(block), str(block)
        else:
            assert block.language in _LANGUAGES, str(block)


def _data(block: CodeBlock) -> object:
    if block.language == "yaml":
        return list(yaml.safe_load_all(block.code))
    return json.loads(block.code)


def test_the_readme_names_the_two_commands_and_runs_code() -> None:
    named = {match.groups() for text in _shell(README) for match in _COMMAND.finditer(text)}
    assert {("make", "demo"), ("make", "test")} <= named
    (code,) = [block for block in code_blocks(README) if block.language == "python"]
    assert code.output
    assert len(code.code.splitlines()) <= 20


@pytest.mark.parametrize("page", [*pages(), ROOT / "CHANGELOG.md"], ids=name_of)
def test_a_page_does_not_know_where_it_was_written(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"/work/|/home/|/root/|/tmp/", text)
