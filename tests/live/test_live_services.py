"""One page, once, through each real service whose key is given. Never run in CI: `make test-live`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from support.services import SETTINGS

from prefect_docjobs.extraction import extract_many
from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Ledger
from prefect_docjobs.models import Document, Field, Outcome
from prefect_docjobs.providers import Provider, provider_class
from prefect_docjobs.providers.registry import BUILT_IN
from prefect_docjobs.simulator.samples import SAMPLES

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

MOST_SECONDS = 600.0
MODEL_VARIABLES: Mapping[str, str] = {"mindee": "DOCJOBS_LIVE_MINDEE_MODEL"}
"""Whose job needs something that only the account's owner knows."""


@pytest.mark.parametrize("name", BUILT_IN)
async def test_one_page_comes_back_as_a_result_and_is_bought_once(name: str, tmp_path: Path) -> None:
    async with _account(name) as http, Ledger(str(tmp_path / "live.db")) as ledger:
        first = await _extracted(name, http, ledger)
        assert first.reason is None, f"{first.ref}: {first.error}"
        _check(first)
        again = await _extracted(name, http, ledger)
    assert again.reused
    assert again.ref == first.ref


@asynccontextmanager
async def _account(name: str) -> AsyncIterator[Http]:
    service, key = provider_class(name), _given(name, "KEY")
    http = Http(
        provider=name,
        base_url=os.environ.get(f"DOCJOBS_LIVE_{name.upper()}_URL", service.default_base_url),
        headers=service.auth_headers(key),
        tenant="live-test",
        secrets=[key],
        read_error=service.read_error,
    )
    async with http:
        yield http


async def _extracted(name: str, http: Http, ledger: Ledger) -> Outcome:
    document = Document.from_path(
        os.environ.get("DOCJOBS_LIVE_DOCUMENT", SAMPLES / "invoice-brightwater.pdf")
    )
    outcomes = extract_many(_provider(name), http, [document], document_timeout=MOST_SECONDS, ledger=ledger)
    async with aclosing(outcomes):
        async for _, outcome in outcomes:
            return outcome
    raise AssertionError("a document without an outcome")


def _provider(name: str) -> Provider:
    settings = dict(SETTINGS[name])
    if name in MODEL_VARIABLES:
        settings = {"model_id": _variable(MODEL_VARIABLES[name])}
    return provider_class(name)(**settings)


def _given(name: str, what: str) -> str:
    return _variable(f"DOCJOBS_LIVE_{name.upper()}_{what}")


def _variable(name: str) -> str:
    """What the variable holds; without it the test is skipped."""
    value = os.environ.get(name, "").strip()
    if not value:
        pytest.skip(f"{name} is not set")
    return value


def _check(outcome: Outcome) -> None:
    assert outcome.status is not None
    assert outcome.ref is not None
    kind = provider_class(outcome.ref.provider)
    word = outcome.status.raw_state  # None where the result came at once
    assert word is None or word.lower() in kind.states, f"{kind.title} says {word!r}: not documented"
    assert outcome.result is not None
    assert outcome.result.fields or outcome.result.text
    for field in _all_fields(outcome.result.fields.values()):
        assert field.confidence is None or 0.0 <= field.confidence <= 1.0
        assert all(location.page >= 1 for location in field.locations)


def _all_fields(fields: Iterable[Field]) -> Iterator[Field]:
    for field in fields:
        yield field
        yield from _all_fields((field.fields or {}).values())
        yield from _all_fields(field.items or ())
