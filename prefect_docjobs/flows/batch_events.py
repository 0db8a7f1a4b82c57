"""The end of a run, as a Prefect event that automations can start from.

`docjobs.batch.completed`, or `docjobs.batch.failed` where more documents failed than may; each about the
resource `docjobs.batch.<flow run id>`. Prefect adds the flow, the run and its deployment as related
resources.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import runtime
from prefect.events import emit_event

from prefect_docjobs.flows.files import FAILURES, RESULTS, ROWS, ResultFiles
from prefect_docjobs.flows.report import Tally

COMPLETED, FAILED = "docjobs.batch.completed", "docjobs.batch.failed"


@dataclass(frozen=True)
class BatchEvent:
    """What a run was about.

    Attributes:
        source: Where its documents come from.
        job: The job, as people are told of it.
        provider: Registry name of the service.
        product: What was asked for.
        is_well: Whether no more documents failed than may.
    """

    source: str
    job: str
    provider: str
    product: str
    is_well: bool

    def emit(self, tally: Tally, files: ResultFiles, elapsed: float) -> None:
        """Hand the event to Prefect, which sends it in the background. The files are complete by now."""
        emit_event(
            COMPLETED if self.is_well else FAILED,
            resource=self._resource(),
            payload={**self._payload(tally), "elapsed": round(elapsed, 3), "files": _paths(files)},
        )

    @property
    def _place(self) -> str:
        """The absolute path, so that a run elsewhere finds it; an address as it is."""
        return self.source if "://" in self.source else str(Path(self.source).expanduser().absolute())

    def _resource(self) -> dict[str, str]:
        return {
            "prefect.resource.id": f"docjobs.batch.{runtime.flow_run.id}",
            "prefect.resource.name": str(runtime.flow_run.name),
            "docjobs.provider": self.provider,
            "docjobs.product": self.product,
            "docjobs.job": self.job,
            "docjobs.source": self._place,
        }

    def _payload(self, tally: Tally) -> dict[str, Any]:
        return {
            "job": self.job,
            "source": self._place,
            **tally.totals(),
            "failed_share": tally.failed_share,
            "cost": tally.cost,
            "message": tally.sentence(),
        }


def _paths(files: ResultFiles) -> dict[str, str]:
    return {
        "folder": str(files.folder),
        "results": str(files.path(RESULTS)),
        "failures": str(files.path(FAILURES)),
        "rows": str(files.path(ROWS)),
    }
