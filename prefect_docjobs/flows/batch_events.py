"""The end of a run, as a Prefect event that automations can start from.

`docjobs.batch.completed`, or `docjobs.batch.failed` where more documents failed than may; each about the
resource `docjobs.batch.<flow run id>`. Prefect adds the flow, the run and its deployment as related
resources. A load ends with `docjobs.load.completed` or `docjobs.load.failed`: a load that were a batch would
start the loads that batches start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import runtime
from prefect.events import emit_event

from prefect_docjobs.flows.files import FAILURES, RESULTS, ROWS, ResultFiles
from prefect_docjobs.flows.report import Tally


@dataclass(frozen=True)
class BatchEvent:
    """What a run was about.

    Attributes:
        source: Where its documents come from.
        job: The job, as people are told of it.
        provider: Registry name of the service.
        product: What was asked for.
        is_well: Whether no more documents failed than may.
        kind: What has ended.
    """

    source: str
    job: str
    provider: str
    product: str
    is_well: bool
    kind: Literal["batch", "load"] = "batch"

    def emit(self, tally: Tally, more: Mapping[str, Any], elapsed: float) -> None:
        """Hand the event to Prefect, which sends it in the background.

        Args:
            tally: The sums.
            more: What else the payload says, such as where the files are, which are complete by now.
            elapsed: Seconds that the run took.
        """
        emit_event(
            f"docjobs.{self.kind}.{'completed' if self.is_well else 'failed'}",
            resource=self._resource(),
            payload={**self._payload(tally), "elapsed": round(elapsed, 3), **more},
        )

    @property
    def _place(self) -> str:
        """The absolute path, so that a run elsewhere finds it; an address as it is."""
        return self.source if "://" in self.source else str(Path(self.source).expanduser().absolute())

    def _resource(self) -> dict[str, str]:
        return {
            "prefect.resource.id": f"docjobs.{self.kind}.{runtime.flow_run.id}",
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


def paths_of(files: ResultFiles) -> dict[str, str]:
    """Where the files of a run are, as its event says it."""
    return {
        "folder": str(files.folder),
        "results": str(files.path(RESULTS)),
        "failures": str(files.path(FAILURES)),
        "rows": str(files.path(ROWS)),
    }
