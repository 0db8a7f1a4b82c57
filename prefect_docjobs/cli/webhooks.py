"""`prefect-docjobs webhooks`: receive what services push, for the accounts of saved credentials blocks."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.types import Port
from cyclopts.validators import Number

from prefect_docjobs.cli.console import Flag, output, print_json, print_lines
from prefect_docjobs.cli.errors import TERMINATED, WRONG_USE, CommandFailed
from prefect_docjobs.cli.prefect_api import check_prefect_api, load_block, quiet_prefect

if TYPE_CHECKING:
    from prefect_docjobs.webhooks import ReceiverLimits, WebhookAccount

_BODIES_IN_MEMORY = 4  # of the largest size
_BODIES_OF_CLIENT = 2


def webhooks(
    *,
    block: list[str],
    port: Port = 8080,
    host: str = "127.0.0.1",
    insecure: Flag = False,
    max_body_mib: Annotated[int, Parameter(validator=Number(gte=1, lte=512))] = 20,
    path_token_env: str | None = None,
    trusted_proxy: list[str] | None = None,
    json: Flag = False,
) -> None:
    """Receive the results that services push, until Ctrl-C. Tasks that wait for a job have it at once.

    Args:
        block: Name of a credentials block, such as mindee-credentials/main; may be repeated.
        port: TCP port; 0 takes a free one.
        host: Address to listen on. Have a proxy with TLS in front of it.
        insecure: Take pushes of accounts without a secret: as hints for a status check, never as results.
        max_body_mib: The largest push, in MiB.
        path_token_env: Environment variable that holds the last part of the path of Unsiloed accounts whose
            block has none.
        trusted_proxy: Address or network of a proxy in front, whose X-Forwarded-For says who the client is;
            may be repeated. By default every connection counts as one of its own address.
        json: Print the address and the paths as a line of JSON.
    """
    from prefect_docjobs.webhooks import ReceiverLimits
    from prefect_docjobs.webhooks.clients import networks_of

    size = max_body_mib << 20
    limits = ReceiverLimits(
        body_bytes=size,
        memory_bytes=size * _BODIES_IN_MEMORY,
        client_memory_bytes=size * _BODIES_OF_CLIENT,
    )
    networks_of(trusted_proxy or ())
    token = None
    if path_token_env is not None and not (token := os.environ.get(path_token_env, "").strip()):
        raise CommandFailed(f"The environment variable {path_token_env} is not set.", WRONG_USE)
    quiet_prefect()
    with _logging():
        try:
            asyncio.run(
                _receive(
                    block,
                    token,
                    host,
                    port,
                    insecure=insecure,
                    limits=limits,
                    trusted_proxies=trusted_proxy or (),
                    as_json=json,
                )
            )
        except KeyboardInterrupt:
            return
        except SystemExit as end:  # by then the server has finished its work
            if end.code != TERMINATED:
                raise


async def _receive(
    blocks: Sequence[str],
    path_token: str | None,
    host: str,
    port: int,
    *,
    insecure: bool,
    limits: ReceiverLimits,
    trusted_proxies: Sequence[str],
    as_json: bool,
) -> None:
    from prefect_docjobs.blocks.ledger import open_ledger
    from prefect_docjobs.webhooks import create_app
    from prefect_docjobs.webhooks.server import Receiver

    await check_prefect_api()
    accounts = [await _account(name, path_token) for name in blocks]

    def announce(port: int) -> None:
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if as_json:
            paths = [{"name": account.name, "path": account.path} for account in accounts]
            print_json({"url": url, "accounts": paths})
            return
        print_lines(
            output(),
            f"Receiving on {url}. Paths to enter at the services, behind your public https address:",
            *(f"  {account.name:<16} {account.path}" for account in accounts),
            "Ctrl-C stops.",
        )

    async with open_ledger() as ledger:
        app = create_app(accounts, ledger=ledger, insecure=insecure, limits=limits)
        server = Receiver(app, host, port, announce, trusted_proxies=trusted_proxies)
        try:
            await server.serve()
        except SystemExit:
            if server.started:
                raise
            why = "Choose another with --port or --host."
            raise CommandFailed(f"Cannot listen on {host} port {port}. {why}", WRONG_USE) from None


async def _account(name: str, path_token: str | None) -> WebhookAccount:
    """The account of a saved credentials block."""
    block = await load_block(name)
    from prefect_docjobs.blocks import UnsiloedCredentials
    from prefect_docjobs.blocks.credentials import DocJobsCredentials
    from prefect_docjobs.webhooks import WebhookAccount

    if not isinstance(block, DocJobsCredentials):
        raise CommandFailed(f"{name} is no credentials block of prefect-docjobs.", WRONG_USE)
    token = None
    if isinstance(block, UnsiloedCredentials):
        token = block.webhook_token.get_secret_value() if block.webhook_token else path_token
    return WebhookAccount(
        name=name.rpartition("/")[2],
        provider=block.get_block_type_slug().removesuffix("-credentials").replace("-", "_"),
        base_url=block.base_url,
        tenant=block.tenant_id,
        secrets=_secrets(block),
        path_token=token,
    )


def _secrets(block: object) -> tuple[str, ...]:
    from prefect_docjobs.blocks.credentials import PushingCredentials

    secrets = block.webhook_secrets if isinstance(block, PushingCredentials) else ()
    return tuple(secret.get_secret_value() for secret in secrets)


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
