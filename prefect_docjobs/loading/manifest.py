"""Which Parquet files count: written last, so that files of a load that died are none."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping

from pydantic import BaseModel, Field, ValidationError

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.loading.kinds import Kind
from prefect_docjobs.loading.tables import OF_A_DOCUMENT, TABLES

NAME = "_manifest.json"
STATE = "_state"
_PART = re.compile(r"[0-9a-f]{12}-[0-9a-f]{8}", re.ASCII)


class Manifest(BaseModel):
    """What is in a folder of Parquet files.

    Attributes:
        version: Of this form.
        parts: For each part the tables that it has a file of, at `<table>/<part>.parquet`.
        state: The part whose file in `_state` and in `files` counts; None before the first.
        columns: The columns that the evolving tables have beside the fixed ones, with their kinds.
    """

    version: int = 1
    parts: dict[str, list[str]] = Field(default_factory=dict)
    state: str | None = None
    columns: dict[str, dict[str, Kind]] = Field(default_factory=dict)

    @classmethod
    def read(cls, content: bytes, where: str) -> Manifest:
        """The manifest that `content` is.

        Raises:
            ConfigurationError: It is none, or of a later version.
        """
        try:
            manifest = cls.model_validate_json(content)
        except ValidationError:
            raise ConfigurationError(
                f"{where}: its {NAME} is none of this flow. Give another folder."
            ) from None
        if manifest.version != 1:
            raise ConfigurationError(f"{where} was written by a later version of prefect-docjobs.")
        return manifest

    def kinds(self, table: str) -> dict[str, Kind | None]:
        """All columns of a table."""
        return {**TABLES[table], **self.columns.get(table, {})}

    def add_columns(self, table: str, columns: Mapping[str, Kind]) -> None:
        """Take up new columns of a table."""
        self.columns.setdefault(table, {}).update(columns)

    def counts(self, folder: str, name: str) -> bool:
        """Whether a file in one of the folders is one of these, or none that was made here at all."""
        part = name.removesuffix(".parquet")
        if not _PART.fullmatch(part):
            return True
        if folder in OF_A_DOCUMENT:
            return folder in self.parts.get(part, ())
        return part == self.state


def new_part() -> str:
    """A name that no other part has; names sort as they were made."""
    return f"{time.time_ns() // 1_000_000:012x}-{secrets.token_hex(4)}"
