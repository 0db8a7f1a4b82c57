"""New rows: intents, and jobs whose record somebody else has."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar

from typing_extensions import override

from prefect_docjobs.ledger.changes import ref_values
from prefect_docjobs.ledger.records import Entry, Record, State
from prefect_docjobs.ledger.rows import record_of
from prefect_docjobs.ledger.writes import Addition, After, Holder, OfRecord, Values, new_claim
from prefect_docjobs.models import JobRef


@dataclass(frozen=True)
class _Intent(Addition):
    """A row for what is going to be submitted."""

    withdrawable: ClassVar[bool] = True
    entry: Entry
    claim: str = field(default_factory=new_claim, kw_only=True)

    @property
    @override
    def key(self) -> str:
        return self.entry.key

    @override
    def row(self, holder: Holder) -> Values:
        return _new_row(self.entry, self.claim, holder)


@dataclass(frozen=True, slots=True)
class Claim(_Intent):
    """An intent."""

    adds_key: ClassVar[bool] = True

    @override
    def judge(self, after: After) -> Record | None:
        row = after.by_key.get(self.entry.key)
        return record_of(row, mine=row.claim == self.claim) if row is not None else None


@dataclass(frozen=True, slots=True)
class Renew(OfRecord, _Intent):
    """A new intent in the place of a record that nobody holds; the old one becomes history."""

    @override
    def row(self, holder: Holder) -> Values:
        return {**_new_row(self.entry, self.claim, holder), "attempt": self.record.attempt + 1}

    @override
    def retirement(self) -> Values:
        history = f"{self.record.key}#{self.record.id}"
        return {**self.as_read(), "row_key": self.record.key, "key": history}

    @override
    def judge(self, after: After) -> Record | None:
        row = after.by_key.get(self.entry.key)
        return record_of(row, mine=True) if row is not None and row.claim == self.claim else None


@dataclass(frozen=True, slots=True)
class Keep(OfRecord, Addition):
    """A job whose record was taken over before its id could be written: a history row of its own."""

    adds_key: ClassVar[bool] = True
    ref: JobRef

    @property
    @override
    def key(self) -> str:
        return f"{self.record.key.partition('#')[0]}#{self.record.id}.{self.record.claim}"

    @override
    def row(self, holder: Holder) -> Values:
        return {
            **_new_row(self.record, self.record.claim, holder),
            **ref_values(self.ref),
            "key": self.key,
            "state": State.SUBMITTED.value,
            "attempt": self.record.attempt,
            "submitted_at": self.ref.submitted_at.timestamp(),
        }

    @override
    def judge(self, after: After) -> Record | None:
        row = after.by_key.get(self.key)
        return record_of(row, mine=True) if row is not None else None


_ENTRY = tuple(field.name for field in fields(Entry))


def _new_row(entry: Entry, claim: str, holder: Holder) -> Values:
    facts = {name: getattr(entry, name) for name in _ENTRY}
    return {
        **facts,
        "state": State.INTENDED.value,
        "attempt": 1,
        "claim": claim,
        "version": 0,
        "owner": holder.owner,
    }
