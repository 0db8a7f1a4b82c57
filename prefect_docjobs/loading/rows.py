"""Outcomes as rows: one for the document, one for each value, one for each line item."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from prefect_docjobs.loading.columns import (
    DOCUMENTS,
    FIELDS,
    FILES,
    LINE_ITEMS,
    Found,
    Kind,
    Path,
    Row,
    Typed,
    as_text,
    in_utc,
    storable,
    typed,
)
from prefect_docjobs.loading.sources import SourceFile
from prefect_docjobs.models import Field, Outcome
from prefect_docjobs.models.escapes import escaped

_BIGINT = range(-(2**63), 2**63)


@dataclass(frozen=True)
class JobIdentity:
    """Which job reads the documents; rows of two jobs never meet.

    Attributes:
        key: `provider/product/` and a hash of the account and all settings; the column `job`.
        block: What people call the job.
        provider: Registry name of the service.
        product: What is extracted.
        tenant: Whose account it is.
    """

    key: str
    block: str
    provider: str
    product: str
    tenant: str


@dataclass
class Chunk:
    """What is written in one transaction.

    Attributes:
        job: The job that has read the documents.
        tables: Rows to be, by table, but for when they are written.
    """

    job: JobIdentity
    tables: dict[str, list[Found]] = field(
        default_factory=lambda: {name: [] for name in (DOCUMENTS, FIELDS, LINE_ITEMS, FILES)}
    )

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Chunk:
        """The rows of outcomes for an export: of their files only the names are known."""
        chunk = cls(JobIdentity("", "", "", "", ""))
        for outcome in outcomes:
            ref, name = outcome.ref, outcome.document
            if ref:
                key = f"{ref.provider}/{ref.product}"
                chunk.job = JobIdentity(key, "", ref.provider, ref.product, ref.tenant)
            sha256 = (ref and ref.document_sha256) or source_sha256(name)
            chunk.add_document(sha256, SourceFile(name, name, name, None, None, ""), outcome)
        return chunk

    @property
    def hashes(self) -> list[str]:
        """The documents whose rows are replaced."""
        return [str(found.fixed["sha256"]) for found in self.tables[DOCUMENTS]]

    @property
    def sources(self) -> list[str]:
        """The files whose rows are replaced, by the SHA-256 of their addresses."""
        return [str(found.fixed["source_sha256"]) for found in self.tables[FILES]]

    def rows(self, table: str, at: datetime) -> Sequence[Found]:
        """The rows of a table, with the moment of their transaction: extraction may have taken hours."""
        column = {DOCUMENTS: "loaded_at", FILES: "seen_at"}.get(table)
        stamp: Row = {column: in_utc(at)} if column else {}
        return [replace(row, fixed={**row.fixed, **stamp}) for row in self.tables[table]]

    def add_document(self, sha256: str, file: SourceFile, outcome: Outcome) -> None:
        """Add the rows of one document."""
        key: Row = {"sha256": sha256, "job": self.job.key}
        of_file: Row = {
            "document": printable(file.name),
            "source": printable(file.source),
            "size": file.size,
            "block": storable(self.job.block),
            "provider": self.job.provider,
            "product": storable(self.job.product),
            "tenant": storable(self.job.tenant),
        }
        fields = outcome.result.fields if outcome.result else {}
        self.tables[DOCUMENTS].append(Found({**key, **of_file, **_of_outcome(outcome)}, dict(_cells(fields))))
        self.tables[FIELDS].extend(
            Found({**key, "position": position, "path": storable(path), **_of_value(leaf)})
            for position, (path, leaf) in enumerate(_leaves(fields))
        )
        self.tables[LINE_ITEMS].extend(
            Found({**key, "position": position, "list": storable(path), "index": index}, cells)
            for position, (path, index, cells) in enumerate(_line_items(fields))
        )

    def add_file(self, file: SourceFile, sha256: str | None, error: str | None = None) -> None:
        """Add the row of one file: which content it had, or why it could not be read."""
        row: Row = {
            "job": self.job.key,
            "source_sha256": source_sha256(file.source),
            "source": printable(file.source),
            "version": file.version,
            "size": file.size,
            "modified_at": file.modified_at,
            "sha256": sha256,
            "error": as_text(error),
        }
        self.tables[FILES].append(Found(row))


def source_sha256(source: str) -> str:
    """The key of a file's address, also of one that is no text."""
    return hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()


def printable(name: str) -> str:
    """A file name as text, bytes that are none as escapes."""
    return storable(escaped(name))


def _of_outcome(outcome: Outcome) -> Row:
    ref, result = outcome.ref, outcome.result
    return {
        "job_id": as_text(ref.job_id) if ref else None,
        "submitted_at": in_utc(ref.submitted_at) if ref else None,
        "phase": outcome.phase.value,
        "reason": outcome.reason.value if outcome.reason else None,
        "error": as_text(outcome.error),
        "pages": _count(result.usage.pages) if result else None,
        "credits": result.usage.credits if result else None,
        "warnings": as_text(list(result.warnings)) if result and result.warnings else None,
        "text": as_text(result.text) if result else None,
        "ref": storable(ref.model_dump_json()) if ref else None,
    }


def _of_value(leaf: Field) -> Row:
    value, cell = leaf.value, typed(leaf.value)
    row: Row = {
        "kind": "empty" if cell is None or value in ([], {}) else str(cell.kind),
        "value_text": as_text(value),
        "value_integer": _count(value),
        "confidence": leaf.confidence,
        "confidence_label": as_text(leaf.confidence_label),
        "page": _count(leaf.locations[0].page) if leaf.locations else None,
    }
    if cell is not None and cell.kind is not Kind.TEXT:
        row[f"value_{cell.kind}"] = cell.value
    return row


def _count(value: object) -> int | None:
    """A whole number that fits the column, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _BIGINT else None


def _cells(fields: Mapping[str, Field], prefix: Path = ()) -> Iterator[tuple[Path, Typed]]:
    """The values of an object that are columns: all but lists of objects, and what is empty."""
    for name, child in fields.items():
        path = (*prefix, name)
        if child.fields is not None:
            yield from _cells(child.fields, path)
        elif child.items is None:
            if cell := typed(child.value):
                yield path, cell
        elif child.items and not any(item.fields is not None for item in child.items):
            yield path, Typed(Kind.TEXT, as_text(child.value))


def _leaves(fields: Mapping[str, Field], prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Every value with its path, such as `line_items.0.amount`; empty objects and lists themselves."""
    for name, child in fields.items():
        path = f"{prefix}{name}"
        if child.fields:
            yield from _leaves(child.fields, f"{path}.")
        elif child.items:
            yield from _leaves({str(index): item for index, item in enumerate(child.items)}, f"{path}.")
        else:
            yield path, child


def _line_items(
    fields: Mapping[str, Field], prefix: str = ""
) -> Iterator[tuple[str, int, Mapping[Path, Typed]]]:
    """Each element of each list of objects: the list's path, its index, its values."""
    for name, child in fields.items():
        path = f"{prefix}{name}"
        yield from _line_items(child.fields or {}, f"{path}.")
        for index, item in enumerate(child.items or ()):
            if item.fields is not None:
                yield path, index, dict(_cells(item.fields))
                yield from _line_items(item.fields, f"{path}.{index}.")
