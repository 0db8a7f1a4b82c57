"""The example package, installed into a folder as an installer does: its modules beside its metadata."""

from __future__ import annotations

import configparser
import os
import shutil
from pathlib import Path

from support.pages import ROOT
from support.processes import printed_by

EXAMPLE = ROOT / "tests" / "example_package"


def install(target: Path) -> Path:
    """Put the package into a folder; returns the folder."""
    toml = configparser.ConfigParser()  # which reads as much of it as is needed here, also on Python 3.10
    toml.read(EXAMPLE / "pyproject.toml", "utf-8")
    entry_points = {
        section.split('"')[1]: {name: value.strip('"') for name, value in toml[section].items()}
        for section in toml.sections()
        if section.startswith("project.entry-points.")
    }
    shutil.copytree(
        EXAMPLE / "docjobs_acme", target / "docjobs_acme", ignore=shutil.ignore_patterns("__pycache__")
    )
    declare(target, "docjobs-acme", entry_points)
    return target


def declare(target: Path, package: str, entry_points: dict[str, dict[str, str]]) -> None:
    """Write the metadata of a package with these entry points, by group and name."""
    info = target / f"{package.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1.0\n"
    (info / "METADATA").write_text(metadata, "utf-8")
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())
        for group, lines in entry_points.items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups), "utf-8")


def printed_with(target: Path, *command: str, **environment: str) -> str:
    """What a Python process prints that finds the packages of this folder, besides ours."""
    path = os.pathsep.join([str(target), str(ROOT)])
    return printed_by(*command, cwd=ROOT, PYTHONPATH=path, PREFECT_DOCJOBS_LEDGER="", **environment)
