"""What must not be bought twice: one key for a service, an account, deciding settings and a content."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any

from prefect_docjobs.ledger.records import Entry
from prefect_docjobs.models import Document
from prefect_docjobs.providers.base import Provider

_VERSION = "docjobs/1"


def entry_for(
    provider: Provider,
    *,
    base_url: str,
    tenant: str,
    name: str,
    sha256: str | None,
    size: int | None,
    url: str | None = None,
    scope: str | None = None,
    flow_run_id: str | None = None,
    task_run_id: str | None = None,
    block: str | None = None,
) -> Entry:
    """The entry for one document at one service.

    The key is the SHA-256, in hex, of canonical JSON: a version, the service, its address, the account, the
    product, the settings that decide the result (`Provider.deciding_settings`), and the content. The
    document's name is no part of it, nor is how the document travels.

    Args:
        provider: The service with its settings: a frozen dataclass of plain values, without any secret.
        base_url: Scheme, host and port.
        tenant: Whose account it is.
        name: Of the document, for people.
        sha256: Hex digest of its content; None for a document given by URL.
        size: Bytes, where known.
        url: Its address, without a `sha256`.
        scope: Names the call, likewise: what an address leads to may change between two.
        flow_run_id: The flow run that buys.
        task_run_id: The task run that buys.
        block: Name of the saved job block, where there is one.

    Raises:
        ValueError: Neither `sha256`, nor `url` with `scope`.
        TypeError: A setting that is no plain value.
    """
    if sha256 is None and not (url and scope):
        raise ValueError(f"{name}: a key needs the content's sha256, or the url and the scope of the call.")
    content = ["url", url, scope] if sha256 is None else ["sha256", sha256.lower()]
    product = _plain(provider.product)
    identity = [_VERSION, provider.name, base_url, tenant, product, _settings(provider), content]
    return Entry(
        key=hashlib.sha256(_canonical(identity)).hexdigest(),
        provider=provider.name,
        base_url=base_url,
        tenant=tenant,
        product=provider.product,
        document_name=name,
        document_sha256=sha256,
        document_size=size,
        flow_run_id=flow_run_id,
        task_run_id=task_run_id,
        block=block,
    )


def _settings(provider: Provider) -> dict[str, Any]:
    """What is set is part of the key; what is not is left out, so that a later setting changes no old key."""
    settings = provider.deciding_settings().items()
    return {name: _plain(value) for name, value in settings if value is not None}


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: object) -> object:
    """`value` as JSON that is equal for equal settings, whatever their order and kind of container."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Document):
        return {"document": value.sha256 or value.url}
    return _container(value)


def _container(value: object) -> object:
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, AbstractSet):
        return sorted((_plain(item) for item in value), key=_canonical)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_plain(item) for item in value]
    raise TypeError(f"A setting of type {type(value).__name__} cannot be part of a key: give plain JSON.")


def _object(value: Mapping[Any, object]) -> dict[str, object]:
    if any(not isinstance(name, str) for name in value):
        raise TypeError("The names in a setting must be text, as in JSON.")
    return {name: _plain(item) for name, item in value.items()}


def _number(value: float) -> object:
    """1.0 and 1 compare as equal settings, so they are one key too."""
    if not math.isfinite(value):
        raise TypeError("A setting that is not a finite number cannot be part of a key.")
    return int(value) if value.is_integer() else value
