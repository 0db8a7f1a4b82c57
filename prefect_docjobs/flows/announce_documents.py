"""The flow that tells Prefect of new files in a folder, for deployments that start when documents arrive."""

# No `from __future__ import annotations`; see flows/folder.py.

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import anyio.to_thread
from prefect import flow, runtime
from prefect.events import Event, get_events_client
from prefect.variables import Variable

from prefect_docjobs.flows._run import AtLeastOne, Seconds, documents_in
from prefect_docjobs.tasks._run import run_log

ARRIVED = "docjobs.documents.arrived"
"""The event: about a folder, with the names of the files that are new in it."""


def _run_name() -> str:
    given = runtime.flow_run.parameters
    return f"announce {Path(given['folder']).name or given['folder']}"


@flow(name="announce-documents", flow_run_name=_run_name)
async def announce_documents(
    folder: str,
    *,
    pattern: str = "*",
    recursive: bool = False,
    settled: Seconds = 5.0,
    at_once: AtLeastOne = 100,
) -> dict[str, Any]:
    """Tell Prefect of the files that are new in a folder since the last run, in events.

    Each event `docjobs.documents.arrived` names up to `at_once` files, so that many documents start a few
    runs and not one each. It is about the resource `docjobs.folder.<hash>`, with the folder's path as
    `docjobs.folder`; its payload has `folder`, `names` (paths inside the folder) and `count`.

    How far it came is kept in a Prefect variable, after the server has taken the events. A run that dies in
    between announces some files again, which costs nothing where a ledger is: what is paid for is not bought
    again. Give the deployment a schedule, such as every minute, and a concurrency limit of 1.

    Args:
        folder: The folder to watch. Copy sub-folders into it: the files of one that is moved look old.
        pattern: Which files, such as *.pdf. Hidden files are left out.
        recursive: Watch sub-folders, too.
        settled: Seconds since a file was last changed, moved or renamed; a younger one may still be written
            to, and is left to the next run.
        at_once: Files in one event.

    Returns:
        How many files were announced, and in how many events.

    Raises:
        InvalidDocument: The folder is not there or cannot be listed.
    """
    root = await anyio.to_thread.run_sync(lambda: Path(folder).expanduser().resolve())
    watermark = _Watermark(root, pattern, recursive)
    since = await watermark.read()
    found = await anyio.to_thread.run_sync(lambda: list(_files(root, pattern, recursive=recursive)))
    until = time.time_ns() - int(settled * 1e9)
    new = [file for file in sorted(found) if since < file.changed_at <= until]
    names = [file.name for file in new]
    events = [_event(root, some) for some in _chunks(names, at_once)]
    async with get_events_client() as client:  # leaving it waits until the server has them
        for event in events:
            await client.emit(event)
    if new:
        await watermark.write(new[-1].changed_at)
    run_log().info("Announced %d new files of %s in %d events", len(names), folder, len(events))
    return {"files": len(names), "events": len(events)}


@dataclass(frozen=True, order=True)
class _File:
    """A file, and when it last changed, came or was renamed (nanoseconds since 1970)."""

    changed_at: int
    name: str


def _files(root: Path, pattern: str, *, recursive: bool) -> Iterator[_File]:
    for document in documents_in(str(root), pattern, recursive=recursive):
        path = document.path or root / document.name
        with suppress(FileNotFoundError):  # it is gone meanwhile
            # Not the modification time: a file that is moved here keeps that of its past.
            yield _File(path.stat().st_ctime_ns, document.name)


@dataclass(frozen=True)
class _Watermark:
    """Up to when a folder was looked through, in a Prefect variable."""

    root: Path
    pattern: str
    recursive: bool

    @property
    def _name(self) -> str:
        which = f"{self.root} {self.pattern}" + (" recursive" if self.recursive else "")
        return f"docjobs_announced_{_hash(which)}"

    async def read(self) -> int:
        kept: object = await Variable.aget(self._name, {})
        return int(kept["changed_at"]) if isinstance(kept, dict) and kept else 0

    async def write(self, changed_at: int) -> None:
        # As text: a number of nanoseconds is more than JSON's numbers are sure to carry.
        value = {"folder": str(self.root), "changed_at": str(changed_at)}
        await Variable.aset(self._name, value, overwrite=True)


def _event(root: Path, names: Sequence[str]) -> Event:
    return Event(
        event=ARRIVED,
        resource={
            "prefect.resource.id": f"docjobs.folder.{_hash(str(root))}",
            "prefect.resource.name": root.name or str(root),
            "docjobs.folder": str(root),
        },
        payload={"folder": str(root), "names": list(names), "count": len(names)},
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _chunks(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    rest = iter(names)
    while some := list(islice(rest, size)):
        yield some
