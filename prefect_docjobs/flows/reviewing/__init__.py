"""People look at what services are not sure of, in the form of a run that waits for them."""

from prefect_docjobs.flows.reviewing.decisions import Decision, read_decisions
from prefect_docjobs.flows.reviewing.flow import review_documents
from prefect_docjobs.flows.reviewing.waiting import WaitMode

__all__ = ["Decision", "WaitMode", "read_decisions", "review_documents"]
