"""Documents after people have looked at them: one outcome each, and where every value comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prefect_docjobs.comparison import Consensus, with_value
from prefect_docjobs.flows.reviewing.decisions import Decision
from prefect_docjobs.models import Field, Outcome, Result


@dataclass(frozen=True)
class ReviewedDocument:
    """One document that a service has delivered.

    Attributes:
        outcomes: Of each service, by its label; one of them at least has a result.
        consensus: What the services agree on.
        decisions: What people decided, by field.
        is_renamed: Whether the fields have other names than the service's.
    """

    outcomes: Mapping[str, Outcome]
    consensus: Consensus
    decisions: Mapping[str, Decision]
    is_renamed: bool = False

    def outcome(self) -> Outcome:
        """The outcome with what was agreed on and decided.

        A single service's result stays as it is but for what people decided. Else the result has the values
        that won, and the job of the first service that delivered, but neither its text nor its raw answer. A
        decided field has the confidence 1 and the label `human`; what the document does not have is null.
        """
        first = next(outcome for outcome in self.outcomes.values() if outcome.result is not None)
        result = first.result
        if result is None:
            raise LookupError("No service has delivered this document.")
        decided = {name: self._decided(decision) for name, decision in self.decisions.items()}
        if len(self.outcomes) == 1 and not self.is_renamed:
            fields = dict(result.fields)
            for name, leaf in decided.items():
                fields = with_value(fields, name, leaf)
            changed = result.model_copy(update={"fields": fields})
        else:
            fields = self.consensus.tree(decided)
            changed = Result(ref=result.ref, fields=fields, usage=result.usage, warnings=result.warnings)
        return first.model_copy(update={"result": changed})

    def row(self) -> dict[str, Any]:
        """The flat row of the outcome, with who looked at it, when, and which fields they corrected."""
        last = max(self.decisions.values(), key=lambda decision: decision.at, default=None)
        corrected = [name for name, decision in self.decisions.items() if decision.is_correction]
        return {
            **self.outcome().row(),
            "review.source": last.source if last else "services",
            "review.reviewer": last.reviewer if last else None,
            "review.at": last.at if last else None,
            "review.corrected": corrected,
        }

    def provenance(self) -> Iterator[dict[str, Any]]:
        """For each field its value and where that comes from: services, or a person instead of them."""
        document = next(iter(self.outcomes.values()))
        head = {
            "document": document.document,
            "sha256": next((each.ref.document_sha256 for each in self.outcomes.values() if each.ref), None),
        }
        for name, agreed in self.consensus.fields.items():
            if name not in self.decisions:
                said = {"services": agreed.services, "confidence": agreed.confidence}
                yield {**head, "field": name, "value": agreed.value, "source": "services", **said}
        for conflict in self.consensus.conflicts:
            if conflict.field not in self.decisions:
                yield {**head, "field": conflict.field, "value": None, "source": "conflict"}
        for name, decision in self.decisions.items():
            told = {"before": decision.before, "reviewer": decision.reviewer, "at": decision.at}
            yield {**head, "field": name, "value": decision.value, "source": decision.source, **told}

    def _decided(self, decision: Decision) -> Field:
        """The value; where it was found, if a service had found the same."""
        agreed = self.consensus.fields.get(decision.field)
        candidates = [agreed.candidate, *agreed.others] if agreed else []
        for conflict in self.consensus.conflicts:
            candidates += conflict.candidates if conflict.field == decision.field else ()
        same = (each.as_field() for each in candidates if each.value == decision.value)
        known = next(same, Field(value=decision.value))
        return known.model_copy(update={"confidence": 1.0, "confidence_label": "human"})
