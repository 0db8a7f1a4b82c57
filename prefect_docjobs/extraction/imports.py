"""Jobs that were submitted without this ledger: their refs, written into it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.ledger import Entry, State
from prefect_docjobs.models import JobRef
from prefect_docjobs.providers import provider_names

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

_TOGETHER = 100  # claims that share a few transactions


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of refs.

    Attributes:
        new: Written into the ledger.
        known: In the ledger already.
    """

    new: tuple[JobRef, ...] = ()
    known: tuple[JobRef, ...] = ()


def read_refs(lines: Iterable[str]) -> list[JobRef]:
    """The refs in JSON lines.

    Args:
        lines: Each a ref, or an object with a `ref`, such as a line of `failures.jsonl` or of
            `prefect-docjobs jobs --json`. Empty ones, and objects whose ref is missing, are left out.

    Raises:
        ConfigurationError: A line is neither; its number is named.
    """
    read = (_ref(number, line) for number, line in enumerate(lines, 1) if line.strip())
    return [ref for ref in read if ref is not None]


def read_refs_file(path: Path) -> list[JobRef]:
    """The refs in a file; see `read_refs`. A leading ~ is somebody's home.

    Raises:
        ConfigurationError: It cannot be read, or a line is no ref.
    """
    try:
        with path.expanduser().open(encoding="utf-8") as lines:
            return read_refs(lines)
    except (OSError, RuntimeError, UnicodeDecodeError) as problem:  # RuntimeError: ~ of nobody
        raise ConfigurationError(f"{path} cannot be read: {problem}.") from None


def _ref(number: int, line: str) -> JobRef | None:
    try:
        given = _named(json.loads(line))
        return None if given is None else known_service(JobRef.model_validate(given))
    except ValidationError as wrong:
        what = ", ".join(".".join(map(str, error["loc"])) or error["msg"] for error in wrong.errors())
        raise ConfigurationError(f"Line {number} is not the ref of a job: {what}.") from None
    except ConfigurationError as wrong:
        raise ConfigurationError(f"Line {number}: {wrong}") from None
    except (ValueError, RecursionError):
        raise ConfigurationError(f"Line {number} is no JSON.") from None


def _named(given: object) -> object:
    """What is a ref itself, or has one."""
    if not isinstance(given, Mapping):
        return given
    return given.get("ref", given if "job_id" in given else None)


def known_service(ref: JobRef) -> JobRef:
    """The ref; raises `ConfigurationError` when its service is not one that this package knows."""
    if ref.provider not in (known := provider_names()):
        raise ConfigurationError(f"There is no service {ref.provider!r}. There are: {', '.join(known)}.")
    return ref


def entry_of_job(ref: JobRef, **bought: Any) -> Entry:
    """The entry of a job that somebody else submitted: its key is the job, for its settings are unknown.

    Args:
        ref: The job.
        **bought: Further fields of `Entry`: the flow run, the task run, the block.
    """
    identity = f"docjobs/1 job\n{ref.provider}\n{ref.base_url}\n{ref.tenant}\n{ref.job_id}"
    return Entry(
        key=hashlib.sha256(identity.encode()).hexdigest(),
        provider=ref.provider,
        base_url=ref.base_url,
        tenant=ref.tenant,
        product=ref.product,
        document_name=ref.document_name,
        document_sha256=ref.document_sha256,
        document_size=ref.document_size,
        **bought,
    )


async def import_refs(ledger: Ledger, refs: Iterable[JobRef], **bought: Any) -> Imported:
    """Write jobs into the ledger that it does not know, as submitted; anybody may go on with them.

    Args:
        ledger: Where to.
        refs: Jobs of any service and account.
        **bought: As for `entry_of_job`.

    Raises:
        LedgerUnavailable: It cannot be written; what was written before stays, and the call can be repeated.
    """
    given = list(dict.fromkeys(refs))
    new: list[JobRef] = []
    for start in range(0, len(given), _TOGETHER):
        some = given[start : start + _TOGETHER]
        are_new = await asyncio.gather(
            *(_import(ledger, ref, bought) for ref in await _unknown(ledger, some))
        )
        new += [ref for ref in are_new if ref is not None]
    written = set(new)
    return Imported(tuple(new), tuple(ref for ref in given if ref not in written))


async def _unknown(ledger: Ledger, refs: Iterable[JobRef]) -> list[JobRef]:
    """Those that the ledger does not know."""
    accounts: dict[tuple[str, str, str], dict[str, JobRef]] = {}
    for ref in refs:
        accounts.setdefault((ref.provider, ref.base_url, ref.tenant), {}).setdefault(ref.job_id, ref)
    unknown: list[JobRef] = []
    for account, by_id in accounts.items():
        known = await ledger.known_jobs(*account, by_id)
        unknown += [ref for job_id, ref in by_id.items() if job_id not in known]
    return unknown


async def _import(ledger: Ledger, ref: JobRef, bought: Mapping[str, Any]) -> JobRef | None:
    record = await ledger.claim(entry_of_job(ref, **bought))
    if not record.mine or record.state is not State.INTENDED:
        return None  # somebody else is importing it, too
    await ledger.release_lease(await ledger.submitted(record, ref))
    return ref
