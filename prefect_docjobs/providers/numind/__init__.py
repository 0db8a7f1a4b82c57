"""NuMind's NuExtract: structured extraction with a template or a project, and documents as markdown.

Wire sources, named where they are used:

* numind JobsApi.md, version 0.2.0 (2025-12-19): the jobs API, its stream of events and its errors.
* numind 0.2.0 SDK: the first version with the routes that are used here; it also reads `GET /api/jobs/{id}`.
* numind 0.4.2 SDK (2026): the newest; projectless submits, cancel, truncation flags, HTTP 206.
"""

from __future__ import annotations

from prefect_docjobs.providers.numind.provider import NuMind

__all__ = ["NuMind"]
