"""The documents of a folder, as every flow takes them."""

from __future__ import annotations

from collections.abc import Collection

import anyio.to_thread
from prefect import task
from prefect.cache_policies import INPUTS, RUN_ID

from prefect_docjobs.flows.files import is_ours
from prefect_docjobs.models import Document


def documents_in(
    folder: str, pattern: str = "*", *, recursive: bool = False, names: Collection[str] | None = None
) -> list[Document]:
    """The documents of a folder in the order of their names, without the files that runs write.

    Args:
        folder: The folder.
        pattern: A glob for file names, such as `*.pdf`. Hidden files are left out.
        recursive: Take the files of sub-folders too.
        names: Only these of them, by their paths inside the folder; None for all.

    Raises:
        InvalidDocument: The folder is not there or cannot be listed.
    """
    found = Document.from_folder(folder, pattern, recursive=recursive)
    given = [document for document in found if document.path and not is_ours(document.path)]
    if names is None:
        return given
    wanted = set(names)
    return [document for document in given if document.name in wanted]


# Kept for the replays of the same run only, which go on with its documents whatever the folder has by then.
@task(name="list-documents", tags=["docjobs"], persist_result=True, cache_policy=RUN_ID + INPUTS)
async def list_documents_once(
    folder: str, pattern: str, *, recursive: bool, at_most: int | None
) -> list[tuple[str, str]]:
    """The names and paths of the documents, in the order of their names; a replay gets the same ones."""

    def found() -> list[tuple[str, str]]:
        documents = documents_in(folder, pattern, recursive=recursive)[:at_most]
        return [(document.name, str(document.path)) for document in documents]

    return await anyio.to_thread.run_sync(found)
