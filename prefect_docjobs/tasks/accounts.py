"""How the account of a job is reached: by the saved block of its record, or the key in the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType

from prefect_docjobs.blocks import DocJob, NuMindCredentials, NuMindJob
from prefect_docjobs.errors import ConfigurationError, DocJobsError
from prefect_docjobs.ledger import Record
from prefect_docjobs.providers import provider_class
from prefect_docjobs.tasks.arguments import the_job


def _numind(key: str, record: Record) -> DocJob:
    account = NuMindCredentials(api_key=key, base_url=record.base_url)
    if record.product == "content":
        return NuMindJob(credentials=account, product="content")
    # Looking and cancelling need the account and the job's id. A template is for submits; none is made.
    return NuMindJob(credentials=account, template={"unused": "string"})


WITHOUT_A_BLOCK: Mapping[str, Callable[[str, Record], DocJob]] = MappingProxyType({"numind": _numind})
"""A job block from a key, for each service that can cancel."""


_ACCOUNT = ("provider", "base_url", "tenant")


def destination_of(job: DocJob) -> dict[str, str]:
    """Where the documents of a job block go, under the names that refs and records have for it.

    Returns:
        `provider`, `product`, `base_url` and `tenant`.
    """
    provider, account = job.provider(), job.credentials
    return {
        "provider": provider.name,
        "product": provider.product,
        "base_url": account.base_url,
        "tenant": account.tenant_id,
    }


async def job_of(record: Record) -> DocJob:
    """A job block that can look at, and cancel, the job of a record.

    The block that was saved under the name in the record comes first. Without one the provider's
    environment variable is used, but only when the key in it belongs to the account of the record.

    Raises:
        ConfigurationError: There is neither; the message says what to give.
    """
    if record.block is not None:
        job = await the_job(record.block)
    else:
        job = _of_the_environment(record)
    here = destination_of(job)
    if any(here[name] != getattr(record, name) for name in _ACCOUNT):
        where = record.block or provider_class(record.provider).env_key
        raise ConfigurationError(
            f"{where} is another account than the {record.provider} account {record.tenant!r} at "
            f"{record.base_url} that the job belongs to."
        )
    return job


def _of_the_environment(record: Record) -> DocJob:
    variable = provider_class(record.provider).env_key
    key = os.environ.get(variable, "").strip()
    make = WITHOUT_A_BLOCK.get(record.provider)
    if not key or make is None:
        raise ConfigurationError(
            f"The job block was not saved, and {variable} is not set: the job's account cannot be reached. "
            "Save the block and pass its name."
        )
    try:
        return make(key, record)
    except (DocJobsError, ValueError) as problem:
        raise ConfigurationError(f"{variable} cannot be used: {type(problem).__name__}.") from None
