"""The asynchronous half of the Mindee V1 API, simulated: enqueue, queue, documents and webhooks.

Sources: Mindee's "Asynchronous Prediction" page, the mindee 5.4.0 SDK, Mindee's published test data.
"""

from __future__ import annotations

from prefect_docjobs.simulator.mindee_v1.endpoints import service

__all__ = ["service"]
