"""The files of a run as Prefect assets, with their lineage from the folder of the documents.

Assets are events; where nothing keeps or shows them, nothing is lost.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE

from prefect_docjobs.flows.artifacts import not_fatal
from prefect_docjobs.flows.files import FAILURES, RESULTS, ROWS, ResultFiles
from prefect_docjobs.flows.report import Tally
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
    key = "file://" + _REFUSED.sub("_", path.as_posix().encode(errors="replace").decode())
    if len(key) > _MOST:
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        key = f"{key[: _MOST - len(digest) - 1]}-{digest}"
    return Asset(key=key, properties=AssetProperties(name=path.name or str(path), description=description))


async def materialize_files(tally: Tally, files: ResultFiles, *, source: str, job: str, log: Log) -> None:
    """Tell Prefect that the files of a run were made of what is in `source`, in one small task run."""
    await not_fatal(_materialize(tally, files, source, job), "lineage", log)


async def _materialize(tally: Tally, files: ResultFiles, source: str, job: str) -> None:
    assets = [file_asset(files.path(name), said) for name, said in _SAID.items()]
    metadata = _metadata(tally, job)

    @materialize(
        *assets,
        by="prefect-docjobs",
        asset_deps=[file_asset(source)],
        name="record-files",
        task_run_name=f"record {len(assets)} files",
        tags=["docjobs"],
        cache_policy=NO_CACHE,
    )
    async def record() -> None:
        for asset in assets:
            add_asset_metadata(asset, metadata)

    await record()


def _metadata(tally: Tally, job: str) -> dict[str, Any]:
    told = tally.totals()
    known = {name: told[name] for name in ("documents", "delivered", "failed", "reasons", "pages", "credits")}
    return {"job": job, **known, "cost": tally.cost}
