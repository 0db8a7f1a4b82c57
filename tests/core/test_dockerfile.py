"""The Dockerfile of workers, as far as that can be told without an engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import yaml

ROOT = Path(__file__).parents[2]
_JOINED = re.compile(r"\\\n\s*")


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, in order; comments left out."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = _JOINED.sub("", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def arguments(name: str) -> list[str]:
    """What an instruction is given, each time that it stands there."""
    return [rest for word, rest in instructions() if word == name]


def copied() -> Iterator[str]:
    """The paths of the project that get into the image."""
    for rest in arguments("COPY"):
        if "--from=" not in rest:
            yield from rest.split()[:-1]


def is_ignored(path: str) -> bool:
    """Whether `.dockerignore` keeps a path out: the last pattern that fits it or a folder above it counts."""
    ignored = False
    above = [path, *map(str, PurePosixPath(path).parents)]
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            kept = pattern.startswith("!")
            bare = pattern.removeprefix("!").removeprefix("**/")
            if any(fnmatch(each, bare) or fnmatch(PurePosixPath(each).name, bare) for each in above):
                ignored = not kept
    return ignored


def test_what_is_copied_is_there_and_reaches_the_build() -> None:
    paths = list(copied())
    assert {"constraints.txt", "pyproject.toml", "prefect_docjobs"} <= set(paths)
    assert [path for path in paths if not (ROOT / path).exists() or is_ignored(path)] == []


def test_what_the_wheel_is_built_from_is_copied() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    (readme,) = re.findall(r'^fragments = \[\{ path = "(.+)" \}\]', project, re.MULTILINE)
    (licence,) = re.findall(r'^license-files = \["(.+)"\]', project, re.MULTILINE)
    assert {readme, licence} <= set(copied())


def test_nothing_else_of_a_working_copy_gets_near_the_image() -> None:
    for path in (
        ".git",
        ".env",
        "tests",
        "docs",
        ".venv",
        "docjobs-out",
        "prefect_docjobs/__pycache__/x.pyc",
    ):
        assert is_ignored(path), path


def test_the_image_is_a_slim_python_that_the_package_supports_in_two_stages() -> None:
    assert [image.split()[0] for image in arguments("FROM")] == ["python:3.12-slim"] * 2
    assert "Programming Language :: Python :: 3.12" in (ROOT / "pyproject.toml").read_text("utf-8")


def test_versions_are_those_of_the_constraints_and_extras_exist() -> None:
    (install,) = [rest for rest in arguments("RUN") if "pip install" in rest]
    assert "--constraint constraints.txt" in install
    (extras,) = [rest.partition("=")[2] for rest in arguments("ARG")]
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_the_worker_is_not_root_and_no_secret_is_baked_in() -> None:
    words = [word for word, _ in instructions()]
    assert words.index("USER") < words.index("CMD")
    assert arguments("USER") == ["docjobs"]
    assert not re.search(
        r"(?i)(key|token|secret|password)\s*=", "\n".join(arguments("ENV") + arguments("ARG"))
    )


def test_the_command_works_for_the_pool_of_the_deployments_and_tells_its_health() -> None:
    (command,) = [json.loads(rest) for rest in arguments("CMD")]  # a list: signals reach the worker itself
    assert command[:3] == ["prefect", "worker", "start"]
    pools = {
        each["work_pool"]["name"]
        for each in yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    }
    assert pools == {command[command.index("--pool") + 1]}
    assert "--with-healthcheck" in command
    (health,) = arguments("HEALTHCHECK")
    port = re.findall(r"PREFECT_WORKER_WEBSERVER_PORT=(\d+)", " ".join(arguments("ENV")))[0]
    assert f"http://127.0.0.1:{port}/health" in health
    assert json.loads(health[health.index("[") :])[0] == "python"
