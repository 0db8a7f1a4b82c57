"""Mindee V1: its settings, its requests, and the reading of submits and statuses."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from prefect_docjobs.errors import ConfigurationError, ForeignOrigin, ServiceError, Unreadable
from prefect_docjobs.http import Answer, Part, Request
from prefect_docjobs.http.origin import resolve
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus, Result
from prefect_docjobs.providers.base import TRANSPORT, Capabilities, Polling, Provider, Push, Submitted
from prefect_docjobs.providers.mindee_v1 import errors, results, webhooks
from prefect_docjobs.providers.values import check_choice, mapping, object_of, parsed, segment, text_of

_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)")
_FLAGS = ("full_text_ocr", "cropper", "rag")


@dataclass(frozen=True, kw_only=True)
class MindeeV1(Provider):
    """Mindee V1 with the settings of one kind of job.

    Attributes:
        endpoint: The product's API name, such as `invoices`.
        version: Its version; `4` and `v4` are the same.
        account: Who owns the product: `mindee` for off-the-shelf products, else your organization's name.
        send: How bytes travel: `file` (multipart) or `base64` (JSON). A document from a URL always travels
            as its URL.
        full_text_ocr: Give the whole text too.
        cropper: Give the edges of the document on its pages too.
        rag: Use retrieval-augmented generation.
        include_mvision: Give all words with their boxes too (stays in `raw`); not with `base64`.
        options: Further query parameters, sent as they are.

    Raises:
        ConfigurationError: A setting that cannot make an address of the service; the message names it.
    """

    name = "mindee_v1"
    title = "Mindee V1"
    default_base_url = "https://api.mindee.net"
    env_key = "MINDEE_API_KEY"
    signature_header = webhooks.SIGNATURE_HEADER
    # All words of `job.status` (docs.mindee.com V1, "Asynchronous Prediction", read 2026-11).
    states = MappingProxyType(
        {
            "waiting": JobState.QUEUED,
            "processing": JobState.PROCESSING,
            "completed": JobState.SUCCEEDED,
            "failed": JobState.FAILED,
        }
    )
    # mindee 5.4.0 SDK, v1 Client: 2 s, then 1.5 s, neither below 1 s.
    polling = Polling(first=2.0, every=1.5, at_least=1.0)
    # docs.mindee.com/v1, limitations: 75 requests in a minute, most of them for the status; asynchronous
    # calls take 20 MB and 20 pages.
    rates = MappingProxyType({"submit": 20 / 60, "status": 35 / 60, "result": 20 / 60})
    capabilities = Capabilities(
        push=True,
        url_input=True,
        media_types=frozenset(
            {"application/pdf", "image/heic", "image/jpeg", "image/png", "image/tiff", "image/webp"}
        ),
        max_bytes=20 << 20,
    )

    endpoint: str
    version: str
    account: str = "mindee"
    send: str = field(default="file", metadata=TRANSPORT)
    full_text_ocr: bool | None = None
    cropper: bool | None = None
    rag: bool | None = None
    include_mvision: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("account", "endpoint"):
            value = getattr(self, name)
            if not (
                isinstance(value, str) and value.strip() and "/" not in value and value not in {".", ".."}
            ):
                raise ConfigurationError(f"{name} must be one name of the product's address, not {value!r}.")
        if not _VERSION.fullmatch(str(self.version)):
            raise ConfigurationError(f"version must be a number such as '4' or 'v4', not {self.version!r}.")
        check_choice("send", self.send, ("file", "base64"))
        if self.include_mvision and self.send == "base64":
            raise ConfigurationError("include_mvision is a form field: it needs send='file'.")

    @property
    def product(self) -> str:
        """`account/endpoint/version`, such as `mindee/invoices/v4`."""
        return f"{self.account}/{self.endpoint}/v{str(self.version).removeprefix('v')}"

    @property
    def root(self) -> str:
        """The product's path. Versions go out as `v4`, as the mindee 5.4.0 SDK writes them."""
        return "/v1/products/" + "/".join(segment(name) for name in self.product.split("/"))

    def canonical_settings(self) -> dict[str, Any]:
        """See `Provider.canonical_settings`. The flags are what the query says; a False is left out."""
        options = {**self._query()}
        flags = {name: True for name in _FLAGS if parsed(options.get(name)) is True}
        return {
            **super().canonical_settings(),
            "version": str(self.version).removeprefix("v"),
            **dict.fromkeys(_FLAGS),
            **flags,
            "include_mvision": self.include_mvision or None,
            "options": {name: value for name, value in options.items() if name not in flags},
        }

    @classmethod
    def auth_headers(cls, api_key: str) -> dict[str, str]:
        """`Token`, a blank and the key (docs.mindee.com V1, "Asynchronous Prediction")."""
        return {"Authorization": f"Token {api_key}"}

    # -- submit

    def submit_request(self, document: Document, *, alias: str) -> Request:  # noqa: ARG002 (echoes none)
        """`POST {root}/predict_async`: a file as multipart, base64 or a URL as JSON.

        `include_mvision` is known as a form field only (mindee 5.4.0 SDK, `Endpoint`), so a URL that goes
        with it travels as the form that this SDK sends.
        """
        path, query = f"{self.root}/predict_async", self._query()
        form = {"include_mvision": "true"} if self.include_mvision else {}
        if document.url is not None and form:
            return Request("POST", path, params=query, form={**form, "document": document.url})
        if document.url is not None:
            return Request("POST", path, params=query, json={"document": document.url})
        if self.send == "base64":
            content = base64.b64encode(document.read()).decode("ascii")
            return Request("POST", path, params=query, json={"document": content})
        parts = [Part(name, text) for name, text in form.items()]
        return Request("POST", path, params=query, parts=(*parts, Part("document", document)))

    def _query(self) -> dict[str, Any]:
        """Query flags. Only `true` is documented, so a False is left out, which means the same."""
        return {**{name: "true" for name in _FLAGS if getattr(self, name)}, **self.options}

    def read_submit(self, answer: Answer) -> Submitted:
        """HTTP 202 with `job`. A 2xx with an error in it proves nothing, so it is unreadable."""
        try:
            payload = _payload(answer)
        except ServiceError as refusal:
            raise Unreadable(f"{refusal}", status=answer.status, request_id=answer.request_id) from None
        return Submitted(job_id=text_of(object_of(payload["job"])["id"]))

    # -- status

    def status_request(self, ref: JobRef) -> Request:
        """`GET {root}/documents/queue/{job_id}`; its 302 is read, not followed."""
        return Request("GET", f"{self.root}/documents/queue/{segment(ref.job_id)}", accept=(302,))

    def read_status(self, ref: JobRef, answer: Answer) -> JobStatus:
        """200 with `job` until the job is completed, then 302 to the document.

        A 200 with `document` too is read as completed: a proxy that follows redirects makes one of the two.
        """
        if answer.status == 302:
            _check_redirected(ref, answer)
            done = ref.model_copy(update={"document_id": _document_id(ref, answer)})
            return JobStatus(ref=done, state=JobState.SUCCEEDED, seen_at=answer.received_at)
        payload = _payload(answer)
        job = object_of(payload["job"])
        _check_job(ref, text_of(job["id"]))
        word = text_of(job["status"])
        state = self.state_of(word)
        document = payload.get("document")
        if state is JobState.SUCCEEDED and isinstance(document, dict):
            ref = ref.model_copy(update={"document_id": text_of(document["id"])})
        elif state is JobState.SUCCEEDED:
            state = JobState.PROCESSING  # Nothing to fetch yet: the document's id comes with the 302 only.
        error = errors.read_job_error(job) if state is JobState.FAILED else None
        return JobStatus(ref=ref, state=state, raw_state=word, error=error, seen_at=answer.received_at)

    # -- result

    def needs_status(self, ref: JobRef) -> bool:
        """The document has an id of its own, which comes with the job's 302."""
        return ref.document_id is None

    def result_request(self, ref: JobRef) -> Request:
        """`GET {root}/documents/{document_id}`."""
        if ref.document_id is None:
            raise Unreadable("The job has no document yet. Wait for it first.", provider=self.name)
        return Request("GET", f"{self.root}/documents/{segment(ref.document_id)}", verbatim=True)

    def map_result(self, ref: JobRef, payload: Any) -> Result:
        """`document` with its `prediction`, in the one model.

        Raises:
            JobFailed: The answer holds a failed job in the document's place.
        """
        return results.map_result(ref, payload)

    @classmethod
    def read_error(cls, answer: Answer) -> ServiceError:
        """The typed error for an answer of V1's shape, or for the page of a gateway."""
        return errors.read_error(answer, provider=cls.name)

    # -- webhooks

    @classmethod
    def read_push(cls, body: bytes) -> Push:
        """What a webhook call says. Raises `InvalidPush` when it is not Mindee V1's."""
        return webhooks.read_push(body, cls.state_of)


def _payload(answer: Answer) -> dict[str, Any]:
    """The answer's object; raises the error that `api_request.status_code` has despite HTTP 2xx."""
    payload = object_of(answer.json())
    code = mapping(payload.get("api_request")).get("status_code")
    if isinstance(code, int) and code >= 400 and not payload.keys() & {"job", "document"}:
        raise errors.read_error(replace(answer, status=code), provider=MindeeV1.name)
    return payload


def _check_job(ref: JobRef, job_id: object) -> None:
    if job_id != ref.job_id:
        raise Unreadable("The answer is about another job.")


def _check_redirected(ref: JobRef, answer: Answer) -> None:
    """The body of the 302 is not documented: where it names a job, it must be ours."""
    try:
        job_id = answer.json()["job"]["id"]
    except (Unreadable, LookupError, TypeError):
        return
    _check_job(ref, job_id)


def _document_id(ref: JobRef, answer: Answer) -> str:
    """The last part of `Location`, `…/documents/{document_id}`, absolute or relative."""
    target = resolve(ref.base_url, urljoin(answer.url, answer.location or ""))
    if target is None:
        raise ForeignOrigin("The service pointed to an address outside its own origin; it is not followed.")
    *_, collection, document_id = ["", *urlsplit(target).path.split("/")]
    if collection != "documents" or not document_id:
        raise Unreadable("The job's redirect does not lead to a document.")
    return unquote(document_id)
