"""The command line, `prefect-docjobs`. Prefect is imported by the commands that need it, when they run."""

from prefect_docjobs.cli.app import main

__all__ = ["main"]
