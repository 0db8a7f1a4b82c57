"""What a run has written, as people are told of it: files, or the tables of a load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Outputs(Protocol):
    """What summaries and the descriptions of tables say of where everything is. No secret is in any of it."""

    @property
    def heading(self) -> str:
        """What stands over the parts, such as `Files`."""

    @property
    def parts(self) -> Mapping[str, str]:
        """Where each part is, a path or an address, with what is in it."""

    @property
    def where_documents(self) -> str:
        """Where to find all documents, as a sentence in Markdown."""

    @property
    def where_failures(self) -> str:
        """Where to find all documents without a result, likewise."""
