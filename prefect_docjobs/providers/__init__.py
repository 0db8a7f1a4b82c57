"""Extraction services: the requests that each takes, and the reading of its answers. No I/O, no clock."""

from __future__ import annotations

from prefect_docjobs.providers.base import Capabilities, Provider
from prefect_docjobs.providers.registry import provider_class, provider_classes, provider_names

__all__ = ["Capabilities", "Provider", "provider_class", "provider_classes", "provider_names"]
