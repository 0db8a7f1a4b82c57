"""Refusals of the account: a wrong key or an empty quota is found out with a few uploads, not with all."""

from __future__ import annotations

from collections.abc import Awaitable
from copy import copy

from prefect_docjobs.errors import InvalidDocument, QuotaExceeded, ServiceError, SubmitUncertain, Unauthorized
from prefect_docjobs.models import Document, JobRef

IN_A_ROW = 3
"""Submits that the account may be refused, one after the other, before nothing more is sent in a call."""


class Refusals:
    """Counts what one call is refused for its account's sake."""

    def __init__(self) -> None:
        self._last: Unauthorized | QuotaExceeded | None = None
        self._in_a_row = 0

    def check(self, document: Document) -> None:
        """Raise the refusal instead of sending a document that would meet it, too."""
        if self._last is None or self._in_a_row < IN_A_ROW:
            return
        refusal = type(self._last)(
            f"{document.name} was not sent: {self._in_a_row} submits in a row were refused. {self._said}",
            provider=self._last.provider,
            status=self._last.status,
            code=self._last.code,
        )
        raise refusal.about(document.name)

    async def counted(self, submit: Awaitable[JobRef]) -> JobRef:
        """What `submit` returns or raises, counted."""
        try:
            ref = await submit
        except (Unauthorized, QuotaExceeded) as refusal:
            same = type(refusal) is type(self._last)
            self._last, self._in_a_row = copy(refusal), self._in_a_row + 1 if same else 1
            raise
        except (InvalidDocument, SubmitUncertain):
            raise  # says nothing of the account
        except ServiceError as error:
            if error.status is not None:
                self._in_a_row = 0  # the account was let in
            raise
        self._in_a_row = 0
        return ref

    @property
    def _said(self) -> str:
        return Exception.__str__(self._last) if self._last is not None else ""
