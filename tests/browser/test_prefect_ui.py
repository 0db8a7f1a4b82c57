"""What a person sees and clicks in Prefect's UI: the forms of the blocks, the run form, and a run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Page, Request, Response, expect
from playwright.async_api import TimeoutError as PlaywrightTimeoutError
from support.own_server import PrefectServer
from support.processes import until
from support.screens import photograph
from support.services import KEY, MODEL

from prefect_docjobs.simulator.samples import SAMPLES
from prefect_docjobs.simulator.server import Running

ROOT = Path(__file__).parents[2]
SERVICES = ("mindee", "mindee-v1", "numind", "unsiloed")
SLUGS = [f"{service}-{kind}" for service in SERVICES for kind in ("credentials", "job")]
"""The types of the eight blocks; the server knows them from the package's entry point."""

UI: dict[str, tuple[str, str]] = {"v2": ("/v2", "form label"), "v1": ("", "form .p-label__label")}
"""Both UIs that Prefect 3.8 ships: where they are, and what their labels are."""


# --------------------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize("ui", UI)
async def test_a_form_asks_for_each_setting_once_in_order_and_without_a_choice_of_types(
    ui: Literal["v1", "v2"], server: PrefectServer, page: Page
) -> None:
    prefix, label = UI[ui]
    for slug in SLUGS:
        expected = await _titles(server, slug)
        await page.goto(f"{server.url}{prefix}/blocks/catalog/{slug}/create")
        await expect(page.locator(label).nth(len(expected))).to_be_visible()
        shown = [_plain(text) for text in await page.locator(label).all_text_contents()]
        if ui == "v1":  # shows a block by the name of its class
            expected = [title if title != "Credentials" else shown[1] for title in expected]
        assert shown[1:] == expected, slug
        for word in ("null", "None", "boolean", "string", "float"):
            await expect(page.get_by_role("button", name=word, exact=True)).to_have_count(0)
        await expect(page.get_by_text("Property is type")).to_have_count(0)
        await photograph(page, f"{ui}-{slug}")


async def _titles(server: PrefectServer, slug: str) -> list[str]:
    """The titles of a block's settings, in the order in which the form has to show them."""
    properties = (await _schema(server, slug))["properties"]
    return [each["title"] for each in sorted(properties.values(), key=lambda each: each["position"])]


async def _schema(server: PrefectServer, slug: str) -> dict[str, Any]:
    async with server.api() as api:
        kind = (await api.get(f"/block_types/slug/{slug}")).raise_for_status().json()
        asked = {"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}}
        (newest, *_) = (await api.post("/block_schemas/filter", json=asked)).raise_for_status().json()
    fields: dict[str, Any] = newest["fields"]
    fields["properties"].get("credentials", {}).setdefault("title", "Credentials")
    return fields


def _plain(label: str) -> str:
    return label.strip().removesuffix("(Optional)").strip()


# ------------------------------------------------------------------------------------------- blocks and runs


async def test_blocks_made_in_forms_are_used_by_name_in_a_run_started_from_the_run_form(
    server: PrefectServer, page: Page, simulator: Running
) -> None:
    with ExitStack() as processes:
        deploying = await _deploy_and_work(server, processes)
        await _make_account(page, server, simulator)
        await _make_job(page, server)
        await _edit_job(page, server)
        await _edit_account(page, server)
        assert deploying.wait(timeout=400) == 0
        run_id = await _run(page, server)
        await until(lambda: _has_ended(server, run_id), within=400)
        state = (await _flow_run(server, run_id))["state"]
        printed = (server.folder / "worker.txt").read_text("utf-8")
        assert state["type"] == "COMPLETED", (state, printed)
        await _look_at_run(page, server, run_id)
    lines = (server.folder / "by-click" / "results.jsonl").read_text("utf-8").splitlines()
    (result,) = [json.loads(line)["result"] for line in lines]
    assert result["fields"]["total_amount"]["value"] == 1452.17
    assert "Brightwater" in result["text"]  # which the edited job asks for


async def _deploy_and_work(server: PrefectServer, processes: ExitStack) -> subprocess.Popen[str]:
    """Have a deployment of `prefect.yaml` made, and a worker started, while the forms are filled in."""
    (server.folder / "invoices").mkdir()
    shutil.copy(ROOT / "prefect.yaml", server.folder)
    for name in ("invoice-brightwater.pdf", "rechnung-bergmann.pdf"):
        shutil.copy(SAMPLES / name, server.folder / "invoices")
    async with server.api() as api:
        pool = {"name": "docjobs", "type": "process"}
        (await api.post("/work_pools/", json=pool)).raise_for_status()
    server.start(processes, "worker", "-m", "prefect", "worker", "start", "--pool", "docjobs")
    return server.start(processes, "deploy", "-m", "prefect", "--no-prompt", "deploy", "--name", "nightly")


async def _make_account(page: Page, server: PrefectServer, simulator: Running) -> None:
    await page.goto(f"{server.url}/v2/blocks/catalog/mindee-credentials/create")
    await page.get_by_label("Name", exact=True).fill("clicked")
    key = page.get_by_role("textbox", name="API key")
    await key.fill(KEY)
    await expect(key).to_have_attribute("type", "password")
    await page.get_by_role("textbox", name="Base URL").fill(simulator.base_url)
    await page.get_by_role("textbox", name="Webhook secrets").fill("the-new-secret the-old-secret")
    await photograph(page, "account-filled-in")
    await _save(page, "created")
    await expect(page.get_by_text(KEY, exact=True)).to_have_count(0)


async def _make_job(page: Page, server: PrefectServer) -> None:
    await page.goto(f"{server.url}/v2/blocks/catalog/mindee-job/create")
    await page.get_by_label("Name", exact=True).fill("invoices")
    await _choose_account(page)
    await page.get_by_role("textbox", name="Model ID").fill(MODEL)
    await _save(page, "created")
    await photograph(page, "job-created")


async def _edit_job(page: Page, server: PrefectServer) -> None:
    before = await _saved(server, "mindee-job", "invoices")
    await page.goto(f"{server.url}/v2/blocks/block/{before['id']}/edit")
    await page.get_by_role("button", name="Select Raw text").click()
    await page.get_by_role("option", name="yes").click()
    chosen = page.get_by_role("button", name=re.compile("^(Select a block|clicked)$"))
    await expect(chosen).to_be_visible()
    if await chosen.text_content() != "clicked":
        await _choose_account(page)  # the form of Prefect 3.8 does not keep it
    await photograph(page, "job-edited")
    await _save(page, "updated")
    after = await _saved(server, "mindee-job", "invoices")
    assert after["data"]["raw_text"] == "yes"
    assert after["block_document_references"].keys() == {"credentials"}


async def _edit_account(page: Page, server: PrefectServer) -> None:
    """What the form shows as masks is kept."""
    before = await _saved(server, "mindee-credentials", "clicked")
    await page.goto(f"{server.url}/v2/blocks/block/{before['id']}/edit")
    await expect(page.get_by_role("textbox", name="API key")).to_have_value("********")
    await page.get_by_role("textbox", name="Tenant").fill("acme")
    await _save(page, "updated")
    after = (await _saved(server, "mindee-credentials", "clicked"))["data"]
    assert after == {**before["data"], "tenant": "acme"}
    assert (after["api_key"], after["webhook_secrets"]) == (KEY, "the-new-secret the-old-secret")


async def _choose_account(page: Page) -> None:
    await page.get_by_role("button", name="Select a block").click()
    await page.get_by_role("option", name="clicked").click()


async def _save(page: Page, done: str) -> None:
    await _click(page, "Save", r"/block_documents/([0-9a-f-]{36})?$")
    await expect(page.get_by_text(f"Block {done} successfully")).to_be_visible()


async def _saved(server: PrefectServer, slug: str, name: str) -> dict[str, Any]:
    """A block as the server has it."""
    path = f"/block_types/slug/{slug}/block_documents/name/{name}"
    async with server.api() as api:
        found = await api.get(path, params={"include_secrets": True})
    document: dict[str, Any] = found.raise_for_status().json()
    return document


async def _run(page: Page, server: PrefectServer) -> str:
    """Start a run from the run form, with other parameters; give its id."""
    async with server.api() as api:
        found = await api.get("/deployments/name/extract-folder/nightly")
    deployment = found.raise_for_status().json()["id"]
    await page.goto(f"{server.url}/v2/deployments/deployment/{deployment}/run")
    await expect(page.get_by_role("textbox", name="job")).to_have_value("mindee-job/invoices")
    await photograph(page, "run-form")
    await page.get_by_role("textbox", name="output").fill("by-click")
    await page.get_by_role("textbox", name="pattern").fill("invoice*.pdf")
    started = await (await _click(page, "Submit", "/create_flow_run$")).json()
    assert started["parameters"]["output"] == "by-click"
    return str(started["id"])


async def _click(page: Page, button: str, path: str) -> Response:
    """Click a button that sends a form; give the server's answer.

    A busy server on SQLite answers 503 when its database is locked (Prefect's client tries that again, the UI
    does not), and a busy browser may lose a click while it draws the form: a person clicks once more.
    """

    def is_sent(request: Request) -> bool:
        return bool(re.search(path, request.url)) and request.method in ("POST", "PATCH")

    for _ in range(10):
        try:
            async with page.expect_request(is_sent, timeout=20_000) as sent:
                await page.get_by_role("button", name=button).click()
        except PlaywrightTimeoutError:
            continue
        answer = await (await sent.value).response()
        if answer is not None and answer.status != 503:
            assert answer.ok, f"{answer.status} {await answer.text()}"
            return answer
    raise AssertionError(f"{button} was never answered")


async def _flow_run(server: PrefectServer, run_id: str) -> dict[str, Any]:
    async with server.api() as api:
        run: dict[str, Any] = (await api.get(f"/flow_runs/{run_id}")).raise_for_status().json()
    return run


async def _has_ended(server: PrefectServer, run_id: str) -> bool:
    ended = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
    return (await _flow_run(server, run_id))["state_type"] in ended


async def _look_at_run(page: Page, server: PrefectServer, run_id: str) -> None:
    await page.goto(f"{server.url}/v2/runs/flow-run/{run_id}")
    await expect(page.get_by_text("Completed").first).to_be_visible()
    await photograph(page, "run")
