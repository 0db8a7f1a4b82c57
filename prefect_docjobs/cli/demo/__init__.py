"""`prefect-docjobs demo`: documents through all services, simulated, in a real Prefect flow, without a key.

Three processes: this one simulates the services and shows what happens, one is a Prefect server, one runs
the flow. The other two have an environment of their own, and end with this one.
"""

from __future__ import annotations

from pathlib import Path

from prefect_docjobs.cli.console import Flag


def demo(
    *,
    folder: Path | None = None,
    output: Path | None = None,
    keep_server: Flag = False,
    json: Flag = False,
) -> None:
    """Run documents through all four services, simulated, in a real Prefect flow. Needs no key.

    Args:
        folder: Your own documents; by default the samples that come with the package.
        output: Folder for results.jsonl; by default ./docjobs-out.
        keep_server: Keep the Prefect server until Ctrl-C, to look at the run in its UI.
        json: A line of JSON for each outcome as it ends, instead of a table.
    """
    from prefect_docjobs.cli.demo.run import run_demo

    run_demo(folder, output, keep_server=keep_server, as_json=json)
