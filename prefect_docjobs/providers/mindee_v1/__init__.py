"""Mindee V1: the off-the-shelf and docTI products of api.mindee.net, in their asynchronous form."""

from prefect_docjobs.providers.mindee_v1.provider import MindeeV1

__all__ = ["MindeeV1"]
