"""Unsiloed: extract, parse, classify and split documents.

Where a fact comes from is said beside it, by these names:

- "Unsiloed docs": github.com/Unsiloed-AI/docs_v2 of 2026-03-13, with the page's file name; "of 2025-06"
  is its first version, which describes the generic job routes.
- "unsiloed-sdk 0.1.7": the service's own Python SDK.
- "newer OpenAPI": Unsiloed's description of 2026-09, as printed in unsiloed-apimatic-sdk 0.0.2.
"""

from __future__ import annotations

from prefect_docjobs.providers.unsiloed.provider import Product, Routes, Unsiloed

__all__ = ["Product", "Routes", "Unsiloed"]
