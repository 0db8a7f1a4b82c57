"""How a command ends: an exit code, and one sentence on standard error when something is wrong."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import NoReturn

from cyclopts import CycloptsError

from prefect_docjobs.cli.console import printable, usable_streams
from prefect_docjobs.errors import DocJobsError

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
BROKEN_PIPE = 141  # 128 + SIGPIPE, which Windows lacks

debugging: ContextVar[bool] = ContextVar("debugging", default=False)
"""Whether `--debug` was given."""


class CommandFailed(Exception):
    """A command cannot go on.

    Args:
        message: What is wrong and what to do, in one sentence or two.
        code: The exit code.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command to its exit code, whatever happens.

    Args:
        command: Returns the exit code; None is 0. Where it sets `debugging`, an error's traceback is shown.
    """
    debugging.set(False)
    try:
        with usable_streams():
            try:
                with _sigterm_as_exit():
                    code = command() or 0
                    sys.stdout.flush()  # at exit it is too late to report a full disk
                    return code
            except BrokenPipeError:
                raise
            except (Exception, KeyboardInterrupt, SystemExit) as problem:  # noqa: BLE001
                return _report(problem)
    except BrokenPipeError:  # the reader of the output has left, as `head` does
        return BROKEN_PIPE


def _report(problem: BaseException) -> int:
    match problem:
        case KeyboardInterrupt() | SystemExit(code=130):  # the latter is how an interrupted flow ends
            sentence, code = "Stopped.", INTERRUPTED
        case SystemExit():
            return problem.code if isinstance(problem.code, int) else FAILED
        case _:
            if debugging.get():
                for line in traceback.format_exc().splitlines():
                    print(printable(line), file=sys.stderr)
            sentence, code = _sentence(problem)
    print(f"prefect-docjobs: {printable(sentence)}", file=sys.stderr)
    return code


def _sentence(problem: BaseException) -> tuple[str, int]:
    match problem:
        case CycloptsError():
            return f"{str(problem).strip()} See prefect-docjobs --help.", WRONG_USE
        case CommandFailed(code=code):
            return str(problem), code
        case DocJobsError(exit_code=code):
            return str(problem), code
        case OSError(strerror=str(why), filename=name):
            return f"{why}: {name}" if name else f"{why}.", FAILED
        case _:
            what = " ".join(str(problem).split()) or "no message"
            return f"{type(problem).__name__}: {what} (--debug shows where)", FAILED


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Leave through every `finally` on SIGTERM too, so that nothing that was started is left running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
