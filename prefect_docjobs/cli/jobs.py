"""`prefect-docjobs jobs`: the jobs of the ledger, as a table or as JSON lines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import CycloptsError, Parameter, Token, convert
from cyclopts.types import PositiveInt
from rich.table import Table

from prefect_docjobs.cli.accounts import ProviderName, open_ledger, pause_json, print_pauses
from prefect_docjobs.cli.console import Flag, cell, messages, output, print_json, print_lines, table
from prefect_docjobs.errors import Reason

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Pause, Record

# Spelled out: the enum comes with the ledger, whose import takes longer than all of the help.
StateName: TypeAlias = Literal["intended", "submitted", "done", "fetched", "failed"]

_STYLES = {"fetched": "green", "failed": "red"}
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))
_TIMES = ("intended_at", "submitted_at", "done_at", "fetched_at", "updated_at")
_ACCOUNT = attrgetter("provider", "base_url", "tenant")
_FACTS = (
    "id", "document_name", "document_sha256", "provider", "base_url", "tenant", "product", "job_id", "error",
    "candidates", "attempt", "retired", "age", "lease_left", "owner", "flow_run_id", "task_run_id", "block",
    "pages", "credits", "quota_remaining",
)  # fmt: skip


def moment(typed: str, now: datetime) -> datetime:
    """A date (in UTC where it has no zone), or a time ago; raises `ValueError` for anything else."""
    try:
        given: datetime | timedelta = convert(timedelta | datetime, [typed])
        moment = now - given if isinstance(given, timedelta) else given
    except (CycloptsError, ValueError, OverflowError):
        raise ValueError(f"--since: {typed!r} is no date (2026-11-01) and no time ago (90m, 24h).") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _since(_type: object, tokens: Sequence[Token]) -> datetime:
    return moment(tokens[0].value, datetime.now(timezone.utc))


def jobs(
    *,
    state: list[StateName] | None = None,
    reason: Annotated[list[Reason] | None, Parameter(name_transform=str.lower)] = None,
    provider: ProviderName | None = None,
    flow_run: str | None = None,
    since: Annotated[datetime | None, Parameter(converter=_since)] = None,
    limit: PositiveInt = 100,
    json: Flag = False,
    import_: Annotated[Path | None, Parameter(name="--import")] = None,
) -> None:
    """List the jobs that the ledger knows, the newest first.

    Args:
        state: How far they are; may be repeated.
        reason: Why there is no result; may be repeated.
        provider: Name of a service, such as mindee.
        flow_run: Id of the flow run that bought them.
        since: Intended since a date (2026-11-01) or a time ago (90m, 24h, 7d).
        limit: At most so many.
        json: A line of JSON for each job, its ref included, instead of a table.
        import_: A file of refs, as JSON lines, to write into the ledger first.
    """
    from prefect_docjobs.extraction.imports import Imported, import_refs, read_refs_file
    from prefect_docjobs.ledger import State

    refs = None if import_ is None else read_refs_file(import_)

    async def read() -> tuple[list[Record], Imported | None, list[Pause]]:
        async with open_ledger() as ledger:
            imported = None if refs is None else await import_refs(ledger, refs)
            records = await ledger.find(
                states=[State(name) for name in state] if state else None,
                reasons=reason or None,
                provider=provider,
                flow_run_id=flow_run,
                since=since,
                limit=limit + 1,
                newest_first=True,
            )
            return records, imported, await ledger.pauses.all()

    records, imported, pauses = asyncio.run(read())
    shown = records[:limit]
    if imported:
        print_lines(messages(), f"{len(imported.new)} imported, {len(imported.known)} known already.")
    if json:
        paused = {_ACCOUNT(pause.account): pause for pause in pauses}
        for record in shown:
            print_json(job_json(record, paused.get(_ACCOUNT(record))))
        return
    output().print(_table(shown))
    print_pauses(pauses)
    more = "; there are more, see --limit" if len(records) > limit else ""
    print_lines(messages(), f"{len(shown)} {'job' if len(shown) == 1 else 'jobs'}{more}.")


def job_json(record: Record, pause: Pause | None = None) -> dict[str, Any]:
    """A record as plain JSON, with its ref and the pause of its account, without the result."""
    times = {name: getattr(record, name) for name in _TIMES}
    return {
        **{name: getattr(record, name) for name in _FACTS},
        "state": record.state.value,
        "reason": record.reason.value if record.reason else None,
        **{name: time.isoformat() if time else None for name, time in times.items()},
        "ref": record.ref.model_dump(mode="json", exclude_none=True) if record.ref else None,
        "paused": pause_json(pause),
    }


def _table(records: Sequence[Record]) -> Table:
    shown = table()
    shown.add_column("Document", no_wrap=True, overflow="ellipsis", ratio=3)
    shown.add_column("State", no_wrap=True)
    shown.add_column("Service", no_wrap=True)
    shown.add_column("Job", no_wrap=True, overflow="ellipsis", ratio=2)
    shown.add_column("Age", justify="right", no_wrap=True)
    shown.add_column("Held for", justify="right", no_wrap=True)
    for record in records:
        word = str(record.reason or record.state).replace("_", " ")
        shown.add_row(
            cell(record.document_name),
            cell(f"{word}, replaced" if record.retired else word, _STYLES.get(record.state.value, "")),
            cell(record.provider),
            cell(record.job_id or ""),
            length(record.age),
            length(record.lease_left) if record.state.is_open and record.lease_left > 0 else "",
        )
    return shown


def length(seconds: float) -> str:
    """A time in its largest unit, such as `3 h`."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
