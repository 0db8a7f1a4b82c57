"""How the flow compares a chunk of documents."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from support.answers import delivered, result
from support.blocks import make_job

from prefect_docjobs.comparison import VotingRule
from prefect_docjobs.flows._output import COMPARISON, CONFLICTS, LineFiles
from prefect_docjobs.flows._run import Panel
from prefect_docjobs.flows.compare_services import _Comparing
from prefect_docjobs.models import Batch, Document


async def test_values_are_compared_beside_the_event_loop(tmp_path: Path) -> None:
    threads = set()

    def key_of(value: Any) -> Any:
        threads.add(threading.get_ident())
        return value

    job = make_job("mindee", "https://service.test")
    files = LineFiles(tmp_path, (COMPARISON, CONFLICTS), "run")
    comparing = _Comparing(Panel({"a": job, "b": job}), files, None, {"total": key_of}, VotingRule())
    document = Document.from_bytes(b"x", name="a.pdf")
    batches = {label: Batch.of([delivered(result(total=total))]) for label, total in (("a", 1), ("b", 2))}
    with files.written():
        await comparing.take(0, [document], batches)
    assert (comparing.fields, comparing.conflicts) == (1, 1)
    assert threads
    assert threading.get_ident() not in threads
