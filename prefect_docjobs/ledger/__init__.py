"""What was intended, submitted, done and fetched: one table, so that a document is paid for once.

`Ledger` is imported on first use, for SQLAlchemy takes 0.2 s to import; all else here is light.
"""

from typing import TYPE_CHECKING, Any

from prefect_docjobs.ledger.errors import AccountPaused, ClaimLost, JobKnown, LedgerUnavailable
from prefect_docjobs.ledger.keys import entry_for
from prefect_docjobs.ledger.records import Entry, Record, State, Step, Totals, next_step

__all__ = [
    "Account",
    "AccountPaused",
    "Bodies",
    "ClaimLost",
    "Entry",
    "FileBodies",
    "Inbox",
    "JobKnown",
    "Ledger",
    "LedgerUnavailable",
    "Pause",
    "Pauses",
    "PushReceipt",
    "ReceivedPush",
    "Record",
    "State",
    "Step",
    "Suspension",
    "SuspensionState",
    "Suspensions",
    "Totals",
    "entry_for",
    "next_step",
]

if TYPE_CHECKING:
    from prefect_docjobs.ledger.bodies import Bodies, FileBodies
    from prefect_docjobs.ledger.inbox import Account, Inbox, PushReceipt, ReceivedPush
    from prefect_docjobs.ledger.ledger import Ledger
    from prefect_docjobs.ledger.pauses import Pause, Pauses
    from prefect_docjobs.ledger.suspensions import Suspension, Suspensions, SuspensionState
else:
    _HOMES = {
        "Account": "inbox",
        "ReceivedPush": "inbox",
        "Bodies": "bodies",
        "FileBodies": "bodies",
        "Inbox": "inbox",
        "PushReceipt": "inbox",
        "Ledger": "ledger",
        "Pause": "pauses",
        "Pauses": "pauses",
        "Suspension": "suspensions",
        "SuspensionState": "suspensions",
        "Suspensions": "suspensions",
    }

    def __getattr__(name: str) -> Any:
        """Import what needs the database on first use."""
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(import_module(f"{__name__}.{_HOMES[name]}"), name))
