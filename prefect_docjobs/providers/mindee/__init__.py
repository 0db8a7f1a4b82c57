"""Mindee V2: extraction, OCR, crop, split and classification (api-v2.mindee.net)."""

from prefect_docjobs.providers.mindee.provider import Mindee
from prefect_docjobs.providers.mindee.webhooks import WebhookDelivery, read_webhooks

__all__ = ["Mindee", "WebhookDelivery", "read_webhooks"]
