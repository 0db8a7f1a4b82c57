"""The services and what each of them can do, from the registry."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

from prefect_docjobs.cli.screen import output, print_json
from prefect_docjobs.providers import Provider, provider_classes

_ABILITIES = {
    "list_jobs": "list jobs",
    "stream": "stream",
    "cancel": "cancel",
    "push": "push",
    "url_input": "URL input",
}


def show_providers(*, as_json: bool = False) -> None:
    """Print a table, or JSON: a list with an object for each service."""
    services = provider_classes()
    if as_json:
        print_json([_described(service) for service in services], indent=2)
        return
    output().print(_table(services))


def _described(service: type[Provider]) -> dict[str, Any]:
    able = service.capabilities
    return {
        "name": service.name,
        "title": service.title,
        "products": list(service.products),
        "base_url": service.default_base_url,
        "api_key_variable": service.env_key,
        "api_key_required": service.key_required,
        **{ability: getattr(able, ability) for ability in _ABILITIES},
        "media_types": None if able.media_types is None else sorted(able.media_types),
        "max_bytes": able.max_bytes,
    }


def _table(services: list[type[Provider]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Provider", no_wrap=True)
    table.add_column("Products")
    table.add_column("Can")
    table.add_column("Takes")
    for service in services:
        able = service.capabilities
        can = ", ".join(word for ability, word in _ABILITIES.items() if getattr(able, ability))
        products = ", ".join(service.products) or "each of its catalogue"
        table.add_row(service.name, products, can or "-", _taken(service))
        table.add_section()
    return table


def _taken(service: type[Provider]) -> str:
    able = service.capabilities
    kinds = ", ".join(sorted(kind.rsplit("/", 1)[-1] for kind in able.media_types or ())) or "any file"
    return f"{kinds}; at most {able.max_bytes >> 20} MiB" if able.max_bytes else kinds
