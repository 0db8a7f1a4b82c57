"""The receiver of pushes: an ASGI app that checks what services say, keeps it in the ledger, then answers."""

from prefect_docjobs.webhooks.accounts import WebhookAccount
from prefect_docjobs.webhooks.app import create_app
from prefect_docjobs.webhooks.reception import ReceiverLimits

__all__ = ["ReceiverLimits", "WebhookAccount", "create_app"]
