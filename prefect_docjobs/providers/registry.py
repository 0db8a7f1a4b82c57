"""Which services there are: ours, and those of other packages that declare an entry point.

A package adds a service with a line `name = "module:Class"` in its table
`[project.entry-points."prefect_docjobs.providers"]`. Every class is imported on first use. An entry point
that cannot be used is a warning that names it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.providers.base import Provider

GROUP = "prefect_docjobs.providers"

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "mindee": "prefect_docjobs.providers.mindee:Mindee",
        "mindee_v1": "prefect_docjobs.providers.mindee_v1:MindeeV1",
        "numind": "prefect_docjobs.providers.numind:NuMind",
        "unsiloed": "prefect_docjobs.providers.unsiloed:Unsiloed",
    }
)
"""Registry name and class of each service of this package, in alphabetical order."""


class UnusableProvider(UserWarning):
    """A package declares a provider that cannot be used; the message names both."""


def provider_names() -> list[str]:
    """The names of all services that are installed, in alphabetical order; nothing is imported."""
    return sorted(_declared())


def provider_class(name: str) -> type[Provider]:
    """The class of a service.

    Raises:
        ConfigurationError: No service has this name, or the package that declares it is broken.
    """
    declared = _declared()
    if name not in declared:
        raise ConfigurationError(f"There is no service {name!r}. There are: {', '.join(sorted(declared))}.")
    return _loaded(declared[name])


def provider_classes() -> list[type[Provider]]:
    """The classes of all services that are installed. A broken one is left out, with a warning."""
    usable = (_usable(name) for name in provider_names())
    return [found for found in usable if found is not None]


def _usable(name: str) -> type[Provider] | None:
    try:
        return provider_class(name)
    except ConfigurationError as problem:
        if name in BUILT_IN:
            raise
        warnings.warn(str(problem), UnusableProvider, stacklevel=3)
        return None


@cache
def _declared() -> Mapping[str, EntryPoint]:
    """Entry points by name. The name of ours, or of a package before it in the alphabet, is not free."""
    declared = {name: EntryPoint(name, value, GROUP) for name, value in BUILT_IN.items()}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, _package_of(entry))):
        taken = declared.setdefault(entry.name, entry)
        if taken is not entry:
            warnings.warn(
                f"The provider {entry.name!r} of {_package_of(entry)} is not used: "
                f"{_package_of(taken)} has one of this name.",
                UnusableProvider,
                stacklevel=3,
            )
    return MappingProxyType(declared)


@cache
def _loaded(entry: EntryPoint) -> type[Provider]:
    where = f"The provider {entry.name!r} of {_package_of(entry)} ({entry.value}) cannot be used"
    try:
        found = entry.load()
    except Exception as problem:  # a module of another package may raise anything
        raise ConfigurationError(f"{where}: {type(problem).__name__}: {problem}") from problem
    if not (isinstance(found, type) and issubclass(found, Provider)):
        raise ConfigurationError(f"{where}: it is not a subclass of Provider.")
    if getattr(found, "name", None) != entry.name:
        raise ConfigurationError(f"{where}: its class attribute `name` must be {entry.name!r}.")
    return found


def _package_of(entry: EntryPoint) -> str:
    return f"the package {entry.dist.name}" if entry.dist else "prefect-docjobs"
