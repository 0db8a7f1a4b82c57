"""What a load is told: where its secrets are, and which job reads the documents."""

from __future__ import annotations

import os
from typing import Any, cast

from prefect.blocks.core import Block
from prefect.blocks.system import Secret

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.flows._run import job_label
from prefect_docjobs.ledger import entry_for
from prefect_docjobs.loading import JobIdentity, refuse_password
from prefect_docjobs.tasks.cancel import destination_of

_SECRET, _VARIABLE = "secret/", "env:"
_NO_CONTENT = "0" * 64


async def the_address(destination: str) -> str:
    """The address that a destination names: itself, the value of a Secret block, or of a variable.

    Raises:
        ConfigurationError: There is no such block or variable, or a password is given in clear.
    """
    if destination.startswith(_SECRET):
        return await _in_block(destination)
    if destination.startswith(_VARIABLE):
        name = destination.removeprefix(_VARIABLE)
        address = os.environ.get(name, "").strip()
        if not address:
            raise ConfigurationError(f"destination: the environment variable {name} is not set.")
        return address
    refuse_password(destination, "destination")
    return destination


async def _in_block(name: str) -> str:
    try:
        block = await Block.aload(name)
    except ValueError as problem:
        raise ConfigurationError(f"destination: {name} cannot be loaded: {problem}") from None
    value: object = cast("Secret[Any]", block).get() if isinstance(block, Secret) else None
    if not isinstance(value, str):
        raise ConfigurationError(f"destination: {name} holds no address as text.")
    return value


def identity_of(job: DocJob) -> JobIdentity:
    """Which job reads the documents: the service, the account, the product and all settings.

    The address of the service is no part of it: the same job elsewhere is still the same, and its documents
    are not to be counted twice.
    """
    account = destination_of(job)
    entry = entry_for(
        job.provider(), base_url="", tenant=account["tenant"], name="", sha256=_NO_CONTENT, size=None
    )
    return JobIdentity(
        key=f"{entry.provider}/{entry.product}/{entry.key[:16]}",
        block=job_label(job.saved_name or job),
        provider=entry.provider,
        product=entry.product,
        tenant=entry.tenant,
    )
