"""What the processes of the demo tell each other, one line of JSON at a time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel
from typing_extensions import Self

from prefect_docjobs.models import Document, Outcome


class Orders(BaseModel):
    """What to run, and where.

    Attributes:
        services_url: Where all services are.
        api_key: The key that they accept.
        output: Folder for the files.
        files: The documents.
    """

    services_url: str
    api_key: str
    output: Path
    files: list[Path]

    @classmethod
    def for_documents(
        cls, documents: Iterable[Document], *, services_url: str, api_key: str, output: Path
    ) -> Self:
        """Orders for documents that are files."""
        files = [document.path for document in documents if document.path is not None]
        return cls(services_url=services_url, api_key=api_key, output=output, files=files)

    def documents(self) -> list[Document]:
        """The documents, in order."""
        return [Document.from_path(file) for file in self.files]


class News(BaseModel):
    """What became of a document at a service; the last one is about none.

    Attributes:
        provider: Registry name of the service.
        outcome: Its outcome, without the service's own answer.
    """

    provider: str = ""
    outcome: Outcome | None = None

    @classmethod
    def about(cls, provider: str, outcome: Outcome) -> Self:
        """News that are small enough to be sent around."""
        slim = outcome.result and outcome.result.model_copy(update={"raw": None})
        return cls(provider=provider, outcome=outcome.model_copy(update={"result": slim}))
