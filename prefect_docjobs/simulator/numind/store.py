"""What NuMind keeps for an account: projects, uploaded files, documents made of them.

Sources: models `ProjectResponse`, `FileResponse`, `DocumentResponse` of the numind 0.2.0 SDK and
`StructuredProjectResponse` of 0.4.2. The two disagree on the types of some project settings; a project that
was created with `instructions`, as only the newer SDK does, shows the newer types.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect_docjobs.simulator.extraction_schema import Wanted
from prefect_docjobs.simulator.jobs import Source
from prefect_docjobs.simulator.reading.media import media_type_of

OWNER = "user-simulator"

_SETTINGS: dict[str, object] = {
    "temperature": 0.0,
    "rasterizationDPI": 150,
    "maxOutputTokens": 0,
    "maxExampleTokenNumber": 64_000,
    "maxExampleNumber": 0,
    "minExampleSimilarity": 0.0,
}
_NEWER_SETTINGS = {
    **_SETTINGS,
    "maxOutputTokens": "0",
    "maxExampleNumber": "0",
    "enableThinking": False,
    "thinkingTokenBudget": "automatic",
    "loopDetection": True,
    "randomSeed": "automatic",
    "imageWidth": "automatic",
}


@dataclass(frozen=True)
class Project:
    """A template under an id."""

    id: str
    name: str
    description: str
    template: Mapping[str, Any]
    wanted: Wanted
    instructions: str | None
    created_at: str

    def as_json(self) -> dict[str, Any]:
        """The project as the service shows it."""
        newer = self.instructions is not None
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "template": self.template,
            **({"instructions": self.instructions} if newer else {}),
            "ownerUser": OWNER,
            "createdAt": self.created_at,
            "updatedAt": self.created_at,
            "lockState": False,
            "shared": False,
            "settings": _NEWER_SETTINGS if newer else _SETTINGS,
        }


@dataclass(frozen=True)
class Upload:
    """A file, or the document that was made of one."""

    id: str
    source: Source
    created_at: str
    file_id: str = ""

    def as_file(self) -> dict[str, Any]:
        """The file as the service shows it."""
        return {
            "fileId": self.id,
            "fileName": self.source.name,
            "ownerUser": OWNER,
            "contentType": self._content_type,
            "createdAt": self.created_at,
        }

    def as_document(self) -> dict[str, Any]:
        """The document as the service shows it."""
        data = self.source.data or b""
        about: dict[str, object] = {
            "documentId": self.id,
            "fileId": self.file_id,
            "fileName": self.source.name,
        }
        if self._content_type == "text/plain":
            info = {**about, "text": data.decode("utf-8", "replace"), "type": "text"}
        else:
            info = {**about, "dpi": 150, "partCount": 1, "type": "image"}
        return {
            "docInfo": info,
            "ownerUser": OWNER,
            "contentType": self._content_type,
            "createdAt": self.created_at,
        }

    @property
    def _content_type(self) -> str:
        return media_type_of(self.source.data or b"")


@dataclass
class Store:
    """Everything that was put into one account."""

    projects: dict[str, Project] = field(default_factory=dict)
    files: dict[str, Upload] = field(default_factory=dict)
    documents: dict[str, Upload] = field(default_factory=dict)

    def add_file(self, source: Source, created_at: str) -> Upload:
        """Keeps an uploaded file."""
        upload = Upload(str(uuid.uuid4()), source, created_at)
        self.files[upload.id] = upload
        return upload

    def add_document(self, source: Source, created_at: str, file_id: str = "") -> Upload:
        """Keeps a document, of a file or of text."""
        upload = Upload(str(uuid.uuid4()), source, created_at, file_id)
        self.documents[upload.id] = upload
        return upload
