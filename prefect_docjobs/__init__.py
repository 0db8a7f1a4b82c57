"""Send documents to extraction services from Prefect flows: pay once, wait cheaply, one kind of result.

The public names are imported on first use: the nouns without Prefect, the blocks and tasks with it.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Document",
    "Field",
    "JobRef",
    "JobState",
    "JobStatus",
    "MindeeCredentials",
    "MindeeJob",
    "MindeeV1Credentials",
    "MindeeV1Job",
    "NuMindCredentials",
    "NuMindJob",
    "Outcome",
    "Result",
    "UnsiloedCredentials",
    "UnsiloedJob",
    "aextract_documents",
    "aextract_with_fallback",
    "afetch_result",
    "afetch_results",
    "aplan_documents",
    "aretry_failures",
    "as_jobs_complete",
    "asubmit_document",
    "asubmit_documents",
    "await_for_job",
    "await_for_jobs",
    "cancel_bought_jobs",
    "cancel_remote_jobs",
    "extract_documents",
    "extract_with_fallback",
    "fetch_result",
    "fetch_results",
    "plan_documents",
    "retry_failures",
    "sense_jobs",
    "submit_document",
    "submit_documents",
    "wait_for_job",
    "wait_for_jobs",
]

if TYPE_CHECKING:
    from prefect_docjobs.blocks import (
        MindeeCredentials,
        MindeeJob,
        MindeeV1Credentials,
        MindeeV1Job,
        NuMindCredentials,
        NuMindJob,
        UnsiloedCredentials,
        UnsiloedJob,
    )
    from prefect_docjobs.models import Batch, Document, Field, JobRef, JobState, JobStatus, Outcome, Result
    from prefect_docjobs.tasks import (
        aextract_documents,
        aextract_with_fallback,
        afetch_result,
        afetch_results,
        aplan_documents,
        aretry_failures,
        as_jobs_complete,
        asubmit_document,
        asubmit_documents,
        await_for_job,
        await_for_jobs,
        cancel_bought_jobs,
        cancel_remote_jobs,
        extract_documents,
        extract_with_fallback,
        fetch_result,
        fetch_results,
        plan_documents,
        retry_failures,
        sense_jobs,
        submit_document,
        submit_documents,
        wait_for_job,
        wait_for_jobs,
    )
else:
    # Hidden from type checkers: for them a module with __getattr__ has every name.

    def __getattr__(name: str) -> Any:
        """Import a public name where it lives; modules without Prefect come first."""
        from importlib import import_module

        for home in ("models", "blocks", "tasks") if name in __all__ else ():
            module = import_module(f"{__name__}.{home}")
            if name in getattr(module, "__all__", vars(module)):
                return globals().setdefault(name, getattr(module, name))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """All public names, imported or not; `prefect block register -m` looks for blocks here."""
    return sorted({*globals(), *__all__})
