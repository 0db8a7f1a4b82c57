"""The blocks of Prefect: for each service its credentials and its jobs.

The entry point `prefect.collections` names this module, so a Prefect server that starts with the package
installed knows all block types.
"""

from prefect_docjobs.blocks.credentials import DocJobsCredentials
from prefect_docjobs.blocks.jobs import DocJob, DocJobRun
from prefect_docjobs.blocks.mindee import MindeeCredentials, MindeeJob
from prefect_docjobs.blocks.mindee_v1 import MindeeV1Credentials, MindeeV1Job
from prefect_docjobs.blocks.numind import NuMindCredentials, NuMindJob
from prefect_docjobs.blocks.unsiloed import UnsiloedCredentials, UnsiloedJob

__all__ = [
    "DocJob",
    "DocJobRun",
    "DocJobsCredentials",
    "MindeeCredentials",
    "MindeeJob",
    "MindeeV1Credentials",
    "MindeeV1Job",
    "NuMindCredentials",
    "NuMindJob",
    "UnsiloedCredentials",
    "UnsiloedJob",
]
