"""The Mindee V2 API, simulated: all five products, jobs, results, model search and webhooks.

Sources: the Mindee V2 OpenAPI (jobs and product files), the mindee 5.4.0 SDK, docs.mindee.com.
"""

from __future__ import annotations

from prefect_docjobs.simulator.mindee.endpoints import service

__all__ = ["service"]
