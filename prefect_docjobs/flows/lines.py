"""Files of JSON lines, complete under their names or not there at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import anyio
import anyio.to_thread
from pydantic_core import to_jsonable_python


class LineFiles:
    """Several files in one folder; until they are complete they bear the run behind their names.

    Args:
        folder: Where to; made if it is not there.
        names: Of the files.
        run: A name for the partial files that no other run has.
    """

    def __init__(self, folder: Path, names: Sequence[str], run: str) -> None:
        self.folder = folder
        self._names = names
        self._run = run
        self._streams: dict[str, IO[str]] = {}
        self._writing = anyio.Lock()

    @property
    def paths(self) -> list[str]:
        """Where the files are when they are complete."""
        return [str(self.folder / name) for name in self._names]

    @contextmanager
    def written(self) -> Iterator[LineFiles]:
        """Open the files; name them as complete when the context closes without an exception.

        Raises:
            OSError: The folder or a file cannot be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = {name: self.folder / f"{name}.{self._run}.partial" for name in self._names}
        with ExitStack() as stack:
            self._streams = {
                # Half a surrogate pair, as in a file name that is not UTF-8, becomes its JSON escape.
                name: stack.enter_context(
                    path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
                )
                for name, path in partial.items()
            }
            yield self
        for name, path in partial.items():
            path.replace(self.folder / name)

    async def write(self, lines: Mapping[str, Iterable[Any]]) -> None:
        """Add lines to files by their names, in a thread."""
        async with self._writing:
            await anyio.to_thread.run_sync(self._write, lines)

    def _write(self, lines: Mapping[str, Iterable[Any]]) -> None:
        for name, contents in lines.items():
            self._streams[name].writelines(map(json_line, contents))
            self._streams[name].flush()


def json_line(content: Any) -> str:
    """One line; numbers that JSON does not have, which some answers do, become null."""
    return json.dumps(to_jsonable_python(content, inf_nan_mode="null"), ensure_ascii=False) + "\n"
