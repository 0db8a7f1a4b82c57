"""The command: which scenarios, how often, and whether all of them held."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table

from torture import disturbances, scenarios
from torture.arena import Verdict
from torture.steps import STEPS

Scenario = Callable[[], Verdict | None]

_ALL = ("steps", "services", "ledgers", "workers", "disturbances", "random", "flows")
_FLOW_STEPS = (
    "after the intent",
    "after submitted",
    "received, not kept",
)  # each with a Prefect server of its own
_OVER_TLS = ("numind", "mindee")  # one that lists its jobs, and one that does not
_COLUMNS = (
    "documents", "kills", "delivered", "duplicates", "uncertain", "window", "crossed", "lost",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios, print the table; 1 when anything was bought twice, crossed or lost."""
    asked = _parser().parse_args(arguments)
    console = Console(highlight=False, width=None if Console().is_terminal else 150)
    verdicts = list[Verdict]()
    for scenario in _scenarios(asked):
        began = time.monotonic()
        verdict = scenario()
        if verdict is None:
            console.print(
                "left out: no small disk can be mounted here, or no PostgreSQL is there", style="dim"
            )
            continue
        verdicts.append(verdict)
        seconds = time.monotonic() - began
        figures = ", ".join(f"{name} {getattr(verdict, name)}" for name in _COLUMNS)
        console.print(f"{verdict.service}: {verdict.scenario}, {seconds:.0f} s: {figures}", style="dim")
    console.print(_table(verdicts))
    for verdict in verdicts:
        for sentence in verdict.told:
            console.print(f"{verdict.service}, {verdict.scenario}: {sentence}")
    return 0 if verdicts and all(verdict.held for verdict in verdicts) else 1


def _scenarios(asked: argparse.Namespace) -> Iterator[Scenario]:
    kinds: dict[str, Callable[[str], Iterator[Scenario]]] = {
        "short": lambda service: iter([partial(scenarios.a_few_kills, service)]),
        "amnesia": lambda service: iter([partial(scenarios.amnesia, service)]),
        "steps": lambda service: (partial(scenarios.named_step, service, step) for step in STEPS),
        "services": _bad_services,
        "ledgers": _bad_ledgers,
        "workers": _workers,
        "alone": lambda service: iter([partial(disturbances.stopped_alone, service)]),
        "disturbances": _disturbances,
        "random": partial(_random, asked=asked),
        "flows": lambda service: (partial(scenarios.in_a_flow, service, step) for step in _FLOW_STEPS),
    }
    for kind in asked.only:
        for service in asked.services:
            yield from kinds[kind](service)


def _bad_services(service: str) -> Iterator[Scenario]:
    yield partial(scenarios.lost_answers, service)
    yield partial(scenarios.broken_results, service)


def _bad_ledgers(service: str) -> Iterator[Scenario]:
    yield partial(scenarios.refusing_ledger, service)
    yield partial(scenarios.breaking_ledger, service)
    yield partial(scenarios.full_disk, service)


def _workers(service: str) -> Iterator[Scenario]:
    yield partial(scenarios.two_workers, service)
    yield partial(scenarios.two_workers_one_killed, service)
    yield partial(scenarios.stopped_worker, service)


def _disturbances(service: str) -> Iterator[Scenario]:
    yield partial(disturbances.stopped_alone, service)
    yield partial(disturbances.blocked_loop, service)
    yield partial(disturbances.restarted_database, service)
    yield partial(disturbances.garbled_results, service)
    yield partial(disturbances.slow_rate, service)
    if service in _OVER_TLS:
        yield partial(disturbances.damaged_tls, service)
    yield partial(disturbances.changing_files, service)


def _random(service: str, *, asked: argparse.Namespace) -> Iterator[Scenario]:
    each, rest = divmod(asked.instants, len(asked.services))
    share = each + (asked.services.index(service) < rest)
    yield partial(scenarios.random_instants, service, share, asked.seed)


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="Pay once", title_justify="left", show_edge=False)
    table.add_column("service")
    table.add_column("scenario")
    for name in (*_COLUMNS, "held?"):
        table.add_column(name, justify="right")
    for verdict in verdicts:
        figures = (str(getattr(verdict, name)) for name in _COLUMNS)
        table.add_row(verdict.service, verdict.scenario, *figures, "yes" if verdict.held else "NO")
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m torture", description="Pay once, put to the test.")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=(*_ALL, "short", "alone", "amnesia"),
        default=_ALL,
        help="kinds of scenarios",
    )
    parser.add_argument("--services", nargs="+", choices=scenarios.SERVICES, default=scenarios.SERVICES)
    parser.add_argument("--instants", type=int, default=100, help="random instants, over all services")
    parser.add_argument("--seed", type=int, default=0, help="of the random instants")
    return parser
