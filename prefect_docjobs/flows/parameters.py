"""What flows are called with: typed for Python, and for the form that Prefect makes of a deployment."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field, WithJsonSchema

from prefect_docjobs.blocks import DocJob

JobParameter: TypeAlias = Annotated[DocJob | str, WithJsonSchema({"type": "string"})]
"""The name of a saved job block, such as `mindee-job/invoices`; from Python also the block itself.

A form shows a text field: a block does not travel to a deployment with its secrets, a name does. A file of
flows that is deployed by its path must leave out `from __future__ import annotations`: Prefect 3.8 does not
find the type otherwise.
"""

AtLeastOne: TypeAlias = Annotated[int, Field(ge=1)]
"""A number of things, one or more."""

Seconds: TypeAlias = Annotated[float, Field(gt=0)]
"""A time limit."""


Amount: TypeAlias = Annotated[float, Field(ge=0)]
"""Money, or pages."""

Number: TypeAlias = Annotated[int, Field(ge=0)]
"""A number of things, perhaps none."""

Days: TypeAlias = Annotated[float, Field(ge=0)]
"""Time during which a result is used again."""


def _share_or_number(limit: float) -> float:
    if limit > 1.0 and not limit.is_integer():
        raise ValueError("give a share of the documents below 1, or a whole number of them from 1 on")
    return limit


MaxFailures: TypeAlias = Annotated[float, Field(ge=0), AfterValidator(_share_or_number)]
"""How many documents may fail: below 1 a share of all, from 1 on a number of them."""


def job_label(job: DocJob | str) -> str:
    """What reports call a job: its name, or for a block that came without one its service and product."""
    if isinstance(job, str):
        return job
    provider = job.provider()
    return f"{provider.name}/{provider.product}"


def output_folder(output: str, scheduled: datetime) -> Path:
    """The absolute folder that `output` names; `{date}` in it becomes the date of the scheduled start."""
    return Path(output.replace("{date}", scheduled.date().isoformat())).expanduser().resolve()
