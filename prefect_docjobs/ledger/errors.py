"""What the ledger refuses, and what goes wrong with it; all are `DocJobsError` and survive pickling."""

from __future__ import annotations

from prefect_docjobs.errors import DocJobsError, Reason


class LedgerUnavailable(DocJobsError):
    """The database cannot be read or written now; what was to be written is not known to be durable.

    Nothing may be submitted without a durable intent, so a claim that ends like this buys nothing. The same
    call can be made again: a write that did get through is recognised.
    """

    reason = Reason.UNAVAILABLE


class AccountPaused(DocJobsError):
    """Somebody paused the account: nothing was sent. Run again once it is resumed."""

    reason = Reason.UNAVAILABLE


class ClaimLost(DocJobsError):
    """Somebody else took the record over, or it was written since it was read. Read it again."""

    reason = Reason.UNAVAILABLE


class JobKnown(DocJobsError):
    """The ledger has the job under another document: the service answered with the id of that one's job."""

    reason = Reason.UNCERTAIN
