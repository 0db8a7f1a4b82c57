"""The package's public names, and what importing them costs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import prefect_docjobs
from prefect_docjobs.providers.registry import BUILT_IN

WITHOUT_PREFECT = [
    "prefect_docjobs",
    *(
        f"prefect_docjobs.{room}"
        for room in ("errors", "models", "http", "providers", "waiting", "extraction")
    ),
    *(f"prefect_docjobs.providers.{name}" for name in BUILT_IN),
]
NOUNS = ("Batch", "Document", "Field", "JobRef", "JobState", "JobStatus", "Outcome", "Result")

# Processor time: what else the machine does is not counted.
_PROBE = """
import json, sys, time
start = time.process_time()
{statement}
print(json.dumps([time.process_time() - start, "prefect" in sys.modules]))
"""


def _imported(statement: str, bytecode: Path) -> tuple[float, bool]:
    """Seconds that a statement takes in a new process, the best of three, and whether it imports Prefect.

    The first one compiles into `bytecode`, whatever the environment says about writing it.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    told = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", _PROBE.format(statement=statement)],
                env={**environment, "PYTHONPYCACHEPREFIX": str(bytecode)},
                capture_output=True,
                check=True,
                timeout=60,
            ).stdout
        )
        for _ in range(3)
    ]
    return min(seconds for seconds, _ in told), any(prefect for _, prefect in told)


def test_the_half_without_prefect_is_imported_in_half_a_second(tmp_path: Path) -> None:
    seconds, prefect = _imported("\n".join(f"import {module}" for module in WITHOUT_PREFECT), tmp_path)
    assert not prefect
    assert seconds <= 0.5


@pytest.mark.parametrize("modules", [WITHOUT_PREFECT, ["prefect_docjobs.tasks"]], ids=["lower half", "tasks"])
def test_the_database_is_imported_when_a_ledger_is_opened(modules: list[str]) -> None:
    imports = "; ".join(f"import {module}" for module in modules)
    code = f"{imports}; import sys; sys.exit('sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_a_noun_of_the_package_does_not_import_prefect(tmp_path: Path) -> None:
    seconds, prefect = _imported(f"from prefect_docjobs import {', '.join(NOUNS)}", tmp_path)
    assert not prefect
    assert seconds <= 0.5


def test_a_block_of_the_package_imports_prefect(tmp_path: Path) -> None:
    """What the two tests above look for can be seen."""
    assert _imported("from prefect_docjobs import MindeeJob", tmp_path)[1]


@pytest.mark.parametrize("name", prefect_docjobs.__all__)
def test_every_public_name_is_there_and_is_listed(name: str) -> None:
    homes = [import_module(f"prefect_docjobs.{home}") for home in ("models", "blocks", "tasks")]
    found = next(getattr(home, name) for home in homes if hasattr(home, name))
    assert found is getattr(prefect_docjobs, name)
    assert name in dir(prefect_docjobs)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'extract'"):
        _ = prefect_docjobs.extract  # type: ignore[attr-defined]


def test_every_task_is_there_twice() -> None:
    plain = [
        name for name in prefect_docjobs.__all__ if hasattr(getattr(prefect_docjobs, name), "task_run_name")
    ]
    twins = {name for name in plain if getattr(prefect_docjobs, name).isasync}
    assert {name.removeprefix("a") for name in twins} == set(plain) - twins
    assert len(twins) == 10


def _imports(path: Path, modules: set[str]) -> set[str]:
    """The modules of ours that a file imports as it is imported, those for type checkers included."""
    found = set[str]()
    outside: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while outside:
        node = outside.pop()
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in modules else node.module for name in names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif not isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef)
        ):  # what they import is imported later
            outside.extend(ast.iter_child_nodes(node))
    return found & modules


def test_no_file_imports_itself_through_others() -> None:
    folder = Path(prefect_docjobs.__file__).parent
    files = {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in folder.rglob("*.py")
    }
    graph = {module: _imports(path, set(files)) - {module} for module, path in files.items()}
    assert sum(map(len, graph.values())) > 500
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
