"""What a call proves and says: its head is checked before its body, its signature before its JSON. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefect_docjobs.errors import InvalidPush
from prefect_docjobs.models import JobState, Problem
from prefect_docjobs.providers.values import MAX_ID, has_control_characters
from prefect_docjobs.webhooks.accounts import WebhookAccount, token_fits
from prefect_docjobs.webhooks.outcomes import Declined, Outcome


@dataclass(frozen=True, slots=True)
class Call:
    """One push that may be kept.

    Attributes:
        digest: The same for a replay, and for nothing else.
        job_id: The service's id of the job, where it is named.
        alias: The key that was sent with the document, where it is named.
        state: What became of the job; None for a hint.
        raw_state: The service's own word.
        error: What the service said of a failed job.
        body: The whole result.
    """

    digest: str
    job_id: str | None
    alias: str | None = None
    state: JobState | None = None
    raw_state: str | None = None
    error: Problem | None = None
    body: bytes | None = None


def check_head(
    account: WebhookAccount | None, token: str, header: Callable[[str], Sequence[str]]
) -> WebhookAccount:
    """Refuse, before the body is read, a call that cannot be the service's.

    Args:
        account: Of the path; None where there is no such account.
        token: The last part of the path, where it has one.
        header: Gives the values of a header. A signature that comes twice is a list (RFC 9110, 5.3), which
            is none.

    Raises:
        Declined: REFUSED.
    """
    if account is None:
        raise Declined(Outcome.REFUSED)
    if account.hints_only:
        fits = account.path_token is None or token_fits(account, token)
    else:
        fits = not token and (not account.secrets or _may_be_signed(account, header))
    if not fits:
        raise Declined(Outcome.REFUSED)
    return account


def _may_be_signed(account: WebhookAccount, header: Callable[[str], Sequence[str]]) -> bool:
    name = account.service.signature_header
    values = header(name) if name else ()
    return not name or (len(values) == 1 and bool(values[0].strip()))


def read_signed(account: WebhookAccount, headers: Mapping[str, str], body: bytes) -> Call:
    """A call of a service that signs. Without a configured secret it is a hint.

    Raises:
        Declined: REFUSED where the signature does not fit, MALFORMED where it is not the service's JSON.
    """
    if account.secrets:
        try:
            account.service.verify_push(headers, body, account.secrets)
        except InvalidPush:
            raise Declined(Outcome.REFUSED) from None
    _check_encoding(body)
    try:
        push = account.service.read_push(body)
    except InvalidPush:
        raise Declined(Outcome.MALFORMED) from None
    if not account.secrets:
        return Call(_digest(account, b"hint", body), _name(push.job_id), _name(push.alias))
    job_id, alias = _name(push.job_id), _name(push.alias)
    if job_id != push.job_id or (job_id is None and alias != push.alias):
        raise Declined(Outcome.MALFORMED)  # no job has such an id, so sent again it would be no better
    whole = body if push.state is JobState.SUCCEEDED else None
    digest = _digest(account, b"push", body)
    return Call(digest, job_id, alias, push.state, push.raw_state, push.error, whole)


def read_hint(account: WebhookAccount, body: bytes) -> Call:
    """A call that proves nothing but the token in its path: the id of a job to look at, and no more.

    Raises:
        Declined: MALFORMED where no job is named.
    """
    _check_encoding(body)
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        raise Declined(Outcome.MALFORMED) from None
    job_id = _name(_job_id_in(payload))
    if job_id is None:
        raise Declined(Outcome.MALFORMED)
    return Call(_digest(account, b"hint", body), job_id)


def _check_encoding(body: bytes) -> None:
    """JSON is UTF-8; the parser would take UTF-16 and UTF-32, which it tells by their zero bytes, too."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        raise Declined(Outcome.MALFORMED) from None
    if b"\x00" in body[:4]:
        raise Declined(Outcome.MALFORMED)


def _digest(account: WebhookAccount, kind: bytes, body: bytes) -> str:
    """A forged hint must not pass for a replay of the push that is signed: hence the kind."""
    whose = f"{account.provider} {account.base_url} {account.tenant}\n".encode("utf-8", "replace")
    digest = hashlib.sha256(kind + b" " + whose)
    digest.update(body)
    return digest.hexdigest()


def _job_id_in(payload: Any) -> Any:
    """`job_id` of the object, or of the `data` or the `job` in it; the form is not documented for certain."""
    if not isinstance(payload, dict):
        return None
    inner = [payload[name] for name in ("data", "job") if isinstance(payload.get(name), dict)]
    return next((it["job_id"] for it in (payload, *inner) if it.get("job_id") is not None), None)


def _name(text: Any) -> str | None:
    """A job's id or alias as ledgers take it; None for anything else."""
    if not isinstance(text, str) or len(text) > MAX_ID or has_control_characters(text):
        return None
    return text if text.strip() else None
