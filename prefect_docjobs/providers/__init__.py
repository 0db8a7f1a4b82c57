"""The registry: one line per provider, imported on first use. Tests run over it, so none is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.providers.base import Capabilities, Provider

PROVIDERS: Mapping[str, str] = MappingProxyType(
    {
        "mindee": "Mindee",
        "mindee_v1": "MindeeV1",
        "numind": "NuMind",
        "unsiloed": "Unsiloed",
    }
)
"""Registry name (also the module's name) and class of each provider, in alphabetical order."""


def provider_class(name: str) -> type[Provider]:
    """The class of a provider. Raises `ConfigurationError` for a name that is not registered."""
    if name not in PROVIDERS:
        raise ConfigurationError(f"No provider is called {name!r}. There are: {', '.join(PROVIDERS)}.")
    found: type[Provider] = getattr(import_module(f"{__name__}.{name}"), PROVIDERS[name])
    return found


__all__ = ["PROVIDERS", "Capabilities", "Provider", "provider_class"]
