"""Files of JSON lines, complete under their names or not there at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import anyio
import anyio.to_thread
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python
from typing_extensions import Self

from prefect_docjobs.errors import ConfigurationError

_Model = TypeVar("_Model", bound=BaseModel)


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

    def path(self, name: str) -> Path:
        """Where a file is when it is complete."""
        return self.folder / name

    def partial(self, name: str) -> Path:
        """Where a file is until then, and stays if the run is broken off."""
        return self.folder / f"{name}.{self._run}.partial"

    @property
    def paths(self) -> list[str]:
        """Where the files are when they are complete."""
        return [str(self.path(name)) for name in self._names]

    @contextmanager
    def written(self) -> Iterator[Self]:
        """Open the files; name them as complete when the context closes without an exception.

        Raises:
            OSError: The folder or a file cannot be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._streams = {name: stack.enter_context(_opened(self.partial(name))) for name in self._names}
            yield self
        for name in self._names:
            self.partial(name).replace(self.path(name))

    async def write(self, lines: Iterable[tuple[str, Any]]) -> None:
        """Add lines, each with the name of its file, in a thread; they are there when this returns."""
        async with self._writing:
            await anyio.to_thread.run_sync(self._write, lines)

    def _write(self, lines: Iterable[tuple[str, Any]]) -> None:
        for name, content in lines:
            self._streams[name].write(json_line(content))
        for stream in self._streams.values():
            stream.flush()


def _opened(path: Path) -> IO[str]:
    # Half a surrogate pair, as in a file name that is not UTF-8, becomes its JSON escape.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")


def json_line(content: Any) -> str:
    """One line; numbers that JSON does not have, which some answers do, become null."""
    return json.dumps(to_jsonable_python(content, inf_nan_mode="null"), ensure_ascii=False) + "\n"


def read_lines(path: Path, model: type[_Model], one: str, all_of_them: str) -> list[_Model]:
    """What is in a file of JSON lines.

    Args:
        path: Of the file.
        model: What each line is.
        one: What errors call it, such as `dead letter`.
        all_of_them: The same of the file's contents.

    Raises:
        ConfigurationError: The file cannot be read, or a line is none of these.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines() breaks texts at U+2028 too
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigurationError(f"The {all_of_them} in {path} cannot be read: {problem}.") from None
    numbered = enumerate(lines, 1)
    return [_read(line, model, f"{path}, line {n} is no {one}") for n, line in numbered if line.strip()]


def _read(line: str, model: type[_Model], wrong: str) -> _Model:
    try:
        return model.model_validate_json(line)
    except ValidationError as problem:
        where = ", ".join(".".join(map(str, error["loc"])) or error["msg"] for error in problem.errors())
        raise ConfigurationError(f"{wrong}: {where}.") from None
