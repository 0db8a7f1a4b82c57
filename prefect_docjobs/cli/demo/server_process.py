"""`prefect server start` as a companion: `python -m prefect_docjobs.cli.demo.server_process HOST PORT`."""

from __future__ import annotations

import os
import runpy
import sys

from prefect_docjobs.cli.demo.companions import lines_from_parent


def main(host: str, port: str) -> None:
    """Serve until told to stop, or until the parent is gone."""
    lines_from_parent()
    os.dup2(2, 1)  # nobody reads the welcome
    sys.argv = ["prefect", "server", "start", "--host", host, "--port", port]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
