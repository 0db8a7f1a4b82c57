"""What people see: consoles and progress bars that also look good in a file."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NoReturn

from pydantic import BaseModel
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

# C0, DEL and C1: a terminal acts on them, and a new line breaks a row of a table.
_SPACES = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")

_UNESCAPED = re.compile("[\x7f-\x9f]")  # what JSON may hold of them


def printable(text: object) -> str:
    """A text that comes from elsewhere, such as a name or an error, as one line without commands.

    Each control character (C0, DEL and C1 of ISO 6429) becomes a space, so that nobody's document moves the
    cursor, rings the bell or adds a row.

    Args:
        text: Or what `str` makes one of.
    """
    return str(text).translate(_SPACES)


class Advance:
    """Moves a progress bar on. Call it with how many more documents have ended."""

    def __init__(self, progress: Progress, task: TaskID, what: str) -> None:
        self._progress = progress
        self._task = task
        self._what = what

    def __call__(self, ended: int) -> None:
        """Count documents that have ended."""
        self._progress.advance(self._task, ended)

    def note(self, told: object) -> None:
        """Write something beside the bar, such as how long the rest will take."""
        self._progress.update(self._task, description=f"{self._what}, {told}")


class _Screen(Console):
    """A console that leaves it to the command what becomes of a reader that has left."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def output() -> Console:
    """Standard output, for what was asked for. As wide as the terminal; 80 columns in a file."""
    return _Screen(highlight=False)


def messages() -> Console:
    """Standard error, for everything else."""
    return _Screen(stderr=True, highlight=False)


def print_json(value: object, *, indent: int | None = None) -> None:
    """Print a value for programs, at once: on one line, or as a document that is indented.

    What the encoding of standard output lacks, or a terminal acts on, is escaped, so that nothing is lost.

    Args:
        value: Plain JSON, or a pydantic model; what a model has as None is left out.
        indent: Spaces of each level; None for one line.
    """
    plain = json.loads(value.model_dump_json(exclude_none=True)) if isinstance(value, BaseModel) else value
    escaped = not (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(plain, ensure_ascii=escaped, indent=indent)
    print(_UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text), flush=True)


@contextmanager
def progress_bar(what: str, total: int, *, hidden: bool = False) -> Iterator[Advance]:
    """A bar on standard error while the context is open; none where that is no terminal.

    Standard output is left alone: it may be a pipe.
    """
    console = messages()
    columns = (
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    progress = Progress(
        *columns,
        console=console,
        transient=True,
        expand=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    advance = Advance(progress, progress.add_task(what, total=total), what)
    # One that is disabled would still end with an empty line in Rich before 14.
    with nullcontext() if hidden or not console.is_terminal else progress:
        yield advance
