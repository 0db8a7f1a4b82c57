"""Documents in, tables out: what a load needs to know of sources, rows and destinations, without Prefect."""

from prefect_docjobs.loading.destinations import open_store
from prefect_docjobs.loading.errors import DestinationUnavailable
from prefect_docjobs.loading.rows import Chunk, JobIdentity, source_sha256
from prefect_docjobs.loading.sources import Fetched, SourceFile, SourceFolder, refuse_password
from prefect_docjobs.loading.store import Loaded, Seen, Store

__all__ = [
    "Chunk",
    "DestinationUnavailable",
    "Fetched",
    "JobIdentity",
    "Loaded",
    "Seen",
    "SourceFile",
    "SourceFolder",
    "Store",
    "open_store",
    "refuse_password",
    "source_sha256",
]
