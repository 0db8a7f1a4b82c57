"""What all blocks share: checked settings; and credentials, which make a client.

Importing this module is part of every start of a Prefect server that has the package installed, so
providers are imported when a block is made, not before.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from prefect.blocks.abstract import CredentialsBlock
from prefect.blocks.core import Block
from pydantic import (
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    HttpUrl,
    SecretStr,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import Self

from prefect_docjobs.blocks.forms import Secrets, is_empty, title_of, without_null
from prefect_docjobs.blocks.sharing import SharedRates, ledger_name
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.http import AccountLimits, Http, Kind, Limits, normalize_base_url, shared_limits
from prefect_docjobs.providers import Provider, provider_class

LOGO = HttpUrl("https://raw.githubusercontent.com/prefect-docjobs/prefect-docjobs/main/docs/logo.png")
_DOCS = "https://github.com/prefect-docjobs/prefect-docjobs/blob/main/docs/providers/"
API_KEY: Any = Field(title="API key", description="The API key, alone: no 'Bearer' or 'Token' before it.")
"""The field `api_key: SecretStr` of credentials that are nothing without a key."""

_SCHEME = re.compile(r"(bearer|token|basic|authorization|x-api-key|api-key)\b[\s:]", re.IGNORECASE)
_LIKE_A_SETTING = re.compile(r"[a-z_]{1,32}")
# What Prefect writes beside the fields of a block when it dumps one.
_PREFECT_KEYS = frozenset({"block_type_slug", "_block_document_id", "_block_document_name", "_is_anonymous"})


def docs_url(page: str) -> HttpUrl:
    """The documentation of a provider's blocks."""
    return HttpUrl(f"{_DOCS}{page}.md")


def checked_secret(secret: SecretStr) -> SecretStr:
    """Refuse what cannot be a key, in words that never repeat it; for field validators."""
    key = secret.get_secret_value()
    if not key:
        raise ValueError("it is empty. Give the key itself.")
    if not key.strip("*"):
        raise ValueError(
            f"it is the mask {key!r}: the block travelled without its secret. Save the block, and pass its "
            "name; after an edit of a job in Prefect's UI, choose its credentials again and save."
        )
    if _SCHEME.match(key):
        raise ValueError("it begins with a header or a scheme such as 'Bearer'. Give the key alone.")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("it has blanks, line breaks or characters outside ASCII. Copy it again.")
    return secret


class DocJobsBlock(Block, ABC):
    """A block of one provider: it refuses settings it does not know, and does not fall apart in `.map`."""

    model_config = ConfigDict(
        hide_input_in_errors=True,  # an input may be a key
        field_title_generator=lambda name, _: title_of(name),
    )

    _provider: ClassVar[str]  # the provider's name in the registry
    _logo_url = LOGO

    def __iter__(self) -> NoReturn:
        """Refuse: `Task.map` would silently map over the settings."""
        raise ConfigurationError(
            f"A {type(self).__name__} cannot be mapped over: wrap the block, as in "
            "task.map(unmapped(block), documents), or pass its name."
        )

    # With these two `dict(block)` works without iteration; Prefect looks into parameters that way.

    def keys(self) -> list[str]:
        """The names of the settings."""
        return [name for name, _ in super().__iter__()]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    @model_validator(mode="before")
    @classmethod
    def _known_settings(cls, data: Any) -> Any:
        """Refuse a name that is no setting: a misspelt option would cost money without doing anything."""
        if not isinstance(data, Mapping):
            return data
        unknown = data.keys() - cls.model_fields.keys() - cls.model_computed_fields.keys() - _PREFECT_KEYS
        if unknown:
            # A name may be a key that got into the wrong place: only what looks like a setting is repeated.
            named = ", ".join(sorted(name for name in unknown if _LIKE_A_SETTING.fullmatch(str(name))))
            known = ", ".join(cls.model_fields)
            raise ValueError(f"{cls.__name__} has no setting {named or 'of that name'}. There are: {known}.")
        return {
            name: value
            for name, value in data.items()
            if name not in cls.model_computed_fields and not cls._is_left_empty(name, value)
        }

    @classmethod
    def _is_left_empty(cls, name: str, value: object) -> bool:
        """Whether a form had nothing in the field of a setting that may be left out."""
        field = cls.model_fields.get(name)
        if field is None or field.is_required() or not is_empty(value):
            return False
        return is_empty(field.get_default(call_default_factory=True))

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        """What Prefect's UI makes the form of."""
        schema = handler(core_schema)
        for each in handler.resolve_ref_schema(schema).get("properties", {}).values():
            without_null(each)
        return schema


class Account(DocJobsBlock, CredentialsBlock, ABC):
    """An account with one service: its API key if it has one, where the service is, whose account it is."""

    api_key: SecretStr | None = Field(
        default=None,
        title="API key",
        description=(
            "The API key, alone: no 'Bearer' or 'Token' before it. Leave it empty for a server that asks for "
            "none."
        ),
    )
    base_url: str = Field(
        title="Base URL",
        description="Where the service is: scheme, host and port. The key goes nowhere else.",
    )
    tenant: str | None = Field(
        default=None,
        description=(
            "A name for the account, written into every job ref so that no account takes up another's jobs. "
            "By default a short hash of the key; give a name to keep refs valid when the key is changed. "
            "Without a key it is no-key."
        ),
    )

    @field_validator("api_key")
    @classmethod
    def _check_api_key(cls, key: SecretStr | None) -> SecretStr | None:
        return key if key is None else checked_secret(key)

    @field_validator("base_url")
    @classmethod
    def _origin_only(cls, url: str) -> str:
        return normalize_base_url(url)


class PushingCredentials(Account, ABC):
    """An account with a service that signs its webhook calls."""

    # A list of annotated secrets would not be known to Prefect as secret, so they are checked here.
    webhook_secrets: Secrets = Field(
        default_factory=list,
        description=(
            "Signing secrets of the webhooks, all that are valid, separated by blanks: a new one beside the "
            "old one."
        ),
    )

    @field_validator("webhook_secrets")
    @classmethod
    def _check_webhook_secrets(cls, secrets: list[SecretStr]) -> list[SecretStr]:
        return [checked_secret(secret) for secret in secrets]


class DocJobsCredentials(Account, ABC):
    """An account with one service, and how much may be asked of the service at a time.

    What only some services have, such as `PushingCredentials`, stands behind this class among the bases of
    theirs: the form then shows it before the limits.
    """

    submits_per_second: float | None = Field(
        default=None,
        gt=0,
        description="Never more, over all batches of the account in one process; empty for no limit.",
    )
    status_per_second: float | None = Field(
        default=None,
        gt=0,
        title="Status requests per second",
        description="Never more, over all batches of the account in one process; empty for no limit.",
    )
    share_rates: bool = Field(
        default=False,
        title="Share the rates among all workers",
        description=(
            "The two rates above hold for all processes of the account together, which lease tokens from "
            "the ledger they share (PostgreSQL for several machines, SQLite for one), and pause together "
            "when one is refused. All must set the same rates. Without it each process has them for itself."
        ),
    )
    max_in_flight: int = Field(
        default=20,
        ge=1,
        le=1000,
        title="Requests at the same time",
        description="At most so many requests of one batch are under way at the same time.",
    )
    max_answer_mib: int = Field(
        default=32,
        ge=1,
        title="Largest result (MiB)",
        description="A result that is larger, in MiB, is refused; other answers have at most 8 MiB.",
    )

    @model_validator(mode="after")
    def _rates_to_share(self) -> Self:
        if self.share_rates and not self._rates():
            raise ValueError("share_rates needs submits_per_second or status_per_second to share.")
        return self

    @computed_field  # type: ignore[prop-decorator]  # https://github.com/python/mypy/issues/1362
    @property
    def tenant_id(self) -> str:
        """Whose account it is in every ref: `tenant`, a short keyed hash of the API key, or `no-key`.

        It is part of a dumped block because Prefect's cache keys see a secret as its mask: without it
        two accounts would share cached results.
        """
        if self.tenant or not self.api_key:
            return self.tenant or "no-key"
        key = self.api_key.get_secret_value().encode()
        return hmac.new(key, b"prefect-docjobs/tenant/v1", hashlib.sha256).hexdigest()[:12]

    def get_client(self, *, limits: Limits | None = None) -> Http:
        """A client of this account, to be opened with `async with` on the loop that uses it.

        Args:
            limits: What the client allows itself; by default this block's settings.
        """
        service = provider_class(self._provider)
        return service.connect(
            base_url=self.base_url,
            api_key=self.api_key.get_secret_value() if self.api_key else None,
            tenant=self.tenant_id,
            limits=limits or self._limits(),
            account_limits=self._account_limits(service),
            renew=self._saved_key if self._block_document_id else None,
        )

    async def _saved_key(self) -> tuple[dict[str, str], str]:
        """The headers with the key that is saved now: keys are exchanged while a batch runs."""
        where = {"block_document_id": self._block_document_id}
        saved: DocJobsCredentials = await type(self).aload_from_ref(where)
        same = (saved.base_url, saved.tenant) == (self.base_url, self.tenant)
        # The key of another service or account goes nowhere near this one.
        secret = (saved if same else self).api_key
        key = secret.get_secret_value() if secret else ""
        return provider_class(self._provider).auth_headers(key) if key else {}, key

    def _limits(self) -> Limits:
        result = self.max_answer_mib << 20
        return Limits(
            in_flight=self.max_in_flight,
            answer_bytes=min(Limits().answer_bytes, result),
            result_bytes=result,
        )

    def _account_limits(self, service: type[Provider]) -> AccountLimits:
        account, rates = (self.base_url, self.tenant_id), self._rates()
        if not self.share_rates:
            return shared_limits(*account, rates, documented=service.rates)
        shared = SharedRates.of(service.name, *account, rates)
        return shared_limits(
            *account,
            rates,
            documented=service.rates,
            source=ledger_name(shared.ledger),
            refill=shared.refill,
            on_throttled=shared.refused,
        )

    def _rates(self) -> dict[Kind, float]:
        given: dict[Kind, float | None] = {
            "submit": self.submits_per_second,
            "status": self.status_per_second,
        }
        return {kind: rate for kind, rate in given.items() if rate is not None}
