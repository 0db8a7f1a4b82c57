"""Acme Reader, a made-up service, for prefect-docjobs."""
