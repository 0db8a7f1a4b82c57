"""The ledger of a run, with Prefect's result storage for large results."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from prefect.blocks.core import Block
from prefect.filesystems import ReadableFileSystem, WritableFileSystem
from prefect.results import aget_default_result_storage
from prefect.settings import get_current_settings

from prefect_docjobs.blocks.sharing import lending
from prefect_docjobs.ledger import setting
from prefect_docjobs.ledger.bodies import RESULT_STORAGE

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger


@asynccontextmanager
async def open_ledger() -> AsyncIterator[Ledger]:
    """The ledger of this process, or one in memory where it is switched off.

    Large results go to Prefect's default result storage where one is set. Those that another process put into
    a result storage are read from there, whatever is set here.
    """
    bodies = await _result_storage()
    readable = () if bodies else (StoredBodies(),)
    async with setting.open_ledger(bodies, readable) as ledger:
        if ledger.in_memory:
            yield ledger
            return
        async with lending(ledger):
            yield ledger


class StoredBodies:
    """Results in Prefect's file systems, at `prefect:<storage block>/<key>`.

    Args:
        block: The saved block to write to, such as `s3-bucket/results`; None where nothing is written.
        storage: The same, loaded.
    """

    store = RESULT_STORAGE

    def __init__(self, block: str | None = None, storage: WritableFileSystem | None = None) -> None:
        self._block = block
        self._loaded: dict[str, ReadableFileSystem | WritableFileSystem] = {}
        if block and storage:
            self._loaded[block] = storage

    async def write(self, name: str, data: bytes) -> str:
        """Write; returns where."""
        block, key = self._block or "", f"docjobs/{name}"
        with _as_os_error():
            await _called(self._loaded[block], "write_path", key, data)
        return f"{self.store}:{block}/{key}"

    async def read(self, place: str) -> bytes:
        """Read what was written there; a place of an older version does not say which block it is in."""
        kind, _, rest = place.removeprefix(f"{self.store}:").partition("/")
        name, _, key = rest.partition("/")
        named = place.startswith(f"{self.store}:")
        block, key = (f"{kind}/{name}", key) if named else (self._block or "", place)
        with _as_os_error():
            found: bytes = await _called(await self._storage(block), "read_path", key)
        return found

    async def _storage(self, block: str) -> ReadableFileSystem | WritableFileSystem:
        if block not in self._loaded:
            found: object = await Block.aload(block)
            if not isinstance(found, (ReadableFileSystem, WritableFileSystem)):
                raise OSError(f"{block} is no file system")
            self._loaded[block] = found
        return self._loaded[block]


async def _called(storage: ReadableFileSystem | WritableFileSystem, name: str, *arguments: object) -> Any:
    """What a file system's method returns.

    In a run of a sync task Prefect's plain methods are sync, also on a running loop; their async forms have
    an `a` before the name, which not every file system has.
    """
    answer = getattr(storage, f"a{name}", getattr(storage, name))(*arguments)
    return await answer if isawaitable(answer) else answer


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Each file system has errors of its own."""
    try:
        yield
    except OSError:
        raise
    except Exception as problem:
        raise OSError(f"{type(problem).__name__}: {problem}") from problem


async def _result_storage() -> StoredBodies | None:
    block = get_current_settings().results.default_storage_block
    return None if block is None else StoredBodies(block, await aget_default_result_storage())
