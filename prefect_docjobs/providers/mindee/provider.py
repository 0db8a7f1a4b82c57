"""Mindee V2: its settings, its requests, and the reading of submits and statuses."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from prefect_docjobs.errors import ConfigurationError, InvalidDocument, ServiceError, Unreadable
from prefect_docjobs.http import Answer, Http, Part, Request, safe_file_name
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus, Result
from prefect_docjobs.providers.base import TRANSPORT, Capabilities, Polling, Provider, Push, Submitted
from prefect_docjobs.providers.mindee import errors, results, webhooks
from prefect_docjobs.providers.values import (
    check_choice,
    object_of,
    parsed,
    seconds_between,
    segment,
    text,
    text_of,
)

# mindee 5.4.0 SDK, `ExtractionParameters`: fields of the extraction product alone.
_SWITCHES = ("rag", "raw_text", "polygon", "confidence")
_EXTRACTION_ONLY = (*_SWITCHES, "text_context", "data_schema")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LONGEST_URL = 2048


@dataclass(frozen=True, kw_only=True)
class Mindee(Provider):
    """Mindee V2 with the settings of one kind of job; None leaves a setting to the model's own.

    Attributes:
        model_id: The model, a UUID from its page on Mindee's platform.
        product: `extraction`, `ocr`, `crop`, `split` or `classification`; it must be the model's own.
        send: How bytes travel: `file` (multipart) or `base64` (JSON, which Mindee does not recommend).
            A document from a URL always travels as its URL.
        alias: A text of yours that Mindee echoes. Left empty, each document gets a key of its own, by which
            a failed webhook call finds its job: set it only where you need it.
        webhook_ids: UUIDs of the model's webhooks to call.
        filename: The file name that Mindee sees; None means the document's own, and for a URL, Mindee's
            choice.
        rag: Use retrieval-augmented generation. Extraction only, like all below.
        raw_text: Give the whole text too.
        polygon: Give boxes.
        confidence: Give confidences.
        text_context: A text for the model to know about the document.
        data_schema: Fields to extract instead of the model's: `{"replace": {"fields": […]}}`, the bare list
            of fields, or JSON text of either.
        options: Further form fields, sent as they are.

    Raises:
        ConfigurationError: A setting that Mindee would refuse; the message names it.
    """

    name = "mindee"
    title = "Mindee V2"
    default_base_url = "https://api-v2.mindee.net"
    env_key = "MINDEE_V2_API_KEY"
    # All words of the schema `Status` (Mindee V2 OpenAPI 2.0.0, read 2026-11); there is none for queued.
    states = MappingProxyType(
        {
            "processing": JobState.PROCESSING,
            "processed": JobState.SUCCEEDED,
            "failed": JobState.FAILED,
        }
    )
    # mindee 5.4.0 SDK, PollingOptions. docs.mindee.com, polling-for-results, says 3 s, then 1 s.
    polling = Polling(first=2.0, every=1.5, at_least=1.0)
    # docs.mindee.com, technical-limitations, 2026-08: 200 POST and 1200 GET in a minute, per organisation.
    rates = MappingProxyType({"submit": 200 / 60, "status": 1000 / 60, "result": 200 / 60})
    capabilities = Capabilities(
        push=True,
        url_input=True,
        media_types=frozenset(
            {"application/pdf", *(f"image/{it}" for it in ("heic", "heif", "jpeg", "png", "tiff", "webp"))}
        ),
        max_bytes=100 << 20,
    )
    products = ("extraction", "ocr", "crop", "split", "classification")
    echoes_alias = True
    signature_header = webhooks.SIGNATURE_HEADER

    model_id: str
    product: str = "extraction"
    send: str = field(default="file", metadata=TRANSPORT)
    alias: str | None = field(default=None, metadata=TRANSPORT)
    webhook_ids: Sequence[str] = field(default=(), metadata=TRANSPORT)
    filename: str | None = field(default=None, metadata=TRANSPORT)  # the document's own is no part of the key
    rag: bool | None = None
    raw_text: bool | None = None
    polygon: bool | None = None
    confidence: bool | None = None
    text_context: str | None = None
    data_schema: Mapping[str, Any] | Sequence[Any] | str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_uuid("model_id", self.model_id)
        check_choice("product", self.product, self.products)
        check_choice("send", self.send, ("file", "base64"))
        if not isinstance(self.webhook_ids, (list, tuple)):
            raise ConfigurationError(f"webhook_ids must be a list of webhook IDs, not {self.webhook_ids!r}.")
        for webhook_id in self.webhook_ids:
            _check_uuid("webhook_ids", webhook_id)
        given = [name for name in _EXTRACTION_ONLY if getattr(self, name) is not None]
        if given and self.product != "extraction":
            raise ConfigurationError(
                f"{', '.join(given)}: only product='extraction' has that, not {self.product!r}."
            )
        taken = [name for name in ("file", "url", "file_base64", "model_id") if name in self.options]
        if taken:
            raise ConfigurationError(f"options must not hold {', '.join(taken)}: the job fills that itself.")
        _data_schema_text(self.data_schema)

    @classmethod
    def auth_headers(cls, api_key: str) -> dict[str, str]:
        """The raw key: no `Token`, no `Bearer` (Mindee V2 OpenAPI, `APIKeyHeader`)."""
        return {"Authorization": api_key}

    @property
    def asks_for_pushes(self) -> bool:
        """Whether `webhook_ids` are given."""
        return bool(self.webhook_ids)

    def canonical_settings(self) -> dict[str, Any]:
        """See `Provider.canonical_settings`: `options` replace what they name, as on the wire."""
        given = super().canonical_settings()
        options = dict(given["options"])
        named = ("alias", "webhook_ids", "filename", *_EXTRACTION_ONLY)
        settings = {**given, **{name: options.pop(name) for name in named if name in options}}
        for name in _SWITCHES:
            settings[name] = parsed(settings[name])
        try:
            schema = _data_schema_text(settings["data_schema"])
        except ConfigurationError:  # options are sent as they are
            schema = settings["data_schema"]
        return {
            **settings,
            "options": options,
            "model_id": given["model_id"].lower(),
            "data_schema": parsed(schema),
        }

    # -- submit

    def check(self, document: Document) -> None:
        """Raise unless Mindee documents that it takes such a document; URLs have 2048 characters at most."""
        super().check(document)
        if document.url is not None and len(document.url) > _LONGEST_URL:
            raise InvalidDocument(f"The URL has more than {_LONGEST_URL} characters.").about(document.name)

    def submit_request(self, document: Document, *, alias: str) -> Request:
        """`POST /v2/products/{product}/enqueue`: a file as multipart, a URL as a form, base64 as JSON.

        Mindee V2 OpenAPI documents all three content types; file and URL travel as the mindee 5.4.0 SDK
        sends them. Base64 travels as JSON: the same text as a form would have to be escaped.
        """
        path, fields = f"/v2/products/{self.product}/enqueue", self._fields(alias)
        if document.url is not None:
            named = {"filename": safe_file_name(self.filename)} if self.filename else {}
            texts = {name: _texts(name, value) for name, value in fields.items()}
            form = {
                name: each if isinstance(fields[name], (list, tuple)) else each[0]
                for name, each in texts.items()
            }
            return Request("POST", path, form={**form, **named, "url": document.url})
        if self.send == "base64":
            content = base64.b64encode(document.read()).decode("ascii")
            named = {"filename": safe_file_name(self.filename or document.name)}
            return Request("POST", path, json={**fields, **named, "file_base64": content})
        parts = [Part(name, each) for name, value in fields.items() for each in _texts(name, value)]
        return Request("POST", path, parts=(*parts, Part("file", document, filename=self.filename)))

    def _fields(self, alias: str) -> dict[str, Any]:
        """The settings in JSON's types, without those that are left to the service."""
        given = {
            "model_id": self.model_id,
            "alias": self.alias or alias,
            "webhook_ids": list(self.webhook_ids) or None,
            "rag": self.rag,
            "raw_text": self.raw_text,
            "polygon": self.polygon,
            "confidence": self.confidence,
            "text_context": self.text_context,
            "data_schema": _data_schema_text(self.data_schema),
            **self.options,
        }
        return {name: value for name, value in given.items() if value is not None}

    def read_submit(self, answer: Answer) -> Submitted:
        """HTTP 202 with a `JobResponse` (Mindee V2 OpenAPI)."""
        job = object_of(answer.json()["job"])
        alias = text(job.get("alias")) or self.alias
        return Submitted(job_id=text_of(job["id"]), alias=alias, result_url=_result_url(job))

    # -- status

    def status_request(self, ref: JobRef) -> Request:
        """`GET /v2/jobs/{id}?redirect=false`, which always answers 200 (Mindee V2 OpenAPI).

        A 302 is accepted all the same: it is the default without that parameter. It is never followed,
        since the model option "delete extracted data when fetched" would use the result up.
        """
        path = f"/v2/jobs/{segment(ref.job_id)}"
        return Request("GET", path, params={"redirect": "false"}, accept=(302,))

    @property
    def variant(self) -> str:
        """The model's id: a model of its own is a duration of its own."""
        return self.model_id

    def read_status(self, ref: JobRef, answer: Answer) -> JobStatus:
        """A `JobResponse`, or a 302 whose `Location` is the result."""
        try:
            job = object_of(answer.json()["job"])
            word = text_of(job["status"])
        except (Unreadable, LookupError, TypeError, ValueError):
            if answer.status != 302 or not answer.location:
                raise
            done = ref.model_copy(update={"result_url": answer.location})
            return JobStatus(ref=done, state=JobState.SUCCEEDED, seen_at=answer.received_at)
        _check_job(ref, job)
        url = _result_url(job) or (answer.location if answer.status == 302 else None)
        state = self.state_of(word)
        if state is JobState.SUCCEEDED and url is None:
            state = JobState.PROCESSING  # The mindee 5.4.0 SDK waits for the address as well as the word.
        return JobStatus(
            ref=ref.model_copy(update={"result_url": url or ref.result_url}),
            state=state,
            raw_state=word,
            error=errors.read_problem(job.get("error")) if state is JobState.FAILED else None,
            took=seconds_between(job.get("created_at"), job.get("completed_at")),
            seen_at=answer.received_at,
        )

    # -- result

    def needs_status(self, ref: JobRef) -> bool:
        """The result's address comes from the job alone; two forms of its path are in use."""
        return ref.result_url is None

    def result_request(self, ref: JobRef) -> Request:
        """GET `result_url`, as the job gave it."""
        if ref.result_url is None:
            raise Unreadable("The job has no result yet. Wait for it first.", provider=self.name)
        return Request("GET", ref.result_url, verbatim=True)

    def map_result(self, ref: JobRef, payload: Any) -> Result:
        """`{"inference": …}` of this block's product in the one model."""
        return results.map_result(ref, self.product, payload)

    @classmethod
    def read_error(cls, answer: Answer) -> ServiceError:
        """The typed error for an `ErrorResponse`, with its pointers, or for the page of a gateway."""
        return errors.read_error(answer, provider=cls.name)

    # -- webhooks

    async def webhook_deliveries(self, http: Http, ref: JobRef) -> tuple[webhooks.WebhookDelivery, ...]:
        """The calls to `webhook_ids` so far, with one status request; empty until the job is processed."""
        self.check_ref(http, ref)
        answer = await http.send(self.request_for(self.status_request, ref))
        with self.reading(answer):
            payload = answer.json()
            _check_job(ref, object_of(payload["job"]))
            return webhooks.read_webhooks(payload)

    @classmethod
    def read_push(cls, body: bytes) -> Push:
        """What a webhook call says. Raises `InvalidPush` when it is not Mindee V2's."""
        return webhooks.read_push(body)


def _check_job(ref: JobRef, job: Mapping[str, Any]) -> None:
    if text_of(job["id"]).lower() != ref.job_id.lower():
        raise Unreadable("The answer is about another job.")


def _result_url(job: Mapping[str, Any]) -> str | None:
    url = job.get("result_url")
    return None if url is None else text_of(url)


def _texts(name: str, value: object) -> list[str]:
    """A field's texts: one for each item of a list, which is sent as a repeated field."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return [item if isinstance(item, str) else _json_text(name, item) for item in items]


def _check_uuid(field: str, value: object) -> None:
    """Raise `ConfigurationError` unless `value` is written as a UUID (Mindee V2 OpenAPI, `uuid4`)."""
    if not (isinstance(value, str) and _UUID.fullmatch(value)):
        raise ConfigurationError(
            f"{field} must be a UUID such as 11111111-1111-4111-8111-111111111111, not {value!r}. "
            "Copy the ID from the model's page on Mindee's platform."
        )


def _data_schema_text(schema: object) -> str | None:
    """`data_schema`, in any form that the setting takes, as the JSON text that travels."""
    if schema is None:
        return None
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError):
            raise ConfigurationError("data_schema is a text, but not JSON.") from None
    if isinstance(schema, (list, tuple)):
        schema = {"fields": list(schema)}
    if isinstance(schema, Mapping) and "replace" not in schema and "fields" in schema:
        schema = {"replace": schema}
    if not (isinstance(schema, Mapping) and "replace" in schema):
        raise ConfigurationError("data_schema must be {'replace': {'fields': […]}} or the list of fields.")
    return _json_text("data_schema", schema)


def _json_text(field: str, value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise ConfigurationError(f"{field} holds something that JSON cannot carry.") from None
