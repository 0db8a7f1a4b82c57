"""What people see: consoles and progress bars that also look good in a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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


def output() -> Console:
    """Standard output, for what was asked for. As wide as the terminal; 80 columns in a file."""
    return Console(highlight=False)


def messages() -> Console:
    """Standard error, for everything else."""
    return Console(stderr=True, highlight=False)


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
    with Progress(
        *columns,
        console=console,
        disable=hidden or not console.is_terminal,
        transient=True,
        expand=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as progress:
        task = progress.add_task(what, total=total)
        yield Advance(progress, task, what)
