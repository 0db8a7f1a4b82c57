"""The four tables, as far as they are the same for all documents."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prefect_docjobs.loading.kinds import Kind

DOCUMENTS, FIELDS, LINE_ITEMS, FILES = "documents", "fields", "line_items", "files"

TABLES: Mapping[str, Mapping[str, Kind]] = MappingProxyType(
    {
        DOCUMENTS: {
            "sha256": Kind.TEXT,
            "job": Kind.TEXT,
            "document": Kind.TEXT,
            "source": Kind.TEXT,
            "size": Kind.INTEGER,
            "block": Kind.TEXT,
            "provider": Kind.TEXT,
            "product": Kind.TEXT,
            "tenant": Kind.TEXT,
            "job_id": Kind.TEXT,
            "submitted_at": Kind.TIMESTAMP,
            "loaded_at": Kind.TIMESTAMP,
            "phase": Kind.TEXT,
            "reason": Kind.TEXT,
            "error": Kind.TEXT,
            "pages": Kind.INTEGER,
            "credits": Kind.NUMBER,
            "warnings": Kind.TEXT,
            "text": Kind.TEXT,
            "ref": Kind.TEXT,
        },
        FIELDS: {
            "sha256": Kind.TEXT,
            "job": Kind.TEXT,
            "position": Kind.INTEGER,
            "path": Kind.TEXT,
            "kind": Kind.TEXT,
            "value_text": Kind.TEXT,
            "value_number": Kind.NUMBER,
            "value_integer": Kind.INTEGER,
            "value_boolean": Kind.BOOLEAN,
            "value_timestamp": Kind.TIMESTAMP,
            "confidence": Kind.NUMBER,
            "confidence_label": Kind.TEXT,
            "page": Kind.INTEGER,
        },
        LINE_ITEMS: {
            "sha256": Kind.TEXT,
            "job": Kind.TEXT,
            "position": Kind.INTEGER,
            "list": Kind.TEXT,
            "index": Kind.INTEGER,
        },
        FILES: {
            "job": Kind.TEXT,
            "source_sha256": Kind.TEXT,
            "source": Kind.TEXT,
            "version": Kind.TEXT,
            "size": Kind.INTEGER,
            "modified_at": Kind.TIMESTAMP,
            "sha256": Kind.TEXT,
            "error": Kind.TEXT,
            "seen_at": Kind.TIMESTAMP,
        },
    }
)
"""The columns that each table always has. `documents` and `line_items` get more, for what is found."""

KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        DOCUMENTS: ("sha256", "job"),
        FIELDS: ("sha256", "job", "position"),
        LINE_ITEMS: ("sha256", "job", "position"),
        FILES: ("job", "source_sha256"),  # a source itself may be longer than an index takes
    }
)
"""The primary keys. Keys are of bounded length, whatever a document holds."""

OF_A_DOCUMENT = (DOCUMENTS, FIELDS, LINE_ITEMS)
"""The tables whose rows are replaced together, by `sha256` and `job`."""
