"""What would be published, built once, and an environment that has nothing but the wheel."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.distributions import ROOT, Built, Installed, run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder: they download, and all together they are one process's."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.packaging)
            item.add_marker(pytest.mark.xdist_group("packaging"))
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, and the wheel from it, each built in an environment of its own."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT))
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment that was empty, with the wheel and the versions that the project is tested with."""
    folder = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "uv", "venv", "--python", sys.executable, str(folder / "venv"))
    scripts = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    install = (
        "pip",
        "install",
        "--python",
        str(scripts / "python"),
        "--constraint",
        str(ROOT / "constraints.txt"),
    )
    run(sys.executable, "-m", "uv", *install, f"{built.wheel}[simulator]")
    (folder / "home").mkdir()
    return Installed(scripts, folder / "home")
