"""Why a document has no result: the exceptions of this package, and what each reason allows.

The exceptions are sorted by what the caller would do about them.

```
DocJobsError
├── ConfigurationError        fix the block or the call; nothing was sent            (also a ValueError)
│   ├── Unsupported           the service offers no such thing; use one that does
│   └── RefMismatch           the ref belongs to another service, host, account or product
├── InvalidDocument           fix or drop the document; nothing was sent             (also a ValueError)
├── ServiceError              the service, or the way to it, said no to one request
│   ├── Unauthorized          fix the API key or its rights
│   ├── Rejected              fix the request; the same request will be refused again
│   │   └── QuotaExceeded     the account has nothing left to spend
│   ├── NotFound              the service does not know what was asked for
│   ├── Throttled             too many requests; slow down
│   ├── Unavailable           no connection, or the service is out of order; ask again later
│   │   └── Unfinished        a result was asked for while the job still runs; wait for it
│   └── Unreadable            an answer that is not what the service documents; report it
│       └── ForeignOrigin     an address outside the service's own origin; never followed
├── SubmitUncertain           a submit's answer was lost: the document may have been accepted and billed
├── JobError                  the job ended without a result, or we stopped waiting; `.ref` names it
│   ├── JobFailed             the service could not process the document
│   ├── JobCancelled          somebody cancelled the job
│   ├── JobExpired            the service's own time limit ran out
│   ├── JobLost               the service no longer knows the job
│   ├── JobTimeout            we stopped waiting; the job may still be running        (also a TimeoutError)
│   └── ResultLost            the job succeeded, but its result is gone
├── InvalidPush               a webhook call that is not, or not provably, from the service
├── LedgerUnavailable         the ledger cannot be read or written; nothing is bought without it
├── AccountPaused             somebody paused the account; nothing was sent, run again once it is resumed
├── ClaimLost                 another worker went on with a record of the ledger
├── OverBudget                the submit would cost more than is left; nothing was sent
└── DestinationUnavailable    a database or folder cannot be written to; what was paid is in the ledger
```

The last five are in `prefect_docjobs.ledger`, `prefect_docjobs.extraction` and `prefect_docjobs.loading`.

No exception ever carries a secret, and all of them survive pickling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from prefect_docjobs.models.jobs import JobRef, JobStatus


class Reason(str, Enum):
    """Why a document has no result. The list is closed, so that reports and automations can rely on it."""

    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    UNREADABLE = "unreadable"
    FAILED = "failed"
    EXPIRED = "expired"
    LOST_JOB = "lost_job"
    LOST_RESULT = "lost_result"
    UNCERTAIN = "uncertain"
    REJECTED = "rejected"
    INVALID_DOCUMENT = "invalid_document"
    UNAUTHORIZED = "unauthorized"
    QUOTA = "quota"
    CANCELLED = "cancelled"
    BUDGET = "budget"

    def __str__(self) -> str:
        return self.value


class Retry(str, Enum):
    """How a document without a result may be retried.

    `submit`: the service did not accept it, so it is submitted. `wait`: the service did, so its job is waited
    for. `resubmit`: the service did, or may have, so it is submitted only if the caller says so. `no`: it is
    not retried.
    """

    SUBMIT = "submit"
    WAIT = "wait"
    RESUBMIT = "resubmit"
    NO = "no"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What a reason means for the next run, for the bill and for the shell.

    Attributes:
        retry: How the document may be retried.
        billed: Whether a document that ended for this reason costs money.
        advice: A sentence for people, or None for that of `retry`. `RetryWords` names its placeholders.
        exit_code: Of a command that ends with an exception of this reason.
    """

    retry: Retry
    billed: Literal["yes", "no", "maybe"]
    advice: str | None = None
    exit_code: int = 1


RETRY_POLICY: Mapping[Reason, RetryPolicy] = MappingProxyType(
    {
        Reason.THROTTLED: RetryPolicy(Retry.SUBMIT, "no"),
        Reason.UNAVAILABLE: RetryPolicy(Retry.SUBMIT, "no"),
        Reason.TIMEOUT: RetryPolicy(Retry.WAIT, "yes"),
        Reason.UNREADABLE: RetryPolicy(
            Retry.WAIT, "yes", "{retry}: the result is fetched again, and nothing is bought."
        ),
        Reason.FAILED: RetryPolicy(Retry.RESUBMIT, "maybe"),
        Reason.EXPIRED: RetryPolicy(Retry.RESUBMIT, "maybe"),
        Reason.LOST_JOB: RetryPolicy(Retry.RESUBMIT, "maybe"),
        Reason.LOST_RESULT: RetryPolicy(Retry.RESUBMIT, "yes"),
        Reason.UNCERTAIN: RetryPolicy(
            Retry.RESUBMIT,
            "maybe",
            "Search for it in the service's account; if it is not there, {retry} with "
            "on_uncertain='resubmit'.",
        ),
        Reason.REJECTED: RetryPolicy(Retry.NO, "no", "Fix the request or the plan, then {start_over}."),
        Reason.INVALID_DOCUMENT: RetryPolicy(
            Retry.NO, "no", "Fix the document, then {run_again}.", exit_code=2
        ),
        Reason.UNAUTHORIZED: RetryPolicy(
            Retry.SUBMIT, "no", "Correct the credentials block, then {run_again}: {cost}."
        ),
        Reason.QUOTA: RetryPolicy(
            Retry.SUBMIT, "no", "Raise the quota of the account, then {run_again}: {cost}."
        ),
        Reason.CANCELLED: RetryPolicy(Retry.NO, "maybe", "If it is still wanted, {start_over}."),
        Reason.BUDGET: RetryPolicy(
            Retry.SUBMIT, "no", "Raise the budget if it is too low, then {run_again}."
        ),
    }
)
"""What each reason allows."""

_WAITED_FOR = "its job is waited for again, and nothing is bought"
_ADVICE: Mapping[Retry, str] = MappingProxyType(
    {
        Retry.SUBMIT: "{retry}: the service did not accept it, so it is submitted again.",
        Retry.WAIT: "{retry}: {cost}.",
        Retry.RESUBMIT: "{retry} with resubmit=True, at the price of a second bill.",
    }
)


@dataclass(frozen=True, slots=True)
class RetryWords:
    """How the reader of an advice retries.

    Attributes:
        retry: Retries this document.
        run_again: Runs what failed once more.
        start_over: Submits a document that is not retried otherwise.
    """

    retry: str = "retry it"
    run_again: str = "run the flow again"
    start_over: str = "run the flow again"


def how_to_retry(reason: Reason | None, *, has_job: bool) -> Retry:
    """How a document may be retried; `no` for one that succeeded.

    Args:
        reason: Why it has no result.
        has_job: Its job is known. It is waited for before anything is submitted. A timeout without a job is a
            document that was never submitted.
    """
    if reason is None:
        return Retry.NO
    retry = RETRY_POLICY[reason].retry
    if retry in (Retry.SUBMIT, Retry.WAIT):
        return Retry.WAIT if has_job else Retry.SUBMIT
    return retry


def allowed_retry(
    reason: Reason | None, *, has_job: bool, resubmit: bool, on_uncertain: Literal["fail", "resubmit"]
) -> Retry:
    """The same, with `resubmit` only where the caller's options allow it, else `no`.

    Args:
        reason: Why the document has no result.
        has_job: Its job is known.
        resubmit: Whether what is paid for and has no result may be bought again.
        on_uncertain: Whether what may have been accepted is submitted again.
    """
    retry = how_to_retry(reason, has_job=has_job)
    if retry is not Retry.RESUBMIT:
        return retry
    is_allowed = on_uncertain == "resubmit" if reason is Reason.UNCERTAIN else resubmit
    return Retry.RESUBMIT if is_allowed else Retry.NO


def retry_advice(reason: Reason, *, has_job: bool, words: RetryWords = RetryWords()) -> str:
    """What to do about a failure, as a sentence for people."""
    advice = RETRY_POLICY[reason].advice or _ADVICE[how_to_retry(reason, has_job=has_job)]
    sentence = advice.format(
        retry=words.retry,
        run_again=words.run_again,
        start_over=words.start_over,
        cost=_WAITED_FOR if has_job else "nothing was sent",
    )
    return sentence[0].upper() + sentence[1:]


class DocJobsError(Exception):
    """The root of the tree: `except DocJobsError` catches everything that this package raises.

    Attributes:
        reason: Why the document got no result, in the words of a report.
        document: The name of the document, where one is concerned.
    """

    reason: Reason = Reason.REJECTED
    document: str | None = None

    @property
    def exit_code(self) -> int:
        """Of a command that ends with this error."""
        return RETRY_POLICY[self.reason].exit_code

    def about(self, document: str) -> DocJobsError:
        """Name the document that this error is about (once), and return the error."""
        self.document = self.document or document
        return self

    def __str__(self) -> str:
        text = super().__str__()
        return f"{self.document}: {text}" if self.document and self.document not in text else text


class ConfigurationError(DocJobsError, ValueError):
    """The block or the call cannot work as given. Nothing was sent."""

    @property
    def exit_code(self) -> int:
        """That of a wrong call."""
        return 2


class Unsupported(ConfigurationError):
    """The service offers no such thing, for example a submit by URL or a cancel."""


class RefMismatch(ConfigurationError):
    """A `JobRef` of another service, host, account or product than the block it was given to."""


class InvalidDocument(DocJobsError, ValueError):
    """The document is missing, empty, unreadable or of a kind that the service refuses. Nothing was sent."""

    reason = Reason.INVALID_DOCUMENT


class ServiceError(DocJobsError):
    """One request did not get the answer that was asked for.

    Attributes:
        provider: The registry name of the service, for example `mindee`.
        status: The HTTP status, or None when there was no answer.
        code: The service's own error code, where it gave one.
        details: What the service said beside its message: a list of field errors, quota figures.
        request_id: The service's id of this request, to quote to its support.
        retry_after: Seconds that the service asked us to wait, or None.
        attempts: How often the request was sent.
        from_service: The answer has the shape of errors that the service documents, so it is not a gateway's.
            A submit that gets HTTP 503 is surely refused only then, or with a Retry-After.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        status: int | None = None,
        code: str | None = None,
        details: Any = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        from_service: bool = False,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.code = code
        self.details = details
        self.request_id = request_id
        self.retry_after = retry_after
        self.from_service = from_service
        self.attempts = 1

    def __str__(self) -> str:
        facts = (
            self.provider,
            f"HTTP {self.status}" if self.status else None,
            f"code {self.code}" if self.code else None,
            f"request {self.request_id}" if self.request_id else None,
        )
        known = ", ".join(fact for fact in facts if fact)
        return f"{super().__str__()} [{known}]" if known else super().__str__()


class Unauthorized(ServiceError):
    """The API key is missing, wrong, or lacks the right (HTTP 401, 403)."""

    reason = Reason.UNAUTHORIZED


class Rejected(ServiceError):
    """The service understood the request and refuses it; sending it again will not help."""

    reason = Reason.REJECTED


class QuotaExceeded(Rejected):
    """The account's plan, credits or pages are used up."""

    reason = Reason.QUOTA


class NotFound(ServiceError):
    """The service does not know what was asked for (HTTP 404)."""

    reason = Reason.REJECTED


class Throttled(ServiceError):
    """Too many requests (HTTP 429); `retry_after` says how long to wait where the service says so."""

    reason = Reason.THROTTLED


class Unavailable(ServiceError):
    """No connection, or the service is out of order (HTTP 408, 5xx)."""

    reason = Reason.UNAVAILABLE


class Unfinished(Unavailable):
    """A result was asked for, and the service says that the job still runs: wait for it."""


class Unreadable(ServiceError):
    """An answer that is not what the service documents: HTML, missing keys, too large, a stray redirect."""

    reason = Reason.UNREADABLE


class ForeignOrigin(Unreadable):
    """The service pointed to an address outside its own origin; credentials are not taken there."""

    reason = Reason.REJECTED


class SubmitUncertain(ServiceError):
    """A submit was sent and its answer lost or unreadable: the document may have been accepted and billed.

    It is never sent again silently. `on_uncertain="resubmit"` accepts the risk of a second bill.
    """

    reason = Reason.UNCERTAIN


class JobError(DocJobsError):
    """A job that did not end in a result.

    Attributes:
        ref: The job; it can be stored and waited for again.
        job_status: The last status that was seen, or None.
    """

    def __init__(
        self, message: str, *, ref: JobRef | None = None, job_status: JobStatus | None = None
    ) -> None:
        super().__init__(message)
        self.ref = ref
        self.job_status = job_status
        self.document = ref.document_name if ref else None


class JobFailed(JobError):
    """The service tried and could not process the document."""

    reason = Reason.FAILED


class JobCancelled(JobError):
    """The job was cancelled."""

    reason = Reason.CANCELLED


class JobExpired(JobError):
    """The service's own time limit for the job ran out."""

    reason = Reason.EXPIRED


class JobLost(JobError):
    """The service no longer knows a job that it accepted."""

    reason = Reason.LOST_JOB


class JobTimeout(JobError, TimeoutError):
    """We stopped waiting. The job may still be running: wait for `ref` again, do not submit again."""

    reason = Reason.TIMEOUT


class ResultLost(JobError):
    """The job succeeded, but the service no longer has its result."""

    reason = Reason.LOST_RESULT


JOB_ERRORS: Mapping[Reason, type[JobError]] = MappingProxyType(
    {error.reason: error for error in (JobFailed, JobCancelled, JobExpired, JobLost, ResultLost)}
)
"""The error that a job ended with, by the reason that was recorded."""


class InvalidPush(DocJobsError):
    """A webhook call whose signature is missing or wrong, or whose payload is not the service's."""

    reason = Reason.REJECTED
