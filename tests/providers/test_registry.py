"""Providers of other packages: found by their entry points, and named in a warning where they are broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.example_package import declare, install, printed_with

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.providers import provider_class, provider_names
from prefect_docjobs.providers.registry import BUILT_IN, GROUP

USE = """
import json, sys, warnings
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.providers import provider_class, provider_classes, provider_names

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    names, classes = provider_names(), [kind.name for kind in provider_classes()]
refused = {}
for name in names:
    try:
        provider_class(name)
    except ConfigurationError as problem:
        refused[name] = str(problem)
warned = [str(each.message) for each in caught]
print(json.dumps([names, classes, warned, refused, sorted({"prefect", "pytest"} & sys.modules.keys())]))
"""


def test_our_providers_are_there_without_any_other_package() -> None:
    assert provider_names() == list(BUILT_IN)
    assert [provider_class(name).name for name in BUILT_IN] == list(BUILT_IN)
    with pytest.raises(ConfigurationError, match="no service 'nobody'"):
        provider_class("nobody")


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_service_that_needs_a_key_is_not_connected_without_one(name: str) -> None:
    kind = provider_class(name)
    for key in (None, ""):
        with pytest.raises(ConfigurationError, match=f"{kind.title} needs an API key; .* {kind.env_key}"):
            kind.connect(api_key=key)
    assert kind.connect(api_key="some-key").base_url == kind.default_base_url


def test_a_package_adds_a_service_without_a_change_of_ours(tmp_path: Path) -> None:
    install(tmp_path)

    names, classes, warned, refused, heavy = json.loads(printed_with(tmp_path, "-c", USE))
    assert names == classes == ["acme", *BUILT_IN]
    assert (warned, refused, heavy) == ([], {}, [])

    shown = printed_with(tmp_path, "-m", "prefect_docjobs.cli", "providers", "--json")
    acme = json.loads(shown)[0]
    assert (acme["name"], acme["api_key_required"]) == ("acme", False)
    assert acme["base_url"] == "http://localhost:8090"


def test_a_broken_package_is_a_warning_that_names_it_and_costs_no_other(tmp_path: Path) -> None:
    install(tmp_path)
    declare(tmp_path, "no-module", {GROUP: {"absent": "nowhere:Absent"}})
    declare(tmp_path, "no-class", {GROUP: {"odd": "json:loads"}})
    declare(tmp_path, "other-name", {GROUP: {"renamed": "docjobs_acme.provider:Acme"}})
    declare(tmp_path, "taker", {GROUP: {"acme": "docjobs_acme.provider:Acme", "mindee": "json:loads"}})
    (tmp_path / "raises.py").write_text("raise RuntimeError('half installed')", "utf-8")
    declare(tmp_path, "no-import", {GROUP: {"raises": "raises:Raises"}})

    names, classes, warned, refused, _ = json.loads(printed_with(tmp_path, "-c", USE))

    assert names == sorted(["absent", "acme", "odd", "raises", "renamed", *BUILT_IN])
    assert classes == ["acme", *BUILT_IN]
    complaints = {
        "absent": "the package no-module (nowhere:Absent) cannot be used: ModuleNotFoundError",
        "odd": "the package no-class (json:loads) cannot be used: it is not a subclass of Provider",
        "raises": "the package no-import (raises:Raises) cannot be used: RuntimeError: half installed",
        "renamed": "the package other-name (docjobs_acme.provider:Acme) cannot be used: its class attribute",
    }
    assert refused.keys() == complaints.keys()
    for name, complaint in complaints.items():
        assert complaint in refused[name]
        assert refused[name] in warned
    assert "'acme' of the package taker is not used: the package docjobs-acme has one" in " ".join(warned)
    assert "'mindee' of the package taker is not used: prefect-docjobs has one" in " ".join(warned)
    assert len(warned) == len(complaints) + 2

    shown = printed_with(tmp_path, "-m", "prefect_docjobs.cli", "providers")
    assert "no-module" in shown
    assert "unsiloed" in shown
