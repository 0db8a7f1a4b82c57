"""What the ledger knows of jobs, as a table or as JSON lines."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from prefect_docjobs.cli.accounts import described_pause, say_paused
from prefect_docjobs.cli.exits import WRONG_USE, CommandFailed
from prefect_docjobs.cli.screen import messages, output, print_json, printable
from prefect_docjobs.errors import Reason
from prefect_docjobs.extraction.imports import Imported, import_refs, read_refs_file
from prefect_docjobs.ledger import Pause, Record, State
from prefect_docjobs.ledger.setting import open_ledger
from prefect_docjobs.models import JobRef
from prefect_docjobs.providers import provider_names

_AGO = re.compile(r"(\d+)\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LENGTHS = (("d", 86_400), ("h", 3_600), ("min", 60))
_STYLES = {State.FETCHED: "green", State.FAILED: "red"}
_TIMES = ("intended_at", "submitted_at", "done_at", "fetched_at", "updated_at")
_FACTS = (
    "id", "document_name", "document_sha256", "provider", "base_url", "tenant", "product", "job_id", "error",
    "candidates", "attempt", "retired", "age", "lease_left", "owner", "flow_run_id", "task_run_id", "block",
    "pages", "credits", "quota_remaining",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Filters:
    """Which records are asked for; None for any."""

    states: tuple[State, ...] | None = None
    reasons: tuple[Reason, ...] | None = None
    provider: str | None = None
    flow_run_id: str | None = None
    since: datetime | None = None
    limit: int = 100

    @classmethod
    def of(
        cls,
        *,
        states: Iterable[str] | None = None,
        reasons: Iterable[str] | None = None,
        provider: str | None = None,
        flow_run_id: str | None = None,
        since: str | None = None,
        limit: int = 100,
    ) -> Filters:
        """The filters that were typed; raises `CommandFailed` where one of them makes no sense."""
        if limit < 1:
            raise CommandFailed("--limit must be at least 1.", WRONG_USE)
        if provider is not None and provider not in (known := provider_names()):
            raise CommandFailed(
                f"--provider: there is no service {provider!r}. There are: {', '.join(known)}.", WRONG_USE
            )
        return cls(
            states=tuple(map(State, states)) if states else None,
            reasons=tuple(map(Reason, reasons)) if reasons else None,
            provider=provider,
            flow_run_id=flow_run_id,
            since=None if since is None else moment(since, datetime.now(timezone.utc)),
            limit=limit,
        )


def moment(typed: str, now: datetime) -> datetime:
    """A date or a time ago; a date without a zone is UTC.

    Args:
        typed: Such as `2026-11-01`, `2026-11-01T12:30` or `24h`.
        now: The moment that `ago` counts from.

    Raises:
        CommandFailed: It is neither.
    """
    try:
        if ago := _AGO.fullmatch(typed.strip()):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        given = datetime.fromisoformat(typed)
    except (ValueError, OverflowError):
        raise CommandFailed(
            f"--since: {typed!r} is no date (2026-11-01) and no time ago (90m, 24h, 7d).", WRONG_USE
        ) from None
    return given if given.tzinfo else given.replace(tzinfo=timezone.utc)


def show_jobs(filters: Filters, *, refs: Path | None = None, as_json: bool = False) -> None:
    """Print the records, the newest first.

    Args:
        filters: Which ones.
        refs: A file of refs, as JSON lines, to write into the ledger before that.
        as_json: A line of JSON for each record instead of a table.

    Raises:
        CommandFailed: There is no ledger.
        ConfigurationError: The file cannot be read, or a line of it is no ref.
        LedgerUnavailable: The ledger cannot be read or written.
    """
    given = None if refs is None else read_refs_file(refs)
    records, imported, pauses = asyncio.run(_found(filters, given))
    if imported:
        messages().print(f"{len(imported.new)} imported, {len(imported.known)} known already.")
    shown = records[: filters.limit]
    if as_json:
        for record in shown:
            print_json(described(record, _pause_of(record, pauses)))
        return
    output().print(_table(shown))
    say_paused(pauses)
    more = "; there are more, see --limit" if len(records) > len(shown) else ""
    messages().print(f"{len(shown)} {'job' if len(shown) == 1 else 'jobs'}{more}.")


async def _found(
    filters: Filters, refs: Sequence[JobRef] | None
) -> tuple[list[Record], Imported | None, list[Pause]]:
    async with open_ledger() as ledger:
        if ledger is None:
            raise CommandFailed("There is no ledger: PREFECT_DOCJOBS_LEDGER is empty.", WRONG_USE)
        imported = None if refs is None else await import_refs(ledger, refs)
        records = await ledger.find(
            states=filters.states,
            reasons=filters.reasons,
            provider=filters.provider,
            flow_run_id=filters.flow_run_id,
            since=filters.since,
            limit=filters.limit + 1,
            newest_first=True,
        )
        return records, imported, await ledger.pauses.all()


def _pause_of(record: Record, pauses: Iterable[Pause]) -> Pause | None:
    """The pause of a record's account, if it is paused."""
    mine = (record.provider, record.base_url, record.tenant)
    accounts = ((pause.account, pause) for pause in pauses)
    return next((each for of, each in accounts if (of.provider, of.base_url, of.tenant) == mine), None)


def described(record: Record, pause: Pause | None = None) -> dict[str, Any]:
    """A record as plain JSON, its ref included, and why its account is paused; never the result."""
    times = {name: getattr(record, name) for name in _TIMES}
    return {
        **{name: getattr(record, name) for name in _FACTS},
        "state": record.state.value,
        "reason": record.reason.value if record.reason else None,
        **{name: time.isoformat() if time else None for name, time in times.items()},
        "ref": record.ref.model_dump(mode="json", exclude_none=True) if record.ref else None,
        "paused": described_pause(pause),
    }


def _table(records: Iterable[Record]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
    table.add_column("Document", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("State", no_wrap=True)
    table.add_column("Service", no_wrap=True)
    table.add_column("Job", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("Age", justify="right", no_wrap=True)
    table.add_column("Held for", justify="right", no_wrap=True)
    for record in records:
        table.add_row(
            Text(printable(record.document_name)),
            _state(record),
            Text(printable(record.provider)),
            Text(printable(record.job_id or "")),
            length(record.age),
            length(record.lease_left) if record.state.is_open and record.lease_left > 0 else "",
        )
    return table


def _state(record: Record) -> Text:
    word = str(record.reason or record.state).replace("_", " ")
    return Text(f"{word}, replaced" if record.retired else word, style=_STYLES.get(record.state, ""))


def length(seconds: float) -> str:
    """A time in its largest unit, such as `3 h`."""
    for unit, size in _LENGTHS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
