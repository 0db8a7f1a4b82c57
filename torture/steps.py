"""The steps of a document at which a worker can be made to die. The product knows nothing of them."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from prefect_docjobs.http import Http
from prefect_docjobs.ledger import Ledger
from prefect_docjobs.providers import provider_class

HOLD = 0.05
"""Seconds that the service takes before it acts on a request, and again before the answer leaves."""

Chosen = Callable[..., bool]
"""Whether a call counts, given its arguments, or what it returned."""


class Trap:
    """Kills its own process, as `kill -9` does, when a step is reached for the n-th time.

    Args:
        nth: From 1.
    """

    def __init__(self, nth: int) -> None:
        self._left = nth

    def step(self, delay: float = 0.0) -> None:
        """Count; the last one kills, `delay` seconds later."""
        self._left -= 1
        if self._left == 0:
            if delay:
                asyncio.get_running_loop().call_later(delay, _die)
            else:
                _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _every(*_: object, **_options: object) -> bool:
    return True


def _is_result(_http: Http, request: Any, **_options: object) -> bool:
    return bool(request.verbatim)


def _is_mine(record: Any) -> bool:
    return bool(record.mine)


def _on_call(owner: type, name: str, delay: float = 0.0, chosen: Chosen = _every) -> Callable[[Trap], None]:
    """A step that is reached when a method is called, or so many seconds later."""

    def lay(trap: Trap) -> None:
        method = getattr(owner, name)

        @functools.wraps(method)
        def called(*args: Any, **options: Any) -> Any:
            if chosen(*args, **options):
                trap.step(delay)
            return method(*args, **options)

        setattr(owner, name, called)

    return lay


def _on_return(
    owner: type, name: str, delay: float = 0.0, chosen: Chosen = _every, *, given: Chosen | None = None
) -> Callable[[Trap], None]:
    """A step that is reached when an async method has returned, or so many seconds later."""

    def lay(trap: Trap) -> None:
        method = getattr(owner, name)

        @functools.wraps(method)
        async def called(*args: Any, **options: Any) -> Any:
            returned = await method(*args, **options)
            if chosen(returned) and (given is None or given(*args, **options)):
                trap.step(delay)
            return returned

        setattr(owner, name, called)

    return lay


def _while_parsing(trap: Trap) -> None:
    for name in ("mindee", "numind", "unsiloed"):
        _on_call(provider_class(name), "read_result")(trap)


STEPS: Mapping[str, Callable[[Trap], None]] = {
    "before the intent": _on_call(Ledger, "claim"),
    "after the intent": _on_return(Ledger, "claim", chosen=_is_mine),
    "sent, not acted on": _on_call(Http, "submit", HOLD / 2),
    "accepted, not answered": _on_call(Http, "submit", 1.5 * HOLD),
    "after the answer": _on_return(Http, "submit"),
    "after submitted": _on_return(Ledger, "submitted"),
    "while waiting": _on_return(Ledger, "submitted", 0.2),
    "after done": _on_return(Ledger, "done"),
    "during the GET": _on_call(Http, "send", HOLD / 2, _is_result),
    "given out, not received": _on_call(Http, "send", 1.5 * HOLD, _is_result),
    "received, not kept": _on_return(Http, "send", given=_is_result),
    "after fetched": _on_return(Ledger, "fetched"),
    "while parsing": _while_parsing,
}
"""How to lay a trap at each step, by name, in the order in which a document comes to them."""
