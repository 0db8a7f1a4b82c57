"""`prefect-docjobs simulate`: the simulated services on an address of this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from json import loads
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.types import Port

from prefect_docjobs.cli.console import Flag, output, print_json, print_lines
from prefect_docjobs.cli.errors import WRONG_USE, CommandFailed

if TYPE_CHECKING:
    from prefect_docjobs.simulator.settings import Settings


def simulate(
    *,
    port: Port = 4040,
    host: str = "127.0.0.1",
    api_key: str = "simulator",
    seed: int = 0,
    duration: float = 2.0,
    failed_share: float = 0.0,
    stuck_share: float = 0.0,
    not_found_after_submit: float = 0.0,
    webhook_url: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    json: Flag = False,
) -> None:
    """Serve all four services on localhost until Ctrl-C, to try flows without a key.

    Args:
        port: TCP port; 0 takes a free one.
        host: Address to listen on.
        api_key: The one key that all services accept.
        seed: Start of every random choice.
        duration: Median seconds from the submit to the end of a job.
        failed_share: Jobs that fail although their document is good, 0 to 1.
        stuck_share: Jobs that never end, 0 to 1.
        not_found_after_submit: Seconds after a submit in which its job is answered with 404.
        webhook_url: Where to POST when a job has ended; {service} in it becomes the service's name.
        set_: Any other setting, as in --set faults.status.unavailable=0.1; may be repeated.
            GET /_simulator/settings shows all, PATCH changes them while it runs.
        json: Print the address and the key as a line of JSON.
    """
    from prefect_docjobs.simulator.server import run_in_thread

    options = {
        "api_key": api_key,
        "seed": seed,
        "duration": {"median": duration, "seconds": duration},
        "failed_share": failed_share,
        "stuck_share": stuck_share,
        "not_found_after_submit": not_found_after_submit,
        "webhooks": {"url": webhook_url},
    }
    settings = _settings(options, set_ or ())
    try:
        with run_in_thread(settings, host, port) as simulator:
            control = f"{simulator.base_url}/_simulator"
            if json:
                print_json({"url": simulator.base_url, "api_key": api_key, "control": control})
            else:
                print_lines(
                    output(),
                    f"The simulated services listen on {simulator.base_url}",
                    f"API key   {api_key}",
                    f"Control   {control}",
                    "Ctrl-C stops them.",
                )
            threading.Event().wait()
    except KeyboardInterrupt:
        return
    except OSError as problem:
        why = problem.strerror or problem
        raise CommandFailed(
            f"Cannot listen on {host} port {port}: {why}. Choose another with --port or --host.", WRONG_USE
        ) from problem


def _settings(options: Mapping[str, Any], assignments: Iterable[str]) -> Settings:
    from pydantic import ValidationError

    from prefect_docjobs.simulator.settings import Settings

    try:
        settings = Settings().merged(options)
        for assignment in assignments:
            settings = settings.merged(_patch(assignment))
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        sentence = f"Setting {name}: {first['msg'].removeprefix('Value error, ')}."
        if first["type"] == "extra_forbidden":
            sentence = f"The simulator has no setting {name}. See /_simulator/settings for all."
        raise CommandFailed(sentence, WRONG_USE) from None
    return settings


def _patch(assignment: str) -> dict[str, Any]:
    """`a.b=1` as `{"a": {"b": 1}}`; a value that is no JSON is a text."""
    name, found, text = assignment.partition("=")
    if not (found and name.strip()):
        raise CommandFailed(
            f"--set takes NAME=VALUE, such as faults.status.unavailable=0.1, not {assignment!r}.", WRONG_USE
        )
    try:
        patch = loads(text)
    except ValueError:
        patch = text
    for part in reversed(name.strip().split(".")):
        patch = {part: patch}
    return dict(patch)
