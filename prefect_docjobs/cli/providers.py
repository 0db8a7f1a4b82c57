"""`prefect-docjobs providers`: the services and what each of them can do, from the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_docjobs.cli.console import Flag, output, print_json, table

if TYPE_CHECKING:
    from prefect_docjobs.providers import Provider

_ABILITIES = {
    "list_jobs": "list jobs",
    "stream": "stream",
    "cancel": "cancel",
    "push": "push",
    "url_input": "URL input",
}


def providers(*, json: Flag = False) -> None:
    """List the services and what each of them can do.

    Args:
        json: As JSON.
    """
    from prefect_docjobs.providers import provider_classes

    services = provider_classes()
    if json:
        print_json([_described(service) for service in services], indent=2)
        return
    shown = table(expand=False)
    shown.add_column("Provider", no_wrap=True)
    shown.add_column("Products")
    shown.add_column("Can")
    shown.add_column("Takes")
    for service in services:
        able = service.capabilities
        can = ", ".join(word for ability, word in _ABILITIES.items() if getattr(able, ability))
        takes = ", ".join(sorted(kind.rsplit("/", 1)[-1] for kind in able.media_types or ())) or "any file"
        most = f"; at most {able.max_bytes >> 20} MiB" if able.max_bytes else ""
        products = ", ".join(service.products) or "each of its catalogue"
        shown.add_row(service.name, products, can or "-", takes + most)
        shown.add_section()
    output().print(shown)


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
