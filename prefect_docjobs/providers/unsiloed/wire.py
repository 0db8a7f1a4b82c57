"""Where each product lives, what it is called on the wire, and which options it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.providers.values import parsed


@dataclass(frozen=True, slots=True)
class ProductRoutes:
    """One product's routes and the form fields that carry its document.

    Attributes:
        submit: Where it is submitted.
        poll: Where its jobs are looked at; the job id follows.
        file: Form field of an uploaded file.
        url: Form field of an address that the service downloads.
    """

    submit: str
    poll: str
    file: str
    url: str


# unsiloed-sdk 0.1.7, sync_client.py, and Unsiloed docs of 2026-03. Extract is submitted to /v2/extract and
# polled at /extract; split takes `file` where extract and classify take `pdf_file`.
ROUTES: Mapping[str, ProductRoutes] = MappingProxyType(
    {
        "extract": ProductRoutes("/v2/extract", "/extract", "pdf_file", "file_url"),
        "parse": ProductRoutes("/parse", "/parse", "file", "url"),
        "classify": ProductRoutes("/classify", "/classify", "pdf_file", "file_url"),
        "split": ProductRoutes("/splitter", "/splitter", "file", "file_url"),
    }
)
"""By product."""

_PII = ("detect_pii", "pii_engine", "pii_block_severity")
# Unsiloed docs, extract-data.mdx and parse-document.mdx; schema_name: unsiloed-sdk 0.1.7;
# high_accuracy_mode and the three about PII: newer OpenAPI.
OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "extract": ("schema_data", "model", "enable_citations", "schema_name", "high_accuracy_mode", *_PII),
        "parse": (
            "use_high_resolution",
            "segmentation_method",
            "ocr_mode",
            "ocr_engine",
            "merge_tables",
            "validate_segments",
            "keep_segment_types",
            "page_range",
            "segment_analysis",
            "output_fields",
            "xml_citation",
            "error_handling",
            *_PII,
        ),
        "classify": ("categories",),
        "split": ("categories",),
    }
)
"""The typed options that each product takes."""

REQUIRED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "extract": ("schema_data", "a JSON Schema of type object with the fields to look for"),
        "classify": ("categories", "the names of the categories to choose from"),
        "split": ("categories", "the names of the categories to split by"),
    }
)
"""The option that a product cannot do without, and what to give."""

# Texts that are no JSON, even where they look like it.
_TEXTS = frozenset({"model", "schema_name"})

DOCUMENT_FIELDS = frozenset({"file", "pdf_file", "file_url", "url"})
"""Form fields that carry the document; no option may bear their names."""


def form_text(name: str, value: Any) -> str:
    """A form field's text: a text as it is, everything else as JSON (`true`, `5`, lists, objects).

    Raises:
        ConfigurationError: The value is no JSON.
    """
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ConfigurationError(f"{name} cannot be sent as JSON. Give plain data.") from None


def canonical(product: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a job in one notation: what `options` name is a setting, and JSON text is what it says."""
    options = {name: value for name, value in given["options"].items() if value is not None}
    named = {name: options.pop(name) for name in OPTIONS[product] if name in options}
    settings = {**given, **named, "options": options}
    plain = {name: parsed(settings[name]) for name in OPTIONS[product] if name not in _TEXTS}
    if plain.get("categories"):
        plain["categories"] = [_category(each) for each in categories_of(plain["categories"])]
    return {**settings, **plain}


def _category(given: dict[str, Any]) -> object:
    """A category with nothing but a name as that name."""
    said = {name: value for name, value in given.items() if name == "name" or value is not None}
    return said["name"] if len(said) == 1 else said


def categories_of(given: Any) -> list[dict[str, Any]]:
    """Categories as the service takes them: objects with a `name` and perhaps a `description`.

    Raises:
        ConfigurationError: Not a list, or one without a name.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ConfigurationError("categories must be a list of names, or of objects with a name.")
    named = [{"name": item} if isinstance(item, str) else item for item in given]
    for item in named:
        name = item.get("name") if isinstance(item, Mapping) else None
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(
                "categories: each needs a name, such as 'invoice' or {'name': 'invoice'}."
            )
    return [dict(item) for item in named]
