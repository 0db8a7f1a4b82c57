"""The flow that loads what comes out of documents into tables."""

from prefect_docjobs.flows.loading.flow import load_documents

__all__ = ["load_documents"]
