"""Whose pushes are received: the accounts, their paths, and what proves that a push is theirs."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.http import normalize_base_url
from prefect_docjobs.providers import Provider, provider_class

MIN_TOKEN = 32
"""Characters of a path token: 192 bits, when it is made with `secrets.token_urlsafe(24)`."""

UNKNOWN = "unknown"
"""The name of the account of a path that leads to none, in logs and metrics."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class WebhookAccount:
    """One account whose pushes are received.

    Attributes:
        name: Its part of the path, such as the name of its credentials block.
        provider: Registry name of the service.
        base_url: Scheme, host and port of the service, as in the account's refs.
        tenant: The account, as in its refs.
        secrets: Signing secrets that are valid, several while one is exchanged.
        path_token: For a service that does not sign: the last part of the path, at least 32 characters of
            `A-Z a-z 0-9 _ -`.

    Raises:
        ConfigurationError: One of them cannot be right.
    """

    name: str
    provider: str
    base_url: str
    tenant: str
    secrets: tuple[str, ...] = field(default=(), repr=False)
    path_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", normalize_base_url(self.base_url))
        object.__setattr__(self, "secrets", tuple(secret for secret in self.secrets if secret))
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"{self.name!r} cannot be part of a path. Use letters, digits, - and _.")
        if not self.service.capabilities.push and not self.hints_only:
            raise ConfigurationError(f"{self.service.title} calls no webhooks: {self.name} cannot be pushed.")
        token = self.path_token
        if token is not None and (len(token) < MIN_TOKEN or not _TOKEN.fullmatch(token)):
            raise ConfigurationError(
                f"The path token of {self.name} must be at least {MIN_TOKEN} letters, digits, - and _."
            )

    @property
    def service(self) -> type[Provider]:
        """The provider's class."""
        return provider_class(self.provider)

    @property
    def hints_only(self) -> bool:
        """Whether the service's calls cannot be verified, so that they prove nothing."""
        return self.service.capabilities.hints

    @property
    def is_proved(self) -> bool:
        """Whether there is something that only the service can know."""
        return bool(self.path_token if self.hints_only else self.secrets)

    @property
    def path(self) -> str:
        """Where the service has to POST, below the app's root, without the token."""
        token = "/<token>" if self.hints_only else ""
        return f"/webhooks/{path_name(self.provider)}/{self.name}{token}"


def path_name(provider: str) -> str:
    """A provider's part of the path."""
    return provider.replace("_", "-")


class Accounts:
    """All accounts of a receiver, by path.

    Args:
        accounts: No two with the same path.
        insecure: Take calls of accounts without a secret, as hints.

    Raises:
        ConfigurationError: There is none, two have one path or one secret, or one has no secret.
    """

    def __init__(self, accounts: Sequence[WebhookAccount], *, insecure: bool) -> None:
        if not accounts:
            raise ConfigurationError("No account is given, so there is nothing to receive.")
        if len({(it.provider, it.name) for it in accounts}) < len(accounts):
            raise ConfigurationError("Two accounts of one service have the same name, so the same path.")
        _check_secrets(accounts)
        self.unproved = [it for it in accounts if not it.is_proved]
        if self.unproved and not insecure:
            raise ConfigurationError(_nothing_to_verify_by(self.unproved[0]))
        self._paths = {(path_name(it.provider), it.name): it for it in accounts}

    def find(self, path_part: str, name: str) -> WebhookAccount | None:
        """The account of a path, or None."""
        return self._paths.get((path_name(path_part), name))


def token_fits(account: WebhookAccount, given: str) -> bool:
    """Whether a path has the account's token, told in constant time."""
    if account.path_token is None:
        return False
    mine, theirs = (
        hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (account.path_token, given)
    )
    return hmac.compare_digest(mine, theirs)


def _check_secrets(accounts: Sequence[WebhookAccount]) -> None:
    """A signature covers the body alone: with one secret, a push for one account fits the other's path."""
    owners: dict[tuple[str, str], WebhookAccount] = {}
    for account in accounts:
        for secret in account.secrets:
            owner = owners.setdefault((account.provider, secret), account)
            if owner is not account:
                raise ConfigurationError(
                    f"The accounts {owner.name} and {account.name} of {account.service.title} have a webhook "
                    "secret in common, so a push for one would count for the other. Give each its own."
                )


def _nothing_to_verify_by(account: WebhookAccount) -> str:
    missing = "path token" if account.hints_only else "webhook secret"
    return (
        f"The account {account.name} has no {missing}, so anybody could push: configure one, "
        "or start with insecure, which takes its pushes as hints only."
    )
