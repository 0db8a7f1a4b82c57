"""The demo: documents through all four services, simulated, in a real Prefect flow. No key, no set-up.

Three processes: this one simulates the services and talks to the user, one is a Prefect server, one runs
the flow. The other two have an environment of their own, and end with this one.
"""

from prefect_docjobs.cli.demo.run import run_demo

__all__ = ["run_demo"]
