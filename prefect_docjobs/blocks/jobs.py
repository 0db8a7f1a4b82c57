"""Jobs: a block makes runs of one kind of job, each of which waits, fetches and cancels."""

from __future__ import annotations

import uuid
from abc import ABC
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from prefect.blocks.abstract import JobBlock, JobRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.transactions import get_transaction
from pydantic import Field, model_validator
from typing_extensions import Self, Unpack

from prefect_docjobs.blocks.credentials import DocJobsBlock, DocJobsCredentials
from prefect_docjobs.blocks.ledger import open_ledger
from prefect_docjobs.blocks.sync_api import sync_form
from prefect_docjobs.errors import ConfigurationError, JobError
from prefect_docjobs.extraction import Terms, fetch_one, submit_one, wait_one
from prefect_docjobs.extraction.options import Options, SubmitOptions
from prefect_docjobs.http import Http
from prefect_docjobs.models import Document, JobRef, JobStatus, Result
from prefect_docjobs.providers import Provider, provider_class

if TYPE_CHECKING:
    _JobBlock = JobBlock[Result]
else:
    _JobBlock = JobBlock  # `JobBlock[Result]` is a class that Prefect would register as a block type

PAYING_ACCOUNT = (
    "The account that runs and pays for the job. Choose it again when you edit the job: the form of "
    "Prefect 3.8 does not keep it."
)
"""What the form of a job says of its credentials."""

BUYER = "docjobs.buyer"
"""Under this name the transaction of a task run that buys knows which run it is, for a rollback."""


class DocJob(DocJobsBlock, _JobBlock, ABC):
    """One kind of job at one service: the account and the service's settings.

    The fields of a subclass are the settings of its provider, under the same names.
    """

    credentials: DocJobsCredentials = Field(description=PAYING_ACCOUNT)

    @model_validator(mode="after")
    def _accepted_by_the_provider(self) -> Self:
        self.provider()
        return self

    def provider(self) -> Provider:
        """The service with this block's settings.

        Raises:
            ConfigurationError: A setting is missing or wrong; it is named.
        """
        return provider_class(self._provider)(**self.settings())

    def settings(self) -> dict[str, Any]:
        """What the provider is made with."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "credentials"}

    @property
    def saved_name(self) -> str | None:
        """The name by which it can be loaded, such as `mindee-job/invoices`; None when it is not saved."""
        name = self._block_document_name
        return f"{self.get_block_type_slug()}/{name}" if name else None

    def terms(self, options: Options) -> Terms:
        """The terms on which the present run submits."""
        task, flow = TaskRunContext.get(), FlowRunContext.get()
        flow_run = flow.flow_run if flow else None
        run = task.task_run.flow_run_id if task else flow_run.id if flow_run else None
        if task and (transaction := get_transaction()):
            buyer = {"flow_run_id": str(run) if run else None, "task_run_id": str(task.task_run.id)}
            transaction.set(BUYER, buyer)
        return Terms(
            on_uncertain=options.on_uncertain,
            reuse_for=options.reuse_for,
            flow_run_id=str(run) if run else None,
            task_run_id=str(task.task_run.id) if task else None,
            # The same call of a flow run that is run again has the same key.
            scope=f"{run}/{task.task_run.dynamic_key}" if task and run else uuid.uuid4().hex,
            block=self.saved_name,
            budget=options.spending(),
        )

    async def atrigger(
        self,
        document: Document | None = None,
        **options: Unpack[SubmitOptions],
    ) -> DocJobRun:
        """Submit a document, unless the ledger knows a job for the same content: one document, one bill.

        Args:
            document: What to submit; needed, although Prefect's interface has it optional.
            **options: See `Options`.

        Raises:
            ConfigurationError: There is no document, or an option is no such thing.
            OverBudget: Nothing was sent.
            DocJobsError: See `Provider.submit`.
        """
        if not isinstance(document, Document):
            raise ConfigurationError(
                f"trigger needs a Document, not {type(document).__name__}: "
                "job.trigger(Document.from_path('invoice.pdf'))."
            )
        terms = self.terms(Options.of(options, SubmitOptions))
        async with self.credentials.get_client() as http, open_ledger() as ledger:
            ref = await submit_one(self.provider(), http, document, terms=terms, ledger=ledger)
        self.logger.info("%s is submitted, its ref is %s", ref, ref.model_dump_json(exclude_none=True))
        return DocJobRun(self, ref)

    def trigger(  # type: ignore[override]
        self,
        document: Document | None = None,
        **options: Unpack[SubmitOptions],
    ) -> DocJobRun:
        """The sync form of `atrigger`."""
        return sync_form(self.atrigger(document, **options), "atrigger")

    def attach(self, ref: JobRef) -> DocJobRun:
        """Take up a job that was submitted before, here or elsewhere. Nothing is sent.

        Raises:
            RefMismatch: The job belongs to another service, host, account or product.
        """
        self.provider().check_ref(self.credentials.get_client(), ref)
        return DocJobRun(self, ref)


class DocJobRun(JobRun[Result]):
    """A job at a service. Each verb opens a client of its own, so a run may travel between event loops.

    Attributes:
        job: The block that the job belongs to.
        ref: Which job it is, as complete as it has been seen so far.
    """

    def __init__(self, job: DocJob, ref: JobRef) -> None:
        self.job = job
        self.ref = ref

    def __repr__(self) -> str:
        return f"DocJobRun({self.ref})"

    async def await_for_completion(self, timeout: float | None = 3600.0) -> JobStatus:
        """Wait until the job has succeeded.

        Args:
            timeout: Seconds; None for no limit.

        Returns:
            The last status. (Prefect declares a logger here; none of its own runs returns one.)

        Raises:
            JobError: The job ended otherwise, or `timeout` passed; see `Waiter.done`.
        """
        async with self._client() as http, open_ledger() as ledger:
            status = await wait_one(self.job.provider(), http, self.ref, timeout=timeout, ledger=ledger)
        self.ref = status.ref
        return status

    def wait_for_completion(self, timeout: float | None = 3600.0) -> JobStatus:  # type: ignore[override]
        """The sync form of `await_for_completion`."""
        return sync_form(self.await_for_completion(timeout), "await_for_completion")

    async def afetch_result(self) -> Result:
        """Fetch the result of a job that has succeeded.

        Raises:
            ResultLost: The service no longer has it.
            ServiceError: It has none yet, or does not tell.
        """
        async with self._client() as http, open_ledger() as ledger:
            result = await fetch_one(self.job.provider(), http, self.ref, ledger=ledger)
        self.ref = result.ref
        return result

    def fetch_result(self) -> Result:  # type: ignore[override]
        """The sync form of `afetch_result`."""
        return sync_form(self.afetch_result(), "afetch_result")

    async def astatus(self) -> JobStatus:
        """Ask the service for the job's status once."""
        async with self._client() as http:
            status = await self.job.provider().status(http, self.ref)
        self.ref = status.ref
        return status

    def status(self) -> JobStatus:
        """The sync form of `astatus`."""
        return sync_form(self.astatus(), "astatus")

    async def acancel(self) -> None:
        """Stop the job at the service. Raises `Unsupported` where the service cannot."""
        async with self._client() as http:
            await self.job.provider().cancel(http, self.ref)

    def cancel(self) -> None:
        """The sync form of `acancel`."""
        return sync_form(self.acancel(), "acancel")

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Http]:
        try:
            async with self.job.credentials.get_client() as http:
                yield http
        except JobError as error:
            self.ref = error.ref or self.ref
            raise
