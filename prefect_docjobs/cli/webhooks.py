"""The receiver of pushes in a terminal."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from prefect_docjobs.cli.exits import TERMINATED, WRONG_USE, CommandFailed, check_port
from prefect_docjobs.cli.prefect_api import check_prefect_api
from prefect_docjobs.cli.quiet import quiet_prefect
from prefect_docjobs.cli.screen import output, print_json
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.webhooks import ReceiverLimits, WebhookAccount, create_app
from prefect_docjobs.webhooks.clients import networks_of
from prefect_docjobs.webhooks.server import Receiver

_LARGEST_BODY_MIB = 512
_BODIES_IN_MEMORY = 4  # of the largest size
_BODIES_OF_CLIENT = 2


def receive_until_stopped(
    blocks: Sequence[str],
    host: str,
    port: int,
    *,
    insecure: bool,
    max_body_mib: int,
    path_token_env: str | None,
    trusted_proxies: Sequence[str] = (),
    as_json: bool = False,
) -> None:
    """Receive pushes for the accounts of saved blocks until Ctrl-C or SIGTERM; what is under way is finished.

    Args:
        blocks: Names of credentials blocks, such as `mindee-credentials/main`.
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        insecure: Take pushes of accounts without a secret, as hints.
        max_body_mib: The largest push.
        path_token_env: Environment variable with the path token of Unsiloed accounts that have none.
        trusted_proxies: Addresses and networks whose `X-Forwarded-For` is believed.
        as_json: Say where it listens as a line of JSON.

    Raises:
        CommandFailed: The call makes no sense, the address cannot be listened on, or Prefect's API does not
            answer.
        ConfigurationError: A block is not there, or has no secret, or a proxy is no address.
    """
    check_port(port)
    if not 1 <= max_body_mib <= _LARGEST_BODY_MIB:
        raise CommandFailed(f"--max-body-mib must be 1 to {_LARGEST_BODY_MIB}.", WRONG_USE)
    if not blocks:
        raise CommandFailed("Name a credentials block: --block mindee-credentials/main", WRONG_USE)
    size = max_body_mib << 20
    limits = ReceiverLimits(
        body_bytes=size,
        memory_bytes=size * _BODIES_IN_MEMORY,
        client_memory_bytes=size * _BODIES_OF_CLIENT,
    )
    networks_of(trusted_proxies)
    token = _path_token(path_token_env)
    quiet_prefect()
    told = partial(_announce, host=host, as_json=as_json)
    with _logging(), _stopped_by_a_signal():
        receiving = _receive(
            blocks,
            token,
            host,
            port,
            told,
            insecure=insecure,
            limits=limits,
            trusted_proxies=trusted_proxies,
        )
        asyncio.run(receiving)


async def _receive(
    blocks: Sequence[str],
    path_token: str | None,
    host: str,
    port: int,
    told: Callable[[Sequence[WebhookAccount], int], None],
    *,
    insecure: bool,
    limits: ReceiverLimits,
    trusted_proxies: Sequence[str],
) -> None:
    from prefect_docjobs.blocks.buying import open_ledger

    await check_prefect_api()
    accounts = [await _account(name, path_token) for name in blocks]
    async with open_ledger() as ledger:
        app = create_app(accounts, ledger=ledger, insecure=insecure, limits=limits)
        server = Receiver(app, host, port, partial(told, accounts), trusted_proxies=trusted_proxies)
        try:
            await server.serve()
        except SystemExit:
            if server.started:
                raise
            why = "Choose another with --port or --host."
            raise CommandFailed(f"Cannot listen on {host} port {port}. {why}", WRONG_USE) from None


def _announce(accounts: Sequence[WebhookAccount], port: int, *, host: str, as_json: bool) -> None:
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if as_json:
        paths = [{"name": account.name, "path": account.path} for account in accounts]
        print_json({"url": url, "accounts": paths})
        return
    lines = "\n".join(f"  {account.name:<16} {account.path}" for account in accounts)
    output().print(
        f"Receiving on {url}. Paths to enter at the services, behind your public https address:\n"
        f"{lines}\nCtrl-C stops.",
        soft_wrap=True,
        markup=False,
    )


async def _account(name: str, path_token: str | None) -> WebhookAccount:
    """The account of a saved credentials block."""
    from prefect.blocks.core import Block

    from prefect_docjobs.blocks.base import DocJobsCredentials

    if "/" not in name:
        raise ConfigurationError(
            f"{name!r} names no credentials block. Give type and name, such as 'mindee-credentials/main'."
        )
    try:
        block: object = await Block.aload(name)
    except ValueError as problem:
        raise ConfigurationError(f"There is no block {name}: {problem}") from None
    if not isinstance(block, DocJobsCredentials):
        raise ConfigurationError(f"{name} is no credentials block of prefect-docjobs.")
    return WebhookAccount(
        name=name.rpartition("/")[2],
        provider=block.get_block_type_slug().removesuffix("-credentials").replace("-", "_"),
        base_url=block.base_url,
        tenant=block.tenant_id,
        secrets=_secrets_of(block),
        path_token=_path_token_of(block, path_token),
    )


def _secrets_of(block: object) -> tuple[str, ...]:
    from prefect_docjobs.blocks.base import PushingCredentials

    if not isinstance(block, PushingCredentials):
        return ()
    return tuple(secret.get_secret_value() for secret in block.webhook_secrets)


def _path_token_of(block: object, default: str | None) -> str | None:
    from prefect_docjobs.blocks import UnsiloedCredentials

    if not isinstance(block, UnsiloedCredentials):
        return None
    return block.webhook_token.get_secret_value() if block.webhook_token else default


def _path_token(variable: str | None) -> str | None:
    if variable is None:
        return None
    token = os.environ.get(variable, "").strip()
    if not token:
        raise CommandFailed(f"The environment variable {variable} is not set.", WRONG_USE)
    return token


@contextmanager
def _logging() -> Iterator[None]:
    """Each push as a line of JSON on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("prefect_docjobs.webhooks")
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before


@contextmanager
def _stopped_by_a_signal() -> Iterator[None]:
    """A stop that was asked for is no failure; the server has finished its work by then."""
    try:
        yield
    except KeyboardInterrupt:
        return
    except SystemExit as end:
        if end.code != TERMINATED:
            raise
