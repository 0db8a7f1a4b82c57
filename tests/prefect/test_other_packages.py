"""The blocks of another package: known to a Prefect server, and at work in the tasks of this one."""

from __future__ import annotations

from pathlib import Path

from prefect.client.orchestration import get_client
from support.example_package import install, printed_with

REGISTER = """
import asyncio
from prefect.plugins import load_prefect_collections
from prefect.blocks.core import Block

print(load_prefect_collections()["docjobs_acme"].__name__)
from docjobs_acme.blocks import AcmeCredentials, AcmeJob
for kind in (AcmeCredentials, AcmeJob):
    kind.register_type_and_schema()
"""

RUN = """
import threading, time
import uvicorn
from docjobs_acme.blocks import AcmeCredentials, AcmeJob
from docjobs_acme.simulated import acme
from prefect_docjobs import Document, extract_documents
from prefect_docjobs.testing import Conditions
from prefect_docjobs.testing.service import invoice

app = acme(Conditions(seconds=0.2), time.monotonic)
server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
threading.Thread(target=server.run, daemon=True).start()
while not server.started:
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]
job = AcmeJob(credentials=AcmeCredentials(base_url=f"http://localhost:{port}"), fields=["invoice_number"])
batch = extract_documents(job, [invoice(42)])
print(batch.rows(), batch.results[0].ref.tenant)
server.should_exit = True
"""


def test_its_blocks_are_registered_by_their_entry_point(tmp_path: Path) -> None:
    with get_client(sync_client=True) as client:
        url = str(client.api_url)
        assert printed_with(install(tmp_path), "-c", REGISTER, PREFECT_API_URL=url).strip() == (
            "docjobs_acme.blocks"
        )
        filters = {"block_types": {"slug": {"any_": ["acme-credentials", "acme-job"]}}}
        known = client.request("POST", "/block_types/filter", json=filters).json()
    assert {block_type["slug"] for block_type in known} == {"acme-credentials", "acme-job"}


def test_its_job_runs_at_a_server_without_a_key(tmp_path: Path) -> None:
    with get_client(sync_client=True) as client:
        shown = printed_with(install(tmp_path), "-c", RUN, PREFECT_API_URL=str(client.api_url))
    row, _, tenant = shown.splitlines()[-1].rpartition(" ")
    assert "'invoice_number': 'N-00042'" in row
    assert tenant == "no-key"
