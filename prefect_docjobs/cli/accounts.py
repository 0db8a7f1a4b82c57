"""The accounts that the ledger knows, and the stop for one of them that all workers obey."""

from __future__ import annotations

import asyncio
import getpass
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from cyclopts import App, Parameter
from rich import box
from rich.table import Table
from rich.text import Text

from prefect_docjobs.cli.exits import WRONG_USE, CommandFailed
from prefect_docjobs.cli.screen import messages, output, print_json, printable

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Account, Ledger, Pause
    from prefect_docjobs.ledger.pauses import KnownAccount

_Switch: TypeAlias = Annotated[bool, Parameter(show_default=False)]
_T = TypeVar("_T")

_LENGTH = re.compile(r"(\d{1,6})\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST = 3_650 * 86_400

accounts = App(
    name="accounts", help="List the accounts that the ledger knows; pause and resume one.", sort_key=6
)


@accounts.default
def list_accounts(*, json: _Switch = False) -> None:
    """List the accounts that the ledger knows, and those that are paused.

    Args:
        json: A line of JSON for each account instead of a table.
    """
    known, pauses = asyncio.run(_with_ledger(_all))
    rows = _joined(known, pauses)
    if json:
        for one, pause in rows:
            print_json(described(one.account, pause, jobs=one.jobs, blocks=one.blocks))
        return
    output().print(_table(rows))
    say_paused(pauses)


@accounts.command(usage="Usage: prefect-docjobs accounts pause [NAME] [OPTIONS]")
def pause(
    name: str | None = None,
    /,
    *,
    job: str | None = None,
    provider: str | None = None,
    base_url: str | None = None,
    tenant: str | None = None,
    reason: str | None = None,
    for_: Annotated[str | None, Parameter(name="--for")] = None,
    json: _Switch = False,
) -> None:
    """Submit nothing more to an account, in no process that uses this ledger. What was submitted goes on.

    Args:
        name: Name of a saved credentials or job block, such as mindee-credentials/main.
        job: Name of a saved job block, such as mindee-job/invoices.
        provider: Name of a service, such as mindee, in place of a name.
        base_url: With --provider, where there is more than one.
        tenant: Likewise: the account, as in its refs.
        reason: Why; shown with each document that is not sent.
        for_: How long, such as 30m, 2h or 1d; by default until it is resumed.
        json: Say it as a line of JSON.
    """
    named = _named(name, job, provider, base_url, tenant)
    seconds = None if for_ is None else _length(for_)

    async def work(ledger: Ledger) -> Pause:
        account = await named.find(ledger)
        return await ledger.pauses.pause(
            account, seconds=seconds, by=_somebody(), reason=reason, name=named.block
        )

    paused = asyncio.run(_with_ledger(work))
    _say(f"Nothing more is submitted. {paused}", described(paused.account, paused), as_json=json)


@accounts.command(usage="Usage: prefect-docjobs accounts resume [NAME] [OPTIONS]")
def resume(
    name: str | None = None,
    /,
    *,
    job: str | None = None,
    provider: str | None = None,
    base_url: str | None = None,
    tenant: str | None = None,
    json: _Switch = False,
) -> None:
    """Let an account that is paused go on. Documents that were not sent meanwhile are sent by the next run.

    Args:
        name: Name of a saved credentials or job block, such as mindee-credentials/main.
        job: Name of a saved job block, such as mindee-job/invoices.
        provider: Name of a service, such as mindee, in place of a name.
        base_url: With --provider, where there is more than one.
        tenant: Likewise: the account, as in its refs.
        json: Say it as a line of JSON.
    """
    named = _named(name, job, provider, base_url, tenant)

    async def work(ledger: Ledger) -> tuple[Account, bool]:
        account = await named.find(ledger, paused=True)
        return account, await ledger.pauses.resume(account)

    account, was_paused = asyncio.run(_with_ledger(work))
    what = "is resumed" if was_paused else "was not paused"
    _say(f"{_shown(account)} {what}.", described(account, None), as_json=json)


# ------------------------------------------------------------------------------------- which account it is


@dataclass(frozen=True, slots=True)
class _Named:
    """An account as it was typed: by a block, or by what its refs say."""

    block: str | None
    provider: str | None
    base_url: str | None
    tenant: str | None

    async def find(self, ledger: Ledger, *, paused: bool = False) -> Account:
        """The one account that is meant; raises `CommandFailed` where there is none, or more than one."""
        pauses = await ledger.pauses.all()
        if self.block is not None:
            by_name = [each.account for each in pauses if each.name == self.block] if paused else []
            return by_name[0] if len(by_name) == 1 else await _account_of(self.block)
        if self.provider and self.base_url and self.tenant:
            from prefect_docjobs.ledger import Account

            return Account(self.provider, self.base_url, self.tenant)
        known = [each.account for each in pauses]
        if not paused:
            known += [each.account for each in await ledger.pauses.known_accounts()]
        fits = [account for account in dict.fromkeys(known) if self._fits(account)]
        if len(fits) == 1:
            return fits[0]
        which = "paused account" if paused else "account that the ledger knows"
        if not fits:
            raise CommandFailed(
                f"There is no such {which}. Name a block, or --provider, --base-url and --tenant.", WRONG_USE
            )
        told = "; ".join(map(_shown, fits))
        raise CommandFailed(f"That is more than one {which}: {told}. Say --base-url or --tenant.", WRONG_USE)

    def _fits(self, account: Account) -> bool:
        return (
            self.provider in (None, account.provider)
            and self.base_url in (None, account.base_url)
            and self.tenant in (None, account.tenant)
        )


async def _account_of(name: str) -> Account:
    """The account of a saved credentials or job block."""
    from prefect_docjobs.cli.prefect_api import check_prefect_api
    from prefect_docjobs.cli.quiet import quiet_prefect

    quiet_prefect()
    from prefect.blocks.core import Block

    from prefect_docjobs.blocks.base import DocJob, DocJobsCredentials
    from prefect_docjobs.ledger import Account

    if "/" not in name:
        raise CommandFailed(
            f"{name!r} names no block. Give type and name, such as mindee-credentials/main.", WRONG_USE
        )
    await check_prefect_api()
    try:
        block: object = await Block.aload(name)
    except ValueError as problem:
        raise CommandFailed(f"There is no block {name}: {problem}", WRONG_USE) from None
    credentials = block.credentials if isinstance(block, DocJob) else block
    if not isinstance(credentials, DocJobsCredentials):
        raise CommandFailed(f"{name} is no credentials or job block of prefect-docjobs.", WRONG_USE)
    client = credentials.get_client()
    return Account(client.provider, client.base_url, client.tenant)


def _named(
    name: str | None, job: str | None, provider: str | None, base_url: str | None, tenant: str | None
) -> _Named:
    """The account as it was typed; refuses a call that names none, or one in two ways."""
    from prefect_docjobs.http import normalize_base_url
    from prefect_docjobs.providers import provider_names

    ways = [name is not None, job is not None, any(each is not None for each in (provider, base_url, tenant))]
    if sum(ways) != 1 or name == "" or job == "":
        raise CommandFailed(
            "Name one account: a block (mindee-credentials/main), --job mindee-job/invoices, or --provider "
            "with --base-url and --tenant.",
            WRONG_USE,
        )
    if provider is not None and provider not in (known := provider_names()):
        raise CommandFailed(
            f"--provider: there is no service {provider!r}. There are: {', '.join(known)}.", WRONG_USE
        )
    origin = None if base_url is None else normalize_base_url(base_url)
    return _Named(name or job, provider, origin, tenant)


def _length(typed: str) -> float:
    """Seconds, from `2h`."""
    found = _LENGTH.fullmatch(typed.strip())
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST:
        raise CommandFailed(f"--for: {typed!r} is no time such as 30m, 2h or 1d.", WRONG_USE)
    return float(seconds)


# -------------------------------------------------------------------------------------------- what is shown


async def _with_ledger(work: Callable[[Ledger], Awaitable[_T]]) -> _T:
    from prefect_docjobs.ledger.setting import open_ledger

    async with open_ledger() as ledger:
        if ledger is None:
            raise CommandFailed("There is no ledger: PREFECT_DOCJOBS_LEDGER is empty.", WRONG_USE)
        return await work(ledger)


async def _all(ledger: Ledger) -> tuple[list[KnownAccount], list[Pause]]:
    return await ledger.pauses.known_accounts(), await ledger.pauses.all()


def _joined(
    known: Sequence[KnownAccount], pauses: Sequence[Pause]
) -> list[tuple[KnownAccount, Pause | None]]:
    from prefect_docjobs.ledger.pauses import KnownAccount

    paused = {pause.account: pause for pause in pauses}
    new = [KnownAccount(account) for account in paused.keys() - {one.account for one in known}]
    return [(one, paused.get(one.account)) for one in (*known, *new)]


def described(
    account: Account, pause: Pause | None, *, jobs: int | None = None, blocks: Sequence[str] | None = None
) -> dict[str, Any]:
    """An account as plain JSON."""
    facts = {"provider": account.provider, "base_url": account.base_url, "tenant": account.tenant}
    more = {} if jobs is None else {"jobs": jobs, "blocks": list(blocks or ())}
    return {**facts, **more, "paused": described_pause(pause)}


def described_pause(pause: Pause | None) -> dict[str, Any] | None:
    """A pause as plain JSON; None for none."""
    if pause is None:
        return None
    until = pause.until.isoformat() if pause.until else None
    return {"since": pause.at.isoformat(), "until": until, "by": pause.by, "reason": pause.reason}


def say_paused(pauses: Sequence[Pause]) -> None:
    """A line for each account that is paused, below a table."""
    for pause in pauses:
        output().print(printable(f"Paused: {pause}"), soft_wrap=True, markup=False, style="yellow")


def _table(rows: Sequence[tuple[KnownAccount, Pause | None]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
    table.add_column("Service", no_wrap=True)
    table.add_column("Address", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("Tenant", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("Jobs", justify="right", no_wrap=True)
    table.add_column("Job blocks", overflow="ellipsis", no_wrap=True, ratio=2)
    table.add_column("State", no_wrap=True)
    for one, pause in rows:
        account = one.account
        table.add_row(
            Text(printable(account.provider)),
            Text(printable(account.base_url)),
            Text(printable(account.tenant)),
            f"{one.jobs:,}",
            Text(printable(", ".join(one.blocks))),
            Text("paused" if pause else "", style="yellow"),
        )
    return table


def _say(sentence: str, facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        messages().print(printable(sentence), soft_wrap=True, markup=False)


def _shown(account: Account) -> str:
    return f"{account.provider} {account.base_url} {account.tenant}"


def _somebody() -> str:
    """Who pauses, as the system knows them."""
    user = ""
    with suppress(OSError, KeyError):  # a container may have no name for its user
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}" if user else socket.gethostname()
