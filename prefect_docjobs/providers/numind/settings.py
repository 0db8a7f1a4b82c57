"""What a NuExtract job is told: settings in the service's own words, checked before anything is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.models import Document
from prefect_docjobs.providers.base import TRANSPORT
from prefect_docjobs.providers.values import segment

PRODUCTS = ("extraction", "content")
UPLOADS = ("octet-stream", "multipart")

# numind 0.4.2 SDK, STRUCTURED_EXTRACTION_SETTING_NAMES and the parameters of its job routes. Ranges are
# left to the service: they changed between its versions (temperature 0..1, later 0..2).
_WIRE_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "temperature": "temperature",
        "dpi": "rasterizationDPI",
        "image_width": "imageWidth",
        "max_output_tokens": "maxOutputTokens",
        "max_example_token_number": "maxExampleTokenNumber",
        "max_example_number": "maxExampleNumber",
        "min_example_similarity": "minExampleSimilarity",
        "enable_thinking": "enableThinking",
        "thinking_token_budget": "thinkingTokenBudget",
        "loop_detection": "loopDetection",
        "random_seed": "randomSeed",
        "timeout": "timeout",
    }
)
# Numbers that the service wants as text, so that "Unlimited" and "random" fit in (numind 0.4.2 SDK).
_AS_TEXT = frozenset({"max_output_tokens", "max_example_number", "thinking_token_budget", "random_seed"})
_NUMBERS = (*_AS_TEXT, "dpi", "image_width")
_OF_EXAMPLES = ("max_example_token_number", "max_example_number", "min_example_similarity")
# "Format examples: 1000ms, 10s, 1m, 1h" (numind 0.4.2 SDK).
_DURATION = re.compile(r"([0-9]+)(ms|s|m|h)")
_MILLISECONDS: Mapping[str, int] = MappingProxyType({"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1})


@dataclass(frozen=True, kw_only=True)
class NuMindSettings:
    """The settings of one kind of job. None leaves a setting to the service or to the project.

    Attributes:
        product: `extraction` (named values) or `content` (the document as markdown).
        template: What to extract, as NuExtract's schema: `{"total": "number", "tags": ["string"]}`.
        project_id: A project at the service instead of a template; optional for `content`.
        instructions: Guidance for the model; with a template only, a project has its own.
        examples: Solved documents, each with its expected result; with a template only.
        temperature: Output diversity, 0..2.
        dpi: Resolution for documents that are turned into images: 1..600, or `automatic`.
        image_width: For single images: pixels, `automatic` or `original`.
        max_output_tokens: A positive number, or `Unlimited`.
        max_example_token_number: Tokens for examples, 0..130000; `extraction` only.
        max_example_number: A number, 0 for none, or `Unlimited`; `extraction` only.
        min_example_similarity: 0 (any) to 1 (the same document); `extraction` only.
        enable_thinking: Let the model reason first.
        thinking_token_budget: A positive number, or `Unlimited`.
        loop_detection: Stop when the model repeats itself.
        random_seed: A 64-bit integer, or `random`.
        timeout: The service's own limit for the job: `1000ms`, `10s`, `1m`, `1h`. It takes 60m by default
            and raises what is below its minimum, 5m by default.
        upload: How files go to a project: `octet-stream` (as both SDKs do) or `multipart` (as the
            service's curl examples do). One user of the service reports HTTP 500 for the former.
        organization: Lists the jobs of this organization instead of one's own.
        options: Further settings by their names at the service, sent as they are.

    Raises:
        ConfigurationError: Settings that do not go together; the message says what to give.
    """

    product: str = "extraction"
    template: Mapping[str, Any] | None = None
    project_id: str | None = None
    instructions: str | None = None
    examples: Sequence[tuple[Document, Mapping[str, Any]]] = ()
    temperature: float | None = None
    dpi: int | str | None = None
    image_width: int | str | None = None
    max_output_tokens: int | str | None = None
    max_example_token_number: int | None = None
    max_example_number: int | str | None = None
    min_example_similarity: float | None = None
    enable_thinking: bool | None = None
    thinking_token_budget: int | str | None = None
    loop_detection: bool | None = None
    random_seed: int | str | None = None
    timeout: str | None = None
    upload: str = field(default="octet-stream", metadata=TRANSPORT)
    organization: str | None = field(default=None, metadata=TRANSPORT)  # of the list alone
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        complaint = next(self._complaints(), None)
        if complaint is not None:
            raise ConfigurationError(complaint)

    @property
    def by_template(self) -> bool:
        """Whether the job carries its own template; otherwise a project or the service has the settings."""
        return self.template is not None

    # -- how they are sent

    def query(self, *, text: bool = False) -> dict[str, Any]:
        """The query parameters of a submit.

        A submit with a template takes only `timeout` there (numind 0.4.2 SDK).

        Args:
            text: For a submit of plain text, which has no resolution.
        """
        settings = self._settings()
        if self.by_template:
            return {"timeout": settings["timeout"]} if "timeout" in settings else {}
        if self.product == "content":
            return {"projectId": self.project_id, **settings} if self.project_id else settings
        dpi = settings.pop("rasterizationDPI", None)
        # The project route calls it `dpi`, all others `rasterizationDPI` (numind 0.4.2 SDK).
        return settings if dpi is None or text else {"dpi": dpi, **settings}

    def manifest(self) -> str:
        """The `request` part of a submit with a template (numind 0.4.2 SDK, projectless submit)."""
        settings = self._settings()
        settings.pop("timeout", None)
        request: dict[str, Any] = {
            "schema": self.template,
            "instructions": self.instructions or "",
            "settings": settings,
        }
        if self.examples:
            request["examples"] = [{"result": result} for _, result in self.examples]
        return json.dumps(request, allow_nan=False)

    def _settings(self) -> dict[str, Any]:
        typed = {_WIRE_NAMES[name]: value for name, value in self._given()}
        return {**typed, **self.options}

    def _given(self) -> Iterator[tuple[str, Any]]:
        for name in _WIRE_NAMES:
            value = getattr(self, name)
            if value is not None:
                yield name, str(value) if name in _AS_TEXT else value

    # -- what is wrong with them

    def _complaints(self) -> Iterator[str]:
        if self.product not in PRODUCTS:
            yield f"product: NuExtract has {' and '.join(PRODUCTS)}, not {self.product!r}."
        if self.upload not in UPLOADS:
            yield f"upload: give {' or '.join(UPLOADS)}, not {self.upload!r}."
        if self.timeout is not None and not _DURATION.fullmatch(str(self.timeout)):
            yield f"timeout: give a duration such as 1000ms, 10s, 10m or 1h, not {self.timeout!r}."
        if self.project_id is not None and not _is_id(self.project_id):
            yield f"project_id: {self.project_id!r} is not an id. Copy it from the project's API tab."
        yield from (
            self._extraction_complaints() if self.product == "extraction" else self._content_complaints()
        )
        yield from self._json_complaints()

    def _extraction_complaints(self) -> Iterator[str]:
        if self.by_template == (self.project_id is not None):
            yield "template, project_id: give exactly one of them."
        if not self.by_template:
            for name in ("instructions", "examples"):
                if getattr(self, name):
                    yield f"{name}: these go with a template. For a project, set them in the project."
        elif not isinstance(self.template, Mapping) or not self.template:
            yield 'template: give an object that names what to extract, such as {"total": "number"}.'
        for example in self.examples:
            yield from _example_complaints(example)

    def _content_complaints(self) -> Iterator[str]:
        for name in ("template", "instructions", "examples", *_OF_EXAMPLES):
            if getattr(self, name) not in (None, (), [], ""):
                yield f'{name}: product "content" has no such setting. Leave it out.'

    def _json_complaints(self) -> Iterator[str]:
        try:
            self.manifest()
        except (TypeError, ValueError, RecursionError) as problem:
            yield f"template, examples, options: they must be plain JSON ({problem})."


def canonical(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a job in one notation: `options` replace what they name at the service."""
    options = dict(given["options"])
    named = {name: options.pop(wire) for name, wire in _WIRE_NAMES.items() if wire in options}
    settings = {**given, **named, "options": options, "instructions": given["instructions"] or None}
    numbers = {name: _number(settings[name]) for name in _NUMBERS}
    return {**settings, **numbers, "timeout": _duration(settings["timeout"])}


def _number(value: object) -> object:
    """A whole number that is given as text, as a number; both are sent as the same text."""
    return int(value) if isinstance(value, str) and re.fullmatch("-?[0-9]{1,19}", value) else value


def _duration(value: object) -> object:
    """`60s` as `1m`: the largest unit that divides it."""
    match = _DURATION.fullmatch(str(value))
    if match is None or int(match[1]) == 0:
        return value
    length = int(match[1]) * _MILLISECONDS[match[2]]
    unit, size = next((unit, size) for unit, size in _MILLISECONDS.items() if length % size == 0)
    return f"{length // size}{unit}"


def _example_complaints(example: object) -> Iterator[str]:
    match example:
        case (Document(url=None), Mapping()):
            return
        case _:
            yield "examples: give pairs of a document (a file or bytes, no URL) and its expected result."


def _is_id(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(value.strip()) and bool(segment(value))
    except ValueError:
        return False
