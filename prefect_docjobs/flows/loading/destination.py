"""Where a load goes, as people are told of it: never with a user, a password or an option of the address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefect_docjobs.flows._report import public_address
from prefect_docjobs.loading.tables import DOCUMENTS, FIELDS, FILES, LINE_ITEMS

_POSTGRESQL = ("postgresql", "postgres")


@dataclass(frozen=True)
class Destination:
    """The tables of a load; see `Outputs`.

    Attributes:
        place: An absolute path, or an address such as `postgresql://db.example.com/warehouse`.
        schema: The schema that the tables were told to be in; None for the destination's usual one.
    """

    place: str
    schema: str | None = None

    @classmethod
    def of(cls, address: str, schema: str | None = None) -> Destination:
        """What may be told of an address that `open_store` takes."""
        scheme, _, rest = address.partition(":")
        if scheme in _POSTGRESQL:
            return cls(_server(address), schema)
        path = rest.removeprefix("///") if scheme == "duckdb" else rest if scheme == "parquet" else address
        if "://" in path:
            return cls(public_address(path), schema)
        return cls(str(Path(path).expanduser().absolute()), schema)

    @property
    def asset(self) -> str:
        """What the asset is made of: the schema is part of it, as in the addresses of tables."""
        return f"{self.place}/{self.schema}" if self.schema and "://" in self.place else self.place

    @property
    def content(self) -> str:
        """The tables in words."""
        tables = f"the tables {DOCUMENTS}, {FIELDS}, {LINE_ITEMS} and {FILES}"
        return f"{tables}, in the schema {self.schema}" if self.schema else tables

    @property
    def heading(self) -> str:
        """See `Outputs`, as for those that follow."""
        return "Destination"

    @property
    def parts(self) -> Mapping[str, str]:
        """The place with its tables."""
        return {self.place: self.content}

    @property
    def where_documents(self) -> str:
        """The table with the documents, and those with what is in them."""
        return f"`{DOCUMENTS}` has them all, `{FIELDS}` and `{LINE_ITEMS}` all of their values."

    @property
    def where_failures(self) -> str:
        """The rows without a result, and the files that could not be read."""
        return f"They are the rows of `{DOCUMENTS}` with a `reason`, and those of `{FILES}` with an `error`."


def _server(address: str) -> str:
    """Host, port and database, as libpq's addresses tell them."""
    from sqlalchemy.engine import URL, make_url

    url = make_url(address)
    host = url.host or str(url.query.get("host") or "")
    shown = URL.create(
        "postgresql",
        host="localhost" if not host or host.startswith("/") else host,
        port=url.port,
        database=url.database,
    )
    return shown.render_as_string()
