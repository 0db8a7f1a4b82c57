"""The sdist and the wheel: what they hold, and what they say about themselves."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from support.distributions import ROOT, Built

from prefect_docjobs import __version__

PACKAGE = ROOT / "prefect_docjobs"


def in_wheel(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as files:
        return {name: files.read(name) for name in files.namelist() if not name.endswith("/")}


def in_sdist(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as files:
        return {member.name.partition("/")[2] for member in files if member.isfile()}


@pytest.fixture(scope="module")
def metadata(built: Built) -> Message:
    (content,) = (text for name, text in in_wheel(built.wheel).items() if name.endswith("/METADATA"))
    return message_from_bytes(content)


def test_twine_has_nothing_to_say(built: Built) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", str(built.sdist), str(built.wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    held = {name for name in in_wheel(built.wheel) if ".dist-info/" not in name}
    there = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == there


@pytest.mark.parametrize(
    "needed",
    ["py.typed", "ledger/migrations/*.py", "ledger/migrations/versions/*.py", "simulator/samples/*.pdf"],
)
def test_the_wheel_has_what_is_no_module(needed: str, built: Built) -> None:
    files = {path.relative_to(ROOT).as_posix() for path in PACKAGE.glob(needed)}
    assert files
    assert files <= in_wheel(built.wheel).keys()


def test_the_sdist_has_what_a_packager_needs_and_nothing_that_was_built(built: Built) -> None:
    held = in_sdist(built.sdist)
    needed = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt", "Makefile"}
    assert needed <= held
    assert {name.partition("/")[0] for name in held if "/" in name} >= {
        "prefect_docjobs",
        "tests",
        "docs",
        "flows",
    }
    unwanted = ("__pycache__", ".pyc", ".venv", ".egg-info", "docjobs-out", "/results/")
    assert [name for name in held if any(word in f"/{name}" for word in unwanted)] == []


def test_the_wheel_from_the_sdist_is_the_wheel_from_the_checkout(built: Built, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, capture_output=True, check=True, timeout=500)
    (direct,) = tmp_path.glob("*.whl")
    assert direct.name == built.wheel.name
    assert in_wheel(direct) == in_wheel(built.wheel)


def test_there_is_one_version(built: Built, metadata: Message) -> None:
    assert metadata["Version"] == __version__
    assert {path.name for path in (built.sdist, built.wheel)} == {
        f"prefect_docjobs-{__version__}.tar.gz",
        f"prefect_docjobs-{__version__}-py3-none-any.whl",
    }
    places = [
        path
        for path in (ROOT / "pyproject.toml", *PACKAGE.rglob("*.py"))
        if f'"{__version__}"' in path.read_text()
    ]
    assert places == [PACKAGE / "__init__.py"]


def test_extras_licence_and_pythons_are_declared(metadata: Message) -> None:
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"etl", "s3", "delta", "simulator"} <= set(metadata.get_all("Provides-Extra", []))
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_the_readme_leads_out_of_a_package_index(metadata: Message) -> None:
    readme = metadata.get_payload()
    assert isinstance(readme, str)
    assert readme.startswith("# prefect-docjobs\n")
    targets = re.findall(r"\]\(([^)]*)\)", readme)
    assert "https://github.com/prefect-docjobs/prefect-docjobs/blob/main/docs/quickstart.md" in targets
    assert [target for target in targets if not target.startswith("https://")] == []
