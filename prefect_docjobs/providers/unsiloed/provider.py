"""Unsiloed: its settings, its requests, and the reading of submits and statuses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from prefect_docjobs.errors import (
    ConfigurationError,
    JobCancelled,
    JobFailed,
    Rejected,
    ServiceError,
    Unfinished,
    Unreadable,
)
from prefect_docjobs.http import Answer, Part, Request
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus, Result
from prefect_docjobs.providers.base import TRANSPORT, Capabilities, Polling, Provider, Submitted
from prefect_docjobs.providers.unsiloed import errors, results
from prefect_docjobs.providers.values import (
    check_choice,
    object_of,
    parsed,
    seconds_between,
    segment,
    text,
    text_of,
)

Product = Literal["extract", "parse", "classify", "split"]
Routes = Literal["product", "jobs"]


class _ProductRoutes(NamedTuple):
    """Where a product is submitted and polled, and the form fields that carry its document."""

    submit: str
    poll: str
    file: str
    url: str


# unsiloed-sdk 0.1.7, sync_client.py, and Unsiloed docs of 2026-03. Extract is submitted to /v2/extract and
# polled at /extract; split takes `file` where extract and classify take `pdf_file`.
_ROUTES: Mapping[str, _ProductRoutes] = MappingProxyType(
    {
        "extract": _ProductRoutes("/v2/extract", "/extract", "pdf_file", "file_url"),
        "parse": _ProductRoutes("/parse", "/parse", "file", "url"),
        "classify": _ProductRoutes("/classify", "/classify", "pdf_file", "file_url"),
        "split": _ProductRoutes("/splitter", "/splitter", "file", "file_url"),
    }
)
_PII = ("detect_pii", "pii_engine", "pii_block_severity")
# Unsiloed docs, extract-data.mdx and parse-document.mdx; schema_name: unsiloed-sdk 0.1.7;
# high_accuracy_mode and the three about PII: newer OpenAPI.
_OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "extract": ("schema_data", "model", "enable_citations", "schema_name", "high_accuracy_mode", *_PII),
        "parse": (
            "use_high_resolution",
            "segmentation_method",
            "ocr_mode",
            "ocr_engine",
            "merge_tables",
            "validate_segments",
            "keep_segment_types",
            "page_range",
            "segment_analysis",
            "output_fields",
            "xml_citation",
            "error_handling",
            *_PII,
        ),
        "classify": ("categories",),
        "split": ("categories",),
    }
)
_REQUIRED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "extract": ("schema_data", "a JSON Schema of type object with the fields to look for"),
        "classify": ("categories", "the names of the categories to choose from"),
        "split": ("categories", "the names of the categories to split by"),
    }
)
# Texts that are no JSON, even where they look like it.
_TEXTS = frozenset({"model", "schema_name"})

_DOCUMENT_FIELDS = frozenset({"file", "pdf_file", "file_url", "url"})

_ENDED_BADLY = frozenset({JobState.FAILED, JobState.CANCELLED})
# Unsiloed docs, status.mdx. The page's own sample is cut short, so anything but a whole digest is no hash.
_HASH = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.IGNORECASE)
_PII_BLOCKED = "pii_blocked"
_OF_A_JOB = frozenset({"status", "job_id", "result"})
# Of a PII report, what holds no personal data: `spans` and `summary` may quote the document.
_PII_FACTS = ("reason", "severity", "engine", "ocr_used", "total_findings", "by_category", "by_type")


@dataclass(frozen=True, kw_only=True)
class Unsiloed(Provider):
    """One kind of job at Unsiloed. Options that are None are left to the service.

    Attributes:
        product: `extract` named fields, `parse` to markdown, `classify`, or `split` by category.
        routes: Where jobs are looked at: `product` asks the product's own route, as the service's SDK and
            its current pages do; `jobs` asks the generic `/jobs/{id}` and `/jobs/{id}/result`, which the
            older pages describe. Submits are the same for both.
        schema_data: JSON Schema of the fields to extract. Needed for extract.
        categories: Names, or objects with `name` and `description`. Needed for classify and split.
        model: Extract: `alpha`, `beta`, `gamma` or `delta`.
        enable_citations: Extract: give boxes with the values. Off by default at the service.
        schema_name: Extract: a name that the service keeps with the job.
        high_accuracy_mode: Extract: have values checked again; slower.
        detect_pii: Extract and parse: look for personal data first, and refuse a document that has some.
        pii_engine: `standard` or `advanced`.
        pii_block_severity: `any`, `low`, `medium` or `high`.
        use_high_resolution: Parse: slower, finer images.
        segmentation_method: Parse: `smart_layout_detection` or `page_by_page`.
        ocr_mode: Parse: `auto_ocr` or `force_ocr`.
        ocr_engine: Parse: `UnsiloedHawk`, `UnsiloedBeta` or `UnsiloedStorm`.
        merge_tables: Parse: join tables that run over several pages.
        validate_segments: Parse: segment types to have checked, such as `["Table"]`.
        keep_segment_types: Parse: comma-separated segment types, such as `table,picture`, or `all`.
        page_range: Parse: `1-5`, `2,4,6` or `[1,3,5]`; all pages by default.
        segment_analysis: Parse: how each segment type is rendered.
        output_fields: Parse: which parts of a segment to give, such as `{"ocr": False}`.
        xml_citation: Parse: link bibliographic citations (PDF only).
        error_handling: Parse: `Continue` or `Fail`.
        options: Further form fields, sent as they are (objects and lists as JSON).

    Raises:
        ConfigurationError: A setting is missing, is not for this product, or cannot be sent.
    """

    name = "unsiloed"
    title = "Unsiloed"
    default_base_url = "https://prod.visionapi.unsiloed.ai"
    env_key = "UNSILOED_API_KEY"  # our own name: unsiloed-sdk 0.1.7 reads no variable
    products = get_args(Product)
    # As of 2026-11. queued, PROCESSING, COMPLETED, FAILED: Unsiloed docs, status.mdx. Starting, Processing,
    # Succeeded, Failed, Cancelled: get-parse-job-status.mdx. AwaitingUpload, Queued, review: newer OpenAPI.
    # error: Unsiloed-AI/cookbook, Unsiloed.node.ts. pii_blocked: newer OpenAPI, PiiBlockedResponse.
    states = MappingProxyType(
        {
            "queued": JobState.QUEUED,
            "starting": JobState.QUEUED,
            "awaitingupload": JobState.QUEUED,
            "processing": JobState.PROCESSING,
            "completed": JobState.SUCCEEDED,
            "succeeded": JobState.SUCCEEDED,
            "review": JobState.SUCCEEDED,
            "failed": JobState.FAILED,
            "error": JobState.FAILED,
            _PII_BLOCKED: JobState.FAILED,
            "cancelled": JobState.CANCELLED,
        }
    )
    # unsiloed-sdk 0.1.7 polls every 2 s; Unsiloed docs, status.mdx and others: every 5 s.
    polling = Polling(first=2.0, every=2.0)
    # 500 MB: newer OpenAPI (the docs of 2026-03 still say 100 MB for extract and 50 MB for classify). The
    # pages disagree about the file types that each product takes, so none is refused here.
    # Unsiloed docs, parse-document.mdx: 60 requests in 60 s per organisation.
    rates = MappingProxyType({"submit": 0.25, "status": 0.5, "result": 0.25})
    capabilities = Capabilities(hints=True, url_input=True, max_bytes=500 << 20)

    product: Product = "extract"
    routes: Routes = field(default="product", metadata=TRANSPORT)
    schema_data: Mapping[str, Any] | None = None
    categories: Sequence[str | Mapping[str, Any]] | None = None
    model: str | None = None
    enable_citations: bool | None = None
    schema_name: str | None = None
    high_accuracy_mode: bool | None = None
    detect_pii: bool | None = None
    pii_engine: str | None = None
    pii_block_severity: str | None = None
    use_high_resolution: bool | None = None
    segmentation_method: str | None = None
    ocr_mode: str | None = None
    ocr_engine: str | None = None
    merge_tables: bool | None = None
    validate_segments: Sequence[str] | None = None
    keep_segment_types: str | None = None
    page_range: str | None = None
    segment_analysis: Mapping[str, Any] | None = None
    output_fields: Mapping[str, bool] | None = None
    xml_citation: bool | None = None
    error_handling: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    # -- settings

    def __post_init__(self) -> None:
        check_choice("product", self.product, get_args(Product))
        check_choice("routes", self.routes, get_args(Routes))
        own = _OPTIONS[self.product]
        if self.product in _REQUIRED and not getattr(self, (needed := _REQUIRED[self.product])[0]):
            raise ConfigurationError(f"{needed[0]} is missing: product {self.product!r} needs {needed[1]}.")
        for product, names in _OPTIONS.items():
            for name in names:
                if name not in own and getattr(self, name) not in (None, (), [], {}):
                    raise ConfigurationError(
                        f"{name} is for product {product!r}, and product is {self.product!r}. Leave it out."
                    )
        for name in self.options:
            if name in _DOCUMENT_FIELDS:
                raise ConfigurationError(f"options: {name!r} is the document itself. Leave it out.")
            if name in own and getattr(self, name) is not None:
                raise ConfigurationError(f"options: {name!r} is given twice. Give it once.")
        self._form()

    def _form(self) -> dict[str, str]:
        """The form's text fields, without what is left to the service."""
        given = {name: getattr(self, name) for name in _OPTIONS[self.product]}
        if self.categories:
            given["categories"] = _categories(self.categories)
        given.update(self.options)
        return {name: _form_text(name, value) for name, value in given.items() if value is not None}

    def canonical_settings(self) -> dict[str, Any]:
        """See `Provider.canonical_settings`: `options` are settings too, and JSON text is what it says."""
        given, own = super().canonical_settings(), _OPTIONS[self.product]
        options = {name: value for name, value in given["options"].items() if value is not None}
        named = {name: options.pop(name) for name in own if name in options}
        settings = {**given, **named, "options": options}
        plain = {name: parsed(settings[name]) for name in own if name not in _TEXTS}
        if plain.get("categories"):
            plain["categories"] = [_canonical_category(each) for each in _categories(plain["categories"])]
        return {**settings, **plain}

    @property
    def variant(self) -> str:
        """The extraction model: a larger one takes longer."""
        return self.model or ""

    # -- submit

    @classmethod
    def auth_headers(cls, api_key: str) -> dict[str, str]:
        """Both names under which the service is documented to take its key.

        `api-key`: unsiloed-sdk 0.1.7, and the docs of every product route. `X-API-Key`: Unsiloed docs,
        status.mdx, for the generic job routes.
        """
        return {"api-key": api_key, "X-API-Key": api_key}

    def submit_request(self, document: Document, *, alias: str) -> Request:  # noqa: ARG002 (nothing echoes one)
        """A multipart form, also for a URL: the routes are documented to take nothing else."""
        routes = _ROUTES[self.product]
        named = (routes.file, document) if document.url is None else (routes.url, document.url)
        texts = (Part(name, content) for name, content in self._form().items())
        return Request("POST", routes.submit, parts=(*texts, Part(*named)))

    def read_submit(self, answer: Answer) -> Submitted:
        """The new job's id, which is `job_id`, or `id` as on the generic routes.

        Raises:
            Rejected: Personal data was found and no job made. The service says so with HTTP 200
                (newer OpenAPI, PiiBlockedResponse).
        """
        body = object_of(answer.json())
        job_id = body.get("job_id")
        if job_id is None and (body.get("status") == _PII_BLOCKED or body.get("blocked") is True):
            reason = text(body.get("reason")) or "no reason given"
            raise Rejected(
                f"The service found personal data in the document ({reason}) and made no job. "
                "Raise pii_block_severity, or leave detect_pii out.",
                status=answer.status,
                code=_PII_BLOCKED,
                details={name: body[name] for name in _PII_FACTS if name in body},
                request_id=answer.request_id,
            )
        return Submitted(text_of(body["id"] if job_id is None else job_id))

    # -- status

    def status_request(self, ref: JobRef) -> Request:
        """`GET {product route}/{id}`, whose answer has the result in it, or `GET /jobs/{id}`."""
        return Request("GET", self._job_path(ref), large=True)

    def read_status(self, ref: JobRef, answer: Answer) -> JobStatus:
        """One observation; raises `Unreadable` when the answer is about another job or document."""
        body = object_of(answer.json())
        self._check_same_job(ref, body)
        word = text_of(body["status"])
        state = self.state_of(word)
        # `finished_at` of a parse, the last `updated_at` of everything else.
        took = seconds_between(body.get("created_at"), body.get("finished_at") or body.get("updated_at"))
        return JobStatus(
            ref=ref,
            state=state,
            raw_state=word,
            error=errors.read_problem(body) if state in _ENDED_BADLY else None,
            took=took if state.is_terminal else None,
            seen_at=answer.received_at,
        )

    # -- result

    def result_request(self, ref: JobRef) -> Request:
        """The status request once more, whose answer holds the result; or `GET /jobs/{id}/result`."""
        suffix = "/result" if self.routes == "jobs" else ""
        return Request("GET", f"{self._job_path(ref)}{suffix}", verbatim=True)

    def map_result(self, ref: JobRef, payload: Any) -> Result:
        """A finished job's result.

        Raises:
            Unfinished: The job is not finished.
            JobFailed: It failed; there is no result.
            JobCancelled: It was cancelled.
        """
        body = object_of(payload)
        self._check_same_job(ref, body)
        # The generic route answers with the result alone, and what is kept may have come by it; a job in its
        # place says what has become of it.
        of_a_job = not body.keys().isdisjoint(_OF_A_JOB)
        if ("status" in body and "result" not in body) or (self.routes == "product" and of_a_job):
            word = text_of(body["status"])
            state = self.state_of(word)
            if not state.is_terminal:
                raise Unfinished(f"There is no result yet: the job is {word!r}.")
            if state in _ENDED_BADLY:
                kind = JobCancelled if state is JobState.CANCELLED else JobFailed
                raise kind(f"There is no result: {errors.read_problem(body)}", ref=ref)
        return results.MAPPERS[self.product](ref, body)

    @classmethod
    def read_error(cls, answer: Answer) -> ServiceError:
        """The typed error for any answer outside 2xx; see `unsiloed.errors`."""
        return errors.read_error(answer, provider=cls.name)

    # -- checks of answers

    def _check_same_job(self, ref: JobRef, body: dict[str, Any]) -> None:
        # A parse job carries an `id` that is its internal record's (Unsiloed docs, get-parse-job-status.mdx);
        # only the generic route calls the job id `id` (status.mdx).
        named = body.get("job_id")
        if named is None and self.routes == "jobs":
            named = body.get("id")
        if named is not None and str(named) != ref.job_id:
            raise Unreadable("The service answered about another job.")
        hashed = _HASH.fullmatch(text(body.get("pdf_hash")) or "")
        if hashed and ref.document_sha256 and hashed[1].lower() != ref.document_sha256.lower():
            raise Unreadable("The service answered for another document: its pdf_hash is not ours.")

    def _job_path(self, ref: JobRef) -> str:
        root = "/jobs" if self.routes == "jobs" else _ROUTES[self.product].poll
        return f"{root}/{segment(ref.job_id)}"


def _form_text(name: str, value: Any) -> str:
    """A form field's text: a text as it is, everything else as JSON (`true`, `5`, lists, objects)."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ConfigurationError(f"{name} cannot be sent as JSON. Give plain data.") from None


def _categories(given: Any) -> list[dict[str, Any]]:
    """Categories as the service takes them: objects with a `name` and perhaps a `description`."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ConfigurationError("categories must be a list of names, or of objects with a name.")
    named = [{"name": item} if isinstance(item, str) else item for item in given]
    for item in named:
        name = item.get("name") if isinstance(item, Mapping) else None
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(
                "categories: each needs a name, such as 'invoice' or {'name': 'invoice'}."
            )
    return [dict(item) for item in named]


def _canonical_category(given: dict[str, Any]) -> object:
    """A category with nothing but a name as that name."""
    given = {name: value for name, value in given.items() if name == "name" or value is not None}
    return given["name"] if len(given) == 1 else given
