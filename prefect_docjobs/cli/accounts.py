"""`prefect-docjobs accounts`: the accounts that the ledger knows, and a pause for one of them."""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from cyclopts import App, Parameter

from prefect_docjobs.cli.console import Flag, cell, messages, output, print_json, print_lines, table
from prefect_docjobs.cli.errors import WRONG_USE, CommandFailed
from prefect_docjobs.cli.prefect_api import load_block, quiet_prefect

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Account, Ledger, Pause
    from prefect_docjobs.ledger.pauses import KnownAccount

_T = TypeVar("_T")
_LONGEST = timedelta(days=3650)


def _known_provider(_type: object, name: str | None) -> None:
    from prefect_docjobs.providers import provider_names

    if name is not None and name not in (known := provider_names()):
        raise ValueError(f"There is no service {name!r}. There are: {', '.join(known)}.")


ProviderName: TypeAlias = Annotated[str, Parameter(validator=_known_provider)]
"""The name of a service, checked when the command is called."""

accounts = App(
    name="accounts", help="List the accounts that the ledger knows; pause and resume one.", sort_key=6
)


@accounts.default
def list_accounts(*, json: Flag = False) -> None:
    """List the accounts that the ledger knows, and those that are paused.

    Args:
        json: A line of JSON for each account instead of a table.
    """

    async def read(ledger: Ledger) -> tuple[list[KnownAccount], list[Pause]]:
        return await ledger.pauses.known_accounts(), await ledger.pauses.all()

    known, pauses = _with_ledger(read)
    from prefect_docjobs.ledger.pauses import KnownAccount

    paused = {pause.account: pause for pause in pauses}
    known += [KnownAccount(account) for account in paused.keys() - {one.account for one in known}]
    if json:
        for one in known:
            print_json(_account_json(one.account, paused.get(one.account), jobs=one.jobs, blocks=one.blocks))
        return
    shown = table()
    shown.add_column("Service", no_wrap=True)
    shown.add_column("Address", no_wrap=True, overflow="ellipsis", ratio=2)
    shown.add_column("Tenant", no_wrap=True, overflow="ellipsis", ratio=1)
    shown.add_column("Jobs", justify="right", no_wrap=True)
    shown.add_column("Job blocks", overflow="ellipsis", no_wrap=True, ratio=2)
    shown.add_column("State", no_wrap=True)
    for one in known:
        account = one.account
        shown.add_row(
            cell(account.provider),
            cell(account.base_url),
            cell(account.tenant),
            f"{one.jobs:,}",
            cell(", ".join(one.blocks)),
            cell("paused" if account in paused else "", "yellow"),
        )
    output().print(shown)
    print_pauses(pauses)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AccountOptions:
    """The account as it is named on the command line, in place of a block's name.

    Attributes:
        job: Name of a saved job block, such as mindee-job/invoices.
        provider: Name of a service, such as mindee, in place of a name.
        base_url: With --provider, where there is more than one.
        tenant: Likewise: the account, as in its refs.
    """

    job: str | None = None
    provider: ProviderName | None = None
    base_url: str | None = None
    tenant: str | None = None


@accounts.command(usage="Usage: prefect-docjobs accounts pause [NAME] [OPTIONS]")
def pause(
    name: str | None = None,
    /,
    *,
    named: AccountOptions = AccountOptions(),
    reason: str | None = None,
    for_: Annotated[timedelta | None, Parameter(name="--for")] = None,
    json: Flag = False,
) -> None:
    """Submit nothing more to an account, in no process that uses this ledger. Submitted jobs go on.

    Args:
        name: Name of a saved credentials or job block, such as mindee-credentials/main.
        named: The account, in place of a name.
        reason: Why; shown with each document that is not sent.
        for_: How long, such as 30m, 2h or 1d; by default until it is resumed.
        json: Print it as a line of JSON.
    """
    if for_ is not None and not timedelta(0) < for_ <= _LONGEST:
        raise CommandFailed("--for needs a time such as 30m, 2h or 1d.", WRONG_USE)
    block = _block_name(name, named)

    async def work(ledger: Ledger) -> Pause:
        account = await _find(ledger, block, named)
        seconds = None if for_ is None else for_.total_seconds()
        return await ledger.pauses.pause(account, seconds=seconds, by=_user(), reason=reason, name=block)

    paused = _with_ledger(work)
    if json:
        print_json(_account_json(paused.account, paused))
    else:
        print_lines(messages(), f"Nothing more is submitted. {paused}")


@accounts.command(usage="Usage: prefect-docjobs accounts resume [NAME] [OPTIONS]")
def resume(
    name: str | None = None,
    /,
    *,
    named: AccountOptions = AccountOptions(),
    json: Flag = False,
) -> None:
    """Let an account that is paused go on. Documents that were not sent meanwhile are sent by the next run.

    Args:
        name: Name of a saved credentials or job block, such as mindee-credentials/main.
        named: The account, in place of a name.
        json: Print it as a line of JSON.
    """
    block = _block_name(name, named)

    async def work(ledger: Ledger) -> tuple[Account, bool]:
        account = await _find(ledger, block, named, paused=True)
        return account, await ledger.pauses.resume(account)

    account, was_paused = _with_ledger(work)
    if json:
        print_json(_account_json(account, None))
    else:
        what = "is resumed" if was_paused else "was not paused"
        print_lines(messages(), f"{_line(account)} {what}.")


# ------------------------------------------------------------------------------------- which account it is


def _block_name(name: str | None, named: AccountOptions) -> str | None:
    """The block by which the account is named; raises where it is named in no way, or in more than one."""
    facts = any(each is not None for each in (named.provider, named.base_url, named.tenant))
    if [name is not None, named.job is not None, facts].count(True) != 1 or "" in (name, named.job):
        raise CommandFailed(
            "Name one account: a block (mindee-credentials/main), --job mindee-job/invoices, or --provider "
            "with --base-url and --tenant.",
            WRONG_USE,
        )
    return name or named.job


async def _find(ledger: Ledger, block: str | None, named: AccountOptions, *, paused: bool = False) -> Account:
    """The one account that is meant; raises `CommandFailed` where there is none, or more than one."""
    from prefect_docjobs.http import normalize_base_url
    from prefect_docjobs.ledger import Account

    pauses = await ledger.pauses.all()
    if block is not None:
        by_name = [each.account for each in pauses if each.name == block] if paused else []
        return by_name[0] if len(by_name) == 1 else await _account_of(block)
    base_url = None if named.base_url is None else normalize_base_url(named.base_url)
    if named.provider and base_url and named.tenant:
        return Account(named.provider, base_url, named.tenant)
    known = [each.account for each in pauses]
    if not paused:
        known += [each.account for each in await ledger.pauses.known_accounts()]
    fits = [
        account
        for account in dict.fromkeys(known)
        if named.provider in (None, account.provider)
        and base_url in (None, account.base_url)
        and named.tenant in (None, account.tenant)
    ]
    if len(fits) == 1:
        return fits[0]
    which = "paused account" if paused else "account that the ledger knows"
    if not fits:
        raise CommandFailed(
            f"There is no such {which}. Name a block, or --provider, --base-url and --tenant.", WRONG_USE
        )
    found = "; ".join(map(_line, fits))
    raise CommandFailed(f"That is more than one {which}: {found}. Add --base-url or --tenant.", WRONG_USE)


async def _account_of(name: str) -> Account:
    """The account of a saved credentials or job block."""
    quiet_prefect()
    block = await load_block(name)
    from prefect_docjobs.blocks.credentials import DocJobsCredentials
    from prefect_docjobs.blocks.jobs import DocJob
    from prefect_docjobs.ledger import Account

    credentials = block.credentials if isinstance(block, DocJob) else block
    if not isinstance(credentials, DocJobsCredentials):
        raise CommandFailed(f"{name} is no credentials or job block of prefect-docjobs.", WRONG_USE)
    client = credentials.get_client()
    return Account(client.provider, client.base_url, client.tenant)


# ---------------------------------------------------------------------------------- the ledger and its pauses


@asynccontextmanager
async def open_ledger() -> AsyncIterator[Ledger]:
    """The ledger of the settings; raises `CommandFailed` where it is switched off."""
    from prefect_docjobs.ledger.setting import open_ledger

    async with open_ledger() as ledger:
        if ledger.in_memory:
            raise CommandFailed("There is no ledger: PREFECT_DOCJOBS_LEDGER is empty.", WRONG_USE)
        yield ledger


def _with_ledger(work: Callable[[Ledger], Awaitable[_T]]) -> _T:
    async def run() -> _T:
        async with open_ledger() as ledger:
            return await work(ledger)

    return asyncio.run(run())


def pause_json(pause: Pause | None) -> dict[str, Any] | None:
    """A pause as plain JSON; None for none."""
    if pause is None:
        return None
    until = pause.until.isoformat() if pause.until else None
    return {"since": pause.at.isoformat(), "until": until, "by": pause.by, "reason": pause.reason}


def print_pauses(pauses: Sequence[Pause]) -> None:
    """A line for each account that is paused, below a table."""
    print_lines(output(), *(f"Paused: {pause}" for pause in pauses), style="yellow")


def _account_json(
    account: Account, pause: Pause | None, *, jobs: int | None = None, blocks: Sequence[str] = ()
) -> dict[str, Any]:
    facts = {"provider": account.provider, "base_url": account.base_url, "tenant": account.tenant}
    more = {} if jobs is None else {"jobs": jobs, "blocks": list(blocks)}
    return {**facts, **more, "paused": pause_json(pause)}


def _line(account: Account) -> str:
    return f"{account.provider} {account.base_url} {account.tenant}"


def _user() -> str:
    """Who pauses, as the system knows them."""
    user = ""
    with suppress(OSError, KeyError):  # a container may have no name for its user
        user = f"{getpass.getuser()}@"
    return f"{user}{socket.gethostname()}"
