"""OpenTelemetry in a process that runs flows: documents hang below Prefect's own spans."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.pages import ROOT, block_run_by
from support.posts import heard_posts
from support.processes import process
from support.services import KEY

from prefect_docjobs.simulator.server import Running

SCRIPT = Path(__file__).with_name("traced_run_process.py")
Span = dict[str, Any]


def above(span: Span, spans: list[Span]) -> Span:
    (found,) = [it for it in spans if it["id"] == span["parent"]]
    return found


@pytest.mark.timeout(300)
def test_documents_hang_below_the_task_run_on_its_loop_and_on_the_twins(
    simulator: Running, tmp_path: Path
) -> None:
    environment = {"PYTHONPATH": str(ROOT / "tests"), "PREFECT_DOCJOBS_LEDGER": ""}
    command = (str(SCRIPT), simulator.base_url)
    with process("traced", *command, cwd=tmp_path, **environment) as running:
        code = running.wait(timeout=240)
    printed = (tmp_path / "traced.txt").read_text("utf-8")
    assert code == 0, printed
    spans: list[Span] = json.loads(printed.partition("spans: ")[2])
    documents = [span for span in spans if span["name"] == "docjobs.document"]
    assert len(documents) == 4
    runs = []
    for document in documents:
        task = above(document, spans)
        assert task["facts"]["prefect.run.type"] == "task"
        run = above(task, spans)
        assert run["facts"]["prefect.run.type"] == "flow"
        assert document["trace"] == task["trace"] == run["trace"]
        runs.append(run["id"])
    assert sorted(runs.count(run) for run in set(runs)) == [2, 2]
    for phase in ("docjobs.submit", "docjobs.wait", "docjobs.fetch"):
        of_phase = [span for span in spans if span["name"] == phase]
        assert sorted(span["parent"] for span in of_phase) == sorted(span["id"] for span in documents)
    assert KEY not in printed


COLLECTED = """
from support.blocks import make_job
from support.services import invoice

from prefect_docjobs import extract_documents

extract_documents(make_job("mindee", "{base_url}"), [invoice(5)])
"""


@pytest.mark.timeout(200)
def test_a_collector_gets_spans_and_metrics_as_the_how_to_sets_it_up(
    simulator: Running, tmp_path: Path
) -> None:
    setup = block_run_by(__file__, "docs/how-to/opentelemetry.md").code
    (tmp_path / "collected.py").write_text(setup + COLLECTED.format(base_url=simulator.base_url), "utf-8")
    environment = {"PYTHONPATH": str(ROOT / "tests"), "PREFECT_DOCJOBS_LEDGER": ""}
    environment |= {"OTEL_SERVICE_NAME": "invoices", "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
    with heard_posts(lambda *post: post) as (address, posted):
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = address
        with process("collected", "collected.py", cwd=tmp_path, **environment) as running:
            assert running.wait(timeout=150) == 0, (tmp_path / "collected.txt").read_text("utf-8")
    by_service = {(service, name) for path, body in posted for service, name in _named(path, body)}
    assert {service for service, _ in by_service} == {"invoices"}
    names = {name for _, name in by_service}
    assert {"docjobs.document", "docjobs.submit", "docjobs.wait", "docjobs.fetch"} < names
    assert {"docjobs.poll.count", "docjobs.document.duration"} < names
    assert not any(KEY.encode() in body for _, body in posted)


def _named(path: str, body: bytes) -> Iterator[tuple[str, str]]:
    """The names of the spans or metrics of a request, each with that of its program."""
    if path == "/v1/traces":
        for traced in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in traced.scope_spans:
                yield from ((_service(traced.resource), span.name) for span in scope.spans)
    else:
        assert path == "/v1/metrics"
        for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for measure in measured.scope_metrics:
                yield from ((_service(measured.resource), metric.name) for metric in measure.metrics)


def _service(resource: Any) -> str:
    (name,) = (fact.value.string_value for fact in resource.attributes if fact.key == "service.name")
    return str(name)
