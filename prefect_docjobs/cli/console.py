"""What all commands write to a terminal, a file or a pipe: lines, tables, progress bars and JSON."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeAlias

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pydantic import BaseModel

Flag: TypeAlias = Annotated[bool, Parameter(show_default=False)]
"""A switch of a command."""

# C0, DEL and C1: a terminal acts on them, and a new line breaks a row of a table.
_SPACES = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")
_UNESCAPED = re.compile("[\x7f-\x9f]")  # those of them that JSON does not escape


def printable(text: object) -> str:
    """Text from elsewhere, such as a name or an error, as one line without control characters.

    Each of them (C0, DEL and C1 of ISO 6429) becomes a space, so that no document moves the cursor, rings the
    bell or adds a row.
    """
    return str(text).translate(_SPACES)


class _Console(Console):
    """Leaves it to the command what happens when the reader of the output has left."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def output() -> Console:
    """Standard output, for what the command was called for; 80 columns where it is no terminal."""
    return _Console(highlight=False)


def messages() -> Console:
    """Standard error, for everything else."""
    return _Console(stderr=True, highlight=False)


def print_lines(console: Console, *lines: object, style: str = "") -> None:
    """Print lines as they are: control characters replaced, not wrapped, not read as markup."""
    for line in lines:
        console.print(Text(printable(line), style), soft_wrap=True)


def table(*, expand: bool = True) -> Table:
    """An empty table in the style of all commands."""
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=expand)


def cell(text: object, style: str = "") -> Text:
    """A table cell with text from elsewhere."""
    return Text(printable(text), style)


def print_json(value: object, *, indent: int | None = None) -> None:
    """Print plain JSON and flush: on one line, or indented.

    What a terminal acts on and what the encoding of standard output lacks is escaped, so nothing is lost.
    """
    escaped = not (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=escaped, indent=indent)
    print(_UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text), flush=True)


def print_model(model: BaseModel) -> None:
    """Print a model as a line of JSON, without what is None."""
    print_json(json.loads(model.model_dump_json(exclude_none=True)))


@dataclass(frozen=True)
class ProgressBar:
    """A progress bar that counts documents."""

    _progress: Progress
    _task: TaskID
    _title: str

    def advance(self, documents: int) -> None:
        """Count documents that have ended."""
        self._progress.advance(self._task, documents)

    def note(self, text: object) -> None:
        """Write something beside the title, such as how long the rest will take."""
        self._progress.update(self._task, description=f"{self._title}, {text}")


@contextmanager
def progress_bar(title: str, total: int, *, hidden: bool = False) -> Iterator[ProgressBar]:
    """Show a bar on standard error while the context is open, if that is a terminal."""
    console = messages()
    progress = Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        expand=True,
        redirect_stdout=False,  # it may be a pipe
        redirect_stderr=False,
    )
    bar = ProgressBar(progress, progress.add_task(title, total=total), title)
    # One that is disabled would still end with an empty line in Rich before 14.
    with nullcontext() if hidden or not console.is_terminal else progress:
        yield bar


@contextmanager
def usable_streams() -> Iterator[None]:
    """Standard streams that can be written to, whatever the shell, the encoding or the reader does."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # after `>&-` or `2>&-`; `print` would take the other stream
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open to the end)
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a document may hold what the encoding lacks
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # noqa: PERF203 (else the interpreter fails at exit, with a code of its own)
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
