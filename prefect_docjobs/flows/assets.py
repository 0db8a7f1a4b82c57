"""What a run writes as Prefect assets, with their lineage from the folder of the documents.

Assets are events; where nothing keeps or shows them, nothing is lost.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE

from prefect_docjobs.flows.artifacts import not_fatal
from prefect_docjobs.flows.files import FAILURES, RESULTS, ROWS, ResultFiles
from prefect_docjobs.flows.report import Tally
from prefect_docjobs.loading import public_address
from prefect_docjobs.tasks.journal import Log

_MOST = 512  # characters of a key that Prefect takes
_REFUSED = re.compile(r"""[\s\x00#?&%"'<>\[\]{}|\\^`]""")
_SAID = {
    RESULTS: "A whole result per line, of each document that was delivered.",
    FAILURES: "A dead letter per line, of each document that has no result.",
    ROWS: "A flat row per line, of each document.",
}


def file_asset(path: str | Path, description: str | None = None) -> Asset:
    """The asset of a file or folder.

    Its key is `file://` and the absolute path; characters that Prefect refuses in keys become `_`, and a path
    that is too long is cut, with a hash of all of it at the end.
    """
    path = Path(path).expanduser().absolute()
    return _asset("file", path.as_posix(), path.name or str(path), description)


def asset_at(place: str, description: str | None = None) -> Asset:
    """The asset of a path, see `file_asset`, or of an address.

    The key of an address is its `public_address`; characters and length as for paths.
    """
    scheme, is_address, where = public_address(place).partition("://")
    if not is_address:
        return file_asset(place, description)
    return _asset(scheme.rpartition("::")[2], where, where.rpartition("/")[2] or where, description)


def _asset(scheme: str, where: str, name: str, description: str | None) -> Asset:
    key = f"{scheme}://" + _REFUSED.sub("_", where.encode(errors="replace").decode())
    if len(key) > _MOST:
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        key = f"{key[: _MOST - len(digest) - 1]}-{digest}"
    return Asset(key=key, properties=AssetProperties(name=name, description=description))


async def materialize_files(tally: Tally, files: ResultFiles, *, source: str, job: str, log: Log) -> None:
    """Tell Prefect that the files of a run were made of what is in `source`, in one small task run."""
    places = {str(files.path(name)): said for name, said in _SAID.items()}
    metadata = sums_of(tally, job)
    await materialize_places(places, metadata, what=f"{len(places)} files", source=source, log=log)


async def materialize_places(
    places: Mapping[str, str], metadata: Mapping[str, Any], *, what: str, source: str, log: Log
) -> None:
    """Tell Prefect that what is at `places` was made of what is in `source`, in one small task run.

    Args:
        places: Paths or addresses, each with what is there.
        metadata: What is told of each.
        what: The places in a few words, for the name of the task run.
        source: The folder of the documents: a path or an address.
        log: Of the flow run.
    """
    await not_fatal(_materialize(places, dict(metadata), what, source), "lineage", log)


async def _materialize(places: Mapping[str, str], metadata: dict[str, Any], what: str, source: str) -> None:
    assets = [asset_at(place, said) for place, said in places.items()]

    @materialize(
        *assets,
        by="prefect-docjobs",
        asset_deps=[asset_at(source)],
        name="record-outputs",
        task_run_name=f"record {what}",
        tags=["docjobs"],
        cache_policy=NO_CACHE,
    )
    async def record() -> None:
        for asset in assets:
            add_asset_metadata(asset, metadata)

    await record()


def sums_of(tally: Tally, job: str) -> dict[str, Any]:
    """What is told of everything that a run has made."""
    told = tally.totals()
    known = {name: told[name] for name in ("documents", "delivered", "failed", "reasons", "pages", "credits")}
    return {"job": job, **known, "cost": tally.cost}
