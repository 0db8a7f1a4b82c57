"""The simulator in a terminal."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from prefect_docjobs.cli.exits import WRONG_USE, CommandFailed, check_port
from prefect_docjobs.cli.screen import output, print_json
from prefect_docjobs.simulator.server import Running, run_in_thread
from prefect_docjobs.simulator.settings import Settings


def settings_from(shortcuts: Mapping[str, Any], assignments: Iterable[str]) -> Settings:
    """The settings that a command line asks for.

    Args:
        shortcuts: Settings with an option of their own, by name.
        assignments: Others, each as `dotted.name=value`; the value is JSON, or else a text.

    Raises:
        CommandFailed: There is no such setting, or its value is out of range.
    """
    try:
        settings = Settings().merged(shortcuts)
        for assignment in assignments:
            settings = settings.merged(_patch(assignment))
    except ValidationError as problem:
        raise CommandFailed(_wrong(problem), WRONG_USE) from None
    return settings


def serve_until_stopped(settings: Settings, host: str, port: int, *, as_json: bool = False) -> None:
    """Serve, say where, and stop at Ctrl-C.

    Args:
        settings: Of the services.
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        as_json: Say it as a line of JSON.

    Raises:
        CommandFailed: The address cannot be listened on.
    """
    check_port(port)
    try:
        with run_in_thread(settings, host, port) as simulator:
            _announce(simulator, settings.api_key, as_json=as_json)
            threading.Event().wait()
    except KeyboardInterrupt:
        return
    except OSError as problem:
        why = problem.strerror or problem
        raise CommandFailed(
            f"Cannot listen on {host} port {port}: {why}. Choose another with --port or --host.", WRONG_USE
        ) from problem


def _announce(simulator: Running, api_key: str, *, as_json: bool) -> None:
    control = f"{simulator.base_url}/_simulator"
    if as_json:
        print_json({"url": simulator.base_url, "api_key": api_key, "control": control})
        return
    output().print(
        f"The simulated services listen on {simulator.base_url}\n"
        f"API key   {api_key}\n"
        f"Control   {control}\n"
        "Ctrl-C stops them.",
        soft_wrap=True,
        markup=False,
    )


def _patch(assignment: str) -> dict[str, Any]:
    """`a.b=1` as `{"a": {"b": 1}}`."""
    name, found, text = assignment.partition("=")
    if not (found and name.strip()):
        raise CommandFailed(
            f"--set takes NAME=VALUE, such as faults.status.unavailable=0.1, not {assignment!r}.", WRONG_USE
        )
    patch = _value(text)
    for part in reversed(name.strip().split(".")):
        patch = {part: patch}
    return dict(patch)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _wrong(problem: ValidationError) -> str:
    """The first thing that is wrong, by its name on the command line."""
    first = problem.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"The simulator has no setting {name}. See /_simulator/settings for all."
    return f"Setting {name}: {first['msg'].removeprefix('Value error, ')}."
