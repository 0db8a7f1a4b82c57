"""How a command ends: an exit code, and one sentence on standard error when something is wrong."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TextIO

from cyclopts import CycloptsError

from prefect_docjobs.cli.quiet import debugging
from prefect_docjobs.cli.screen import printable
from prefect_docjobs.errors import DocJobsError

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
_BROKEN_PIPE = 141  # 128 + SIGPIPE, which Windows lacks
_LAST_PORT = 65535


class CommandFailed(Exception):
    """A command cannot go on; the message is the sentence that the user reads.

    Args:
        message: One sentence, or two: what is wrong, and what to do.
        code: The exit code.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def check_port(port: int) -> None:
    """Raise `CommandFailed` where there is no such TCP port; the system would take it modulo 65536."""
    if not 0 <= port <= _LAST_PORT:
        raise CommandFailed(f"There is no port {port}. Give one from 0 to {_LAST_PORT}.", WRONG_USE)


def guarded(run: Callable[[], int | None]) -> int:
    """Run a command to its exit code, whatever happens.

    Args:
        run: The command; None is 0. Where it sets `debugging`, the traceback comes before the sentence.
    """
    _open_what_is_closed()
    debugging.set(False)
    _print_whatever_the_terminal_knows()
    try:
        return _exit_code(run)
    except BrokenPipeError:  # the reader of our messages has left, too
        return _BROKEN_PIPE
    finally:
        _drop_what_cannot_be_written()


def _exit_code(run: Callable[[], int | None]) -> int:
    try:
        with _terminated_like_interrupted():
            code = run() or 0
            sys.stdout.flush()  # here, for at exit it is too late to say that the disk is full
            return code
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _say("Stopped.", INTERRUPTED)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # as a flow that is interrupted ends
            return _say("Stopped.", INTERRUPTED)
        return end.code if isinstance(end.code, int) else FAILED
    except Exception as problem:  # noqa: BLE001 (every way to fail ends in a sentence)
        if debugging.get():
            _print_traceback()
        return _say(*_sentence(problem))


def _say(sentence: str, code: int) -> int:
    print(f"prefect-docjobs: {printable(sentence)}", file=sys.stderr)
    return code


def _print_traceback() -> None:
    """That of the exception being handled; its text may come from a stranger's document."""
    for line in traceback.format_exc().splitlines():
        print(printable(line), file=sys.stderr)


def _open_what_is_closed() -> None:
    """`>&-` and `2>&-` leave None, which nothing can be written to; `print` would take the other stream."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open to the end)


def _drop_what_cannot_be_written() -> None:
    """Or else the interpreter complains about it at exit, with an exit code of its own."""
    for stream in (sys.stdout, sys.stderr):
        _flush_or_drop(stream)


def _flush_or_drop(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _sentence(problem: Exception) -> tuple[str, int]:
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
def _terminated_like_interrupted() -> Iterator[None]:
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


def _print_whatever_the_terminal_knows() -> None:
    """Documents may hold any character; one that the terminal's encoding lacks becomes a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
