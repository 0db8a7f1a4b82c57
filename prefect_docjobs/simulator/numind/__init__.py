"""The NuMind (NuExtract) API, simulated: projects, templates, content extraction, jobs, streams.

Sources: JobsApi.md of the numind SDK, and the SDK itself in its releases 0.2.0 and 0.4.2.
"""

from __future__ import annotations

from prefect_docjobs.simulator.numind.endpoints import service

__all__ = ["service"]
