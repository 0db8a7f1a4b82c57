"""The simulator without its extra."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = """
import sys
sys.modules["pdfplumber"] = None
from prefect_docjobs.cli import main
sys.exit(main(["simulate", "--port", "0"]))
"""


def test_without_pdfplumber_the_command_says_what_to_install() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == (
        "prefect-docjobs: The simulator needs pdfplumber: pip install 'prefect-docjobs[simulator]'.\n"
    )
    assert (ended.returncode, ended.stdout) == (2, "")
