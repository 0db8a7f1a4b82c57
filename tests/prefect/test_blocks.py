"""The eight blocks: what Prefect wants of them, what they refuse, and the runs that they make."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task, unmapped
from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite
from prefect.utilities.collections import visit_collection
from prefect.utilities.dispatch import get_registry_for_type
from prefect.utilities.hashing import hash_objects
from pydantic import ValidationError
from support.blocks import JOBS, aged, make_job
from support.services import KEY, MODEL, SETTINGS, invoice, says

import prefect_docjobs
from prefect_docjobs import JobState, MindeeCredentials, MindeeJob, NuMindJob
from prefect_docjobs.blocks import DocJob, DocJobRun
from prefect_docjobs.errors import ConfigurationError, RefMismatch, Unauthorized, Unsupported
from prefect_docjobs.providers import provider_class
from prefect_docjobs.providers.base import Polling
from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running

ROOT = Path(__file__).parents[2]
LOGO = ROOT / "docs" / "logo.png"
RAW = "https://raw.githubusercontent.com/prefect-docjobs/prefect-docjobs/main"
SLUGS = frozenset(
    f"{service}-{kind}"
    for service in ("mindee", "mindee-v1", "numind", "unsiloed")
    for kind in ("credentials", "job")
)
BLOCKS: list[Any] = [
    kind
    for kind in (get_registry_for_type(Block) or {}).values()
    if kind.__module__.startswith("prefect_docjobs.")
]


# --------------------------------------------------------------------------------- what Prefect wants


class TestStandards(BlockStandardTestSuite):
    @pytest.fixture(params=BLOCKS, ids=lambda kind: kind.__name__)
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        kind: type[Block] = request.param
        return kind

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """The suite's own check would load it from the internet; here the file itself is read."""
        assert str(block._logo_url) == f"{RAW}/{LOGO.relative_to(ROOT).as_posix()}"
        assert LOGO.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", LOGO.read_bytes()[16:24])
        assert width == height
        assert 46 <= width <= 999


def test_the_registry_has_exactly_the_eight_blocks() -> None:
    assert {kind.get_block_type_slug() for kind in BLOCKS} == SLUGS
    assert len(BLOCKS) == 8


def test_every_provider_has_its_two_blocks() -> None:
    assert sorted(kind._provider for kind in BLOCKS) == sorted([*BUILT_IN, *BUILT_IN])


def test_names_of_block_types_are_set_and_not_derived_from_classes() -> None:
    for kind in BLOCKS:
        assert kind._block_type_name is not None
        assert kind._block_type_name.endswith((" Credentials", " Job"))
        page = f"docs/providers/{kind._provider}.md"
        assert str(kind._documentation_url).endswith(f"/main/{page}")
        assert (ROOT / page).is_file()


def test_a_server_that_starts_with_the_package_knows_the_eight(block_types_at_start: frozenset[str]) -> None:
    assert block_types_at_start >= SLUGS
    assert not [slug for slug in block_types_at_start - SLUGS if "docjob" in slug or "jobblock" in slug]


def test_block_register_finds_the_eight_in_the_package() -> None:
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "COLUMNS": "120"}
    found = subprocess.run(
        [sys.executable, "-m", "prefect", "block", "register", "-m", "prefect_docjobs"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "registered 8 blocks" in found.stdout
    for kind in BLOCKS:
        assert kind.get_block_type_name() in found.stdout


def test_the_entry_point_loads_the_module_that_defines_the_eight() -> None:
    (point,) = [each for each in entry_points(group="prefect.collections") if each.name == "prefect_docjobs"]
    module = point.load()
    assert {kind for kind in BLOCKS if getattr(module, kind.__name__) is kind} == set(BLOCKS)


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.__name__)
def test_the_code_example_of_a_block_runs(
    kind: type[Block], jobs: Mapping[str, DocJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job: Any = jobs[kind._provider]  # type: ignore[attr-defined]
    saved = job if isinstance(job, kind) else job.credentials.model_copy()
    saved.save("of-the-example", overwrite=True)
    monkeypatch.setattr(
        provider_class(job.provider().name), "polling", Polling(first=0.05, every=0.1, at_least=0.05)
    )
    monkeypatch.chdir(tmp_path)
    shutil.copy(SAMPLES / "invoice-brightwater.pdf", "invoice.pdf")
    (code,) = re.findall(r"```python\n(.+?)```", kind.get_code_example() or "", re.DOTALL)
    made: dict[str, Any] = {}
    exec(code.replace("BLOCK_NAME", "of-the-example"), made)
    assert made["job"].credentials.api_key.get_secret_value() == KEY
    if isinstance(job, kind):
        assert says(made["batch"].results[0]) == ("BW-10442", 1452.17)


# ------------------------------------------------------------------------------------- what forms are made of


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.__name__)
def test_a_form_asks_for_no_type(kind: type[Block]) -> None:
    """A choice between a type and null is what the UI shows of a setting that may be left out."""
    for name, property_ in kind.model_json_schema()["properties"].items():
        assert "anyOf" not in property_, name
        assert property_.get("default", "") is not None, name
        assert "$ref" in property_ or property_["type"] != "boolean" or "default" in property_, name


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.__name__)
def test_a_form_begins_with_what_is_needed_and_ends_with_what_is_rare(kind: type[Block]) -> None:
    names, required = list(kind.model_fields), set(kind.model_json_schema()["required"])
    assert set(names[: len(required)]) == required
    rare = "options" if issubclass(kind, DocJob) else "max_answer_mib"
    assert names[-1] == rare


def test_a_setting_that_is_json_has_an_editor_with_an_empty_object_or_an_example() -> None:
    objects = [
        property_
        for kind in JOBS.values()
        for property_ in kind.model_json_schema()["properties"].values()
        if property_.get("type") == "object"
    ]
    assert len(objects) == 9
    assert [each for each in objects if each.get("default") != {} and not each.get("examples")] == []


def test_every_secret_is_one_masked_field() -> None:
    for kind in BLOCKS:
        schema = kind.model_json_schema()
        for name in schema["secret_fields"]:
            if "." not in name:
                assert schema["properties"][name]["format"] == "password", name


def test_what_a_form_sends_makes_the_same_block_as_python() -> None:
    """Forms know texts where Python knows numbers and truth, and send what is left empty as such."""
    account = {"api_key": "k", "webhook_secrets": "new, old", "tenant": "", "submits_per_second": None}
    sent = MindeeJob(credentials=account, model_id=MODEL, raw_text="yes", rag="no", alias="", data_schema={})
    made = MindeeJob(
        credentials=MindeeCredentials(api_key="k", webhook_secrets=["new", "old"]),
        model_id=MODEL,
        raw_text=True,
        rag=False,
    )
    assert sent == made
    template = {"total": "number"}
    credentials = {"api_key": "k"}
    numbers = NuMindJob(credentials=credentials, template=template, dpi="300", image_width="original")
    assert (numbers.dpi, numbers.image_width) == (300, "original")


def test_what_a_form_shows_of_a_block_is_what_it_would_send() -> None:
    job = make_job("numind", "http://localhost", dpi=300, enable_thinking=False)
    shown = job.model_dump(mode="json")
    assert (shown["dpi"], shown["enable_thinking"], shown["loop_detection"]) == ("300", "no", None)


# -------------------------------------------------------------------------- settings and their checks


@pytest.mark.parametrize("name", JOBS)
def test_a_job_block_has_the_settings_of_its_provider_and_no_others(name: str) -> None:
    settings = {field.name for field in fields(provider_class(name))}  # type: ignore[arg-type]
    assert set(JOBS[name].model_fields) - {"credentials"} == settings


@pytest.mark.parametrize("name", JOBS)
def test_a_job_block_has_the_defaults_of_its_provider(name: str, jobs: Mapping[str, DocJob]) -> None:
    ours, theirs = jobs[name].provider(), provider_class(name)(**SETTINGS[name])
    for field in fields(theirs):  # type: ignore[arg-type]
        assert _plain(getattr(ours, field.name)) == _plain(getattr(theirs, field.name)), field.name


def _plain(setting: object) -> object:
    return list(setting) if isinstance(setting, tuple) else setting


@pytest.mark.parametrize("name", JOBS)
def test_credentials_are_at_the_provider_s_own_address_by_default(name: str) -> None:
    kind: Any = JOBS[name].model_fields["credentials"].annotation
    assert kind(api_key="k").base_url == provider_class(name).default_base_url


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("", "empty"),
        ("Bearer abc", "'Bearer'"),
        ("Token abc", "'Bearer'"),
        ("Authorization: abc", "'Bearer'"),
        ("**********", "mask"),
        ("********", "mask"),
        ("sk abc", "blanks"),
        ("sk-abc\n", "line breaks"),
        ("clé", "ASCII"),
    ],
)
def test_a_key_that_cannot_be_one_is_refused_by_name(key: str, complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MindeeCredentials(api_key=key)
    assert [error["loc"] for error in caught.value.errors(include_input=False)] == [("api_key",)]
    assert complaint in str(caught.value)


@pytest.mark.parametrize("wrong", [{"api_key": 12345678}, {"api_key": "Bearer s3cr3t"}, {"apikey": "s3cr3t"}])
def test_no_refusal_repeats_what_was_given(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        MindeeJob(credentials=wrong, model_id=MODEL)
    assert "s3cr3t" not in str(caught.value)
    assert "12345678" not in str(caught.value)


def test_a_job_that_an_edit_in_the_ui_left_without_its_account_says_what_to_do() -> None:
    """The form of Prefect 3.8 saves the masks that it shows in place of the reference to the credentials."""
    with pytest.raises(ValidationError, match="choose its credentials again and save"):
        MindeeJob(credentials={"api_key": "********"}, model_id=MODEL)


def test_a_webhook_secret_is_checked_like_a_key() -> None:
    with pytest.raises(ValidationError, match=r"webhook_secrets\n.*mask"):
        MindeeCredentials(api_key="k", webhook_secrets=["good", "********"])


def test_a_misspelt_setting_is_refused_and_the_settings_are_named() -> None:
    with pytest.raises(
        ValidationError, match=r"no setting modelid\. There are: credentials, model_id, product"
    ):
        MindeeJob(credentials=MindeeCredentials(api_key="k"), model_id=MODEL, modelid="x")


def test_a_setting_that_the_provider_refuses_is_refused_when_the_block_is_made() -> None:
    with pytest.raises(ValidationError, match="model_id must be a UUID"):
        MindeeJob(credentials=MindeeCredentials(api_key="k"), model_id="invoices")


def test_base_url_is_normalized() -> None:
    assert MindeeCredentials(api_key="k", base_url="https://eu.test/v2/").base_url == "https://eu.test"
    with pytest.raises(ValidationError, match="base_url"):
        MindeeCredentials(api_key="k", base_url="eu.test")


def test_examples_of_numind_are_read_as_documents(tmp_path: Path) -> None:
    solved = {"path": tmp_path / "solved.pdf", "result": {"total": 1}}
    job = make_job("numind", "http://localhost", examples=[solved])
    assert isinstance(job, NuMindJob)
    [(document, result)] = job.settings()["examples"]
    assert (document.name, document.path, result) == ("solved.pdf", tmp_path / "solved.pdf", {"total": 1})


# --------------------------------------------------------------------------------- accounts and clients


def test_the_tenant_is_a_hash_of_the_key_unless_it_is_named() -> None:
    first, second = MindeeCredentials(api_key="one"), MindeeCredentials(api_key="two")
    assert first.tenant_id != second.tenant_id
    assert len(first.tenant_id) == 12
    assert "one" not in first.tenant_id
    assert first.tenant_id == MindeeCredentials(api_key="one").tenant_id
    assert MindeeCredentials(api_key="one", tenant="acme").tenant_id == "acme"


def test_a_client_is_bound_to_the_account_and_its_limits() -> None:
    http = MindeeCredentials(api_key="k", tenant="acme", max_in_flight=7, max_answer_mib=2).get_client()
    assert (http.provider, http.base_url, http.tenant) == ("mindee", "https://api-v2.mindee.net", "acme")
    assert (http.limits.in_flight, http.limits.answer_bytes) == (7, 2 << 20)


def test_cache_keys_over_blocks_tell_accounts_apart() -> None:
    keys = {hash_objects(make_job("mindee", "http://localhost", key=key)) for key in ("one", "two", "one")}
    assert len(keys) == 2


@pytest.mark.parametrize("show", [repr, str, lambda job: job.model_dump_json(), lambda job: str(dict(job))])
def test_a_block_never_shows_its_key(show: Any) -> None:
    job = make_job("mindee", "http://localhost", key="s3cr3t-key")
    assert "s3cr3t" not in show(job)
    assert "s3cr3t" not in show(job.credentials)


@pytest.mark.parametrize("name", JOBS)
def test_a_block_travels_in_a_pickle_without_a_client(name: str, jobs: Mapping[str, DocJob]) -> None:
    assert pickle.loads(pickle.dumps(jobs[name])) == jobs[name]
    assert copy.deepcopy(jobs[name]) == jobs[name]


# ------------------------------------------------------------------------------------- saved and loaded


@pytest.mark.parametrize("name", JOBS)
async def test_a_job_is_saved_and_loaded_by_name_with_its_account(
    name: str, jobs: Mapping[str, DocJob]
) -> None:
    slug = JOBS[name].get_block_type_slug()
    await jobs[name].asave(f"saved-{name.replace('_', '-')}", overwrite=True)
    loaded: Any = await Block.aload(f"{slug}/saved-{name.replace('_', '-')}")
    assert type(loaded) is JOBS[name]
    assert loaded.provider() == jobs[name].provider()
    assert loaded.credentials.api_key is not None
    assert loaded.credentials.api_key.get_secret_value() == KEY
    assert loaded.credentials.tenant_id == jobs[name].credentials.tenant_id


async def test_a_job_refers_to_saved_credentials() -> None:
    credentials = MindeeCredentials(api_key="first", webhook_secrets=["hook"])
    await credentials.asave("shared-account", overwrite=True)
    await MindeeJob(credentials=credentials, model_id=MODEL).asave("refers", overwrite=True)
    await MindeeCredentials(api_key="second").asave("shared-account", overwrite=True)
    loaded: Any = await MindeeJob.aload("refers")
    assert loaded.credentials.api_key.get_secret_value() == "second"


async def test_the_server_keeps_secrets_and_shows_masks() -> None:
    account = MindeeCredentials(api_key="s3cr3t", webhook_secrets=["h00k"])
    await account.asave("masked", overwrite=True)
    shown = await _document("masked", include_secrets=False)
    assert "s3cr3t" not in str(shown)
    assert "h00k" not in str(shown)
    loaded: Any = await MindeeCredentials.aload("masked")
    assert [secret.get_secret_value() for secret in loaded.webhook_secrets] == ["h00k"]
    with pytest.raises(ValidationError, match="mask"):
        MindeeCredentials(api_key=shown["api_key"])


async def _document(name: str, *, include_secrets: bool) -> dict[str, Any]:
    from prefect import get_client

    async with get_client() as client:
        found = await client.read_block_document_by_name(
            name, MindeeCredentials.get_block_type_slug(), include_secrets=include_secrets
        )
    return found.data


# ---------------------------------------------------------------------------------------- .map and visits


def test_a_block_that_is_mapped_over_says_that_it_must_be_wrapped(job: DocJob) -> None:
    @task
    def names(block: DocJob, number: int) -> str:
        return f"{block.provider().name} {number}"

    @flow
    def whole(block: Any) -> list[str]:
        return [future.result() for future in names.map(unmapped(block), [1, 2])]

    @flow
    def in_pieces(block: Any) -> None:
        names.map(block, [1, 2])

    assert whole(job) == ["mindee 1", "mindee 2"]
    with pytest.raises(ConfigurationError, match=r"unmapped\(block\)"):
        in_pieces(job)


def test_prefect_looks_into_a_block_as_into_any_model(job: DocJob) -> None:
    seen: list[Any] = []
    visit_collection([job], seen.append)
    assert MODEL in seen
    assert dict(job) == {name: getattr(job, name) for name in type(job).model_fields}


# -------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("name", JOBS)
async def test_a_run_goes_the_whole_way(name: str, jobs: Mapping[str, DocJob]) -> None:
    run = await jobs[name].atrigger(invoice(7))
    assert run.ref.document_name == "invoice-00007.png"
    assert (await run.astatus()).state is JobState.SUCCEEDED
    status = await jobs[name].attach(aged(run.ref)).await_for_completion(timeout=30)
    assert status.state is JobState.SUCCEEDED
    assert says(await run.afetch_result()) == ("N-00007", 7.5)


def test_a_run_in_sync_code_survives_a_pickle_and_another_event_loop(job: DocJob) -> None:
    run = job.trigger(invoice(8))
    travelled: DocJobRun = pickle.loads(pickle.dumps(run))
    assert asyncio.run(travelled.astatus()).state is JobState.SUCCEEDED
    assert travelled.status().state is JobState.SUCCEEDED
    assert travelled.wait_for_completion(timeout=30).state is JobState.SUCCEEDED
    assert says(travelled.fetch_result()) == ("N-00008", 8.5)


async def test_a_plain_form_in_a_running_loop_is_awaited_or_says_so(job: DocJob) -> None:
    run = job.trigger(invoice(13))
    with pytest.raises(AttributeError, match="await it, or use atrigger"):
        _ = run.ref
    awaited: DocJobRun = await run  # type: ignore[misc]
    assert awaited.ref.document_name == "invoice-00013.png"


async def test_a_run_keeps_what_each_look_completes(job: DocJob) -> None:
    run = await job.atrigger(invoice(9))
    assert run.ref.result_url is None
    await run.astatus()
    assert run.ref.result_url is not None


async def test_trigger_without_a_document_says_what_to_give(job: DocJob) -> None:
    with pytest.raises(ConfigurationError, match=r"job\.trigger\(Document\.from_path"):
        await job.atrigger()


async def test_attach_refuses_a_job_of_another_account(job: DocJob, simulator: Running) -> None:
    run = await job.atrigger(invoice(10))
    other = make_job("mindee", simulator.base_url, key="another")
    with pytest.raises(RefMismatch, match="tenant"):
        other.attach(run.ref)
    with pytest.raises(RefMismatch, match="product"):
        make_job("mindee", simulator.base_url, product="ocr").attach(run.ref)


async def test_a_wrong_key_is_told_as_such(simulator: Running) -> None:
    with pytest.raises(Unauthorized) as caught:
        await make_job("mindee", simulator.base_url, key="wr0ng-key").atrigger(invoice(11))
    assert "wr0ng-key" not in str(caught.value)


async def test_cancel_stops_a_job_or_says_that_the_service_cannot(jobs: Mapping[str, DocJob]) -> None:
    await (await jobs["numind"].atrigger(invoice(12))).acancel()
    with pytest.raises(Unsupported, match="cannot cancel"):
        await (await jobs["mindee"].atrigger(invoice(12))).acancel()


def test_the_abstract_blocks_are_not_public() -> None:
    assert "DocJob" not in prefect_docjobs.__all__
    assert "DocJobsCredentials" not in prefect_docjobs.__all__
